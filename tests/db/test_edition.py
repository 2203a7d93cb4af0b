"""Which TimescaleDB this is."""

from app.db.edition import describe_edition, detect_edition
from app.db.pool import Connection
from tests.conftest import Database


async def test_edition_is_what_the_server_can_do_when_asked(database: Database) -> None:
    async with database.pool.acquire() as connection:
        edition = await detect_edition(connection)
        assert edition == ("community" if await _has_continuous_aggregates(connection) else "apache-2")
    assert describe_edition("community") == "continuous aggregates, columnstore and policies are on"
    assert describe_edition("apache-2") == (
        "rolled-up tables kept by the lease holder; the same answers, no columnstore"
    )


async def _has_continuous_aggregates(connection: Connection) -> bool:
    """Look at what the migration made, which only one edition can."""
    count = await connection.fetchval("SELECT count(*) FROM timescaledb_information.continuous_aggregates")
    return bool(count)
