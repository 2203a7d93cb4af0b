"""The editions of TimescaleDB: Community has continuous aggregates, Apache-2 does not."""

from typing import Literal, assert_never

from app.db.pool import Connection

Edition = Literal["community", "apache-2"]


async def detect_edition(connection: Connection) -> Edition:
    """Return the edition of the server; raise asyncpg.UndefinedObjectError when TimescaleDB is not loaded."""
    licence = await connection.fetchval("SHOW timescaledb.license")
    return "community" if licence == "timescale" else "apache-2"


def describe_edition(edition: Edition) -> str:
    """Return one sentence about what the edition means for the operator."""
    match edition:
        case "community":
            return "continuous aggregates, columnstore and policies are on"
        case "apache-2":
            return "rolled-up tables kept by the lease holder; the same answers, no columnstore"
    assert_never(edition)
