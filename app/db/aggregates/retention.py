"""Retention of raw readings on a database: on Community the operator decides, by the policy of `reading`."""

from datetime import timedelta

from app.db.aggregates.levels import RAW_RETENTION
from app.db.aggregates.sql import SQL
from app.db.edition import detect_edition
from app.db.pool import Connection


async def find_raw_retention(connection: Connection) -> timedelta | None:
    """Return how long raw readings are kept, None for ever.

    On Community by the retention policy in force: one that was removed or switched off drops nothing. On Apache-2 the
    lease holder drops what is older than RAW_RETENTION.
    """
    if await detect_edition(connection) == "apache-2":
        return RAW_RETENTION
    kept: timedelta | None = await connection.fetchval(SQL["get_raw_retention"])
    return kept
