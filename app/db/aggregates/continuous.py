"""Refreshing the continuous aggregates of the Community edition."""

from datetime import date, datetime, timedelta

from app.db.aggregates.levels import (
    LEVELS,
    MINUTE_RETENTION,
    STATEMENT_TIMEOUT_S,
    AggregateLevel,
    floor_time,
    start_of,
)
from app.db.aggregates.sql import SQL
from app.db.pool import Connection

#: All in one transaction. From 2.28 on TimescaleDB would take ten buckets at a time, which takes fifteen times as long
#: and, before the fix of https://github.com/timescale/timescaledb/issues/10221, leaves buckets out.
_IN_ONE_GO = """, options => '{"buckets_per_batch": 0}'"""


async def refresh_continuous_day(connection: Connection, day: date, now: datetime) -> None:
    """Refresh one UTC day of every level.

    Each goes at least up to its own watermark, behind which readings are not computed when a query runs, and up to that
    of each level above it: a level learns of a reading only when the one below stores it. A day whose minutes retention
    may have dropped is refreshed as a whole: from the few minutes that are new, its hours would be computed wrong.
    """
    is_old = start_of(day) < now - MINUTE_RETENTION
    reach: list[datetime] = []
    for level in reversed(LEVELS):
        watermark: datetime | None = await connection.fetchval(SQL["get_continuous_watermark"], level.relation)
        reach.append(max([level.refreshable_until(now), *reach[-1:], *([watermark] if watermark else [])]))
    for level, until in zip(LEVELS, reversed(reach), strict=True):
        await refresh_level(connection, level, day, until, force=is_old)


async def can_force_refreshes(connection: Connection) -> bool:
    """Return whether this version of TimescaleDB can refresh a whole day, not only what is new in it."""
    able: bool = await connection.fetchval(SQL["has_refresh_options"])
    return able


async def refresh_level(
    connection: Connection, level: AggregateLevel, day: date, until: datetime, *, force: bool = False
) -> None:
    """Refresh the whole buckets of one UTC day of one level, as far as `until`; with `force` also what is not new."""
    start = start_of(day)
    end = min(start + timedelta(days=1), floor_time(until, level.bucket))
    if start + level.bucket <= end:
        options = _IN_ONE_GO if await can_force_refreshes(connection) else ""
        if force and options:
            options = f", force => TRUE{options}"
        window = f"'{start.isoformat()}', '{end.isoformat()}'"
        await connection.execute(
            f"CALL refresh_continuous_aggregate('{level.relation}', {window}{options})", timeout=STATEMENT_TIMEOUT_S
        )
