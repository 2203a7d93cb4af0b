"""Which TimescaleDB this is: Community has continuous aggregates, Apache-2 does not."""

from typing import Literal, assert_never

from app.db.pool import Connection

Edition = Literal["community", "apache-2"]


async def detect_edition(connection: Connection) -> Edition:
    """Ask the server for its licence; raise asyncpg.UndefinedObjectError where TimescaleDB is not loaded."""
    licence = await connection.fetchval("SHOW timescaledb.license")
    return "community" if licence == "timescale" else "apache-2"


def describe_edition(edition: Edition) -> str:
    """Say in one sentence what the edition means for whoever runs it."""
    match edition:
        case "community":
            return "continuous aggregates, columnstore and policies are on"
        case "apache-2":
            return "rolled-up tables kept by the lease holder; the same answers, no columnstore"
    assert_never(edition)
