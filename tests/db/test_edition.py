"""The edition of TimescaleDB."""

from app.db.edition import describe_edition, detect_edition
from app.db.pool import Connection
from tests.conftest import Database


async def test_edition_is_community_when_the_server_has_continuous_aggregates(database: Database) -> None:
    async with database.pool.acquire() as connection:
        edition = await detect_edition(connection)
        assert edition == ("community" if await _has_continuous_aggregates(connection) else "apache-2")
    assert describe_edition("community") == "continuous aggregates, columnstore and policies are on"
    assert describe_edition("apache-2") == (
        "rolled-up tables kept by the lease holder; the same answers, no columnstore"
    )


async def _has_continuous_aggregates(connection: Connection) -> bool:
    """Return whether the migration made continuous aggregates, which only the Community edition has."""
    count = await connection.fetchval("SELECT count(*) FROM timescaledb_information.continuous_aggregates")
    return bool(count)
