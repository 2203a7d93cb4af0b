"""The rolled-up tables of the Apache-2 edition: moving the watermark, rewriting days, retention.

`rolled_1m`, `rolled_1h` and `rolled_1d` hold all readings before the watermark `rolled_to`; the views `reading_1m`,
`_1h` and `_1d` add what is past it. The watermark moves in two steps, so that a flush that is under way meanwhile
does not lose readings behind it for ever:

1. `late_before` is moved and committed. From then on flushes note the days of readings before it as late.
2. Once every transaction that began earlier is over, all readings before `late_before` are stored or will be noted.
   They are aggregated, and `rolled_to` moves, in one transaction.

Each transaction that changes a table holds the lock of the row of `aggregate_watermark`.
"""

import asyncio
from datetime import date, datetime, timedelta
from time import monotonic

import asyncpg
import structlog

from app.db.aggregates.levels import (
    LEVELS,
    MINUTE_RETENTION,
    RAW_RETENTION,
    STATEMENT_TIMEOUT_S,
    floor_time,
    start_of,
)
from app.db.aggregates.sql import ROLL_UP, SQL, read_script
from app.db.pool import Connection
from app.model import ReportProgress

#: Length of the newest part that is computed from raw readings: readings that arrive within this time need no roll-up
#: of their day again.
REAL_TIME = timedelta(minutes=10)
#: How long a roll-up waits for transactions that began before it, in seconds.
WAIT_S = 20.0
_POLL_S = 0.05
_DAY = timedelta(days=1)
_REWRITE = dict(zip(LEVELS, ("rewrite_minutes", "rewrite_hours", "rewrite_days"), strict=True))
#: A query that runs on a view keeps it from being replaced; readers wait behind the attempt.
_REPLACE_VIEWS_WITHIN = "100ms"

log = structlog.get_logger()


async def roll_up(
    connection: Connection, *, wait_s: float = WAIT_S, progress: ReportProgress = lambda done, total: None
) -> bool:
    """Move the watermark up to ten minutes ago, a day a transaction; return whether it got there.

    It does not when an earlier transaction stays open for `wait_s`: the next call tries again, and the views compute
    what is missing. `progress` is called with days done and in all. `connection` must not be in a transaction.
    """
    (announced,) = await connection.fetch(ROLL_UP["announce_watermark"], REAL_TIME)
    if announced["is_reached"]:
        return True
    if not await wait_for_earlier_transactions(connection, wait_s):
        log.warning("roll_up_postponed", reason="a transaction that began before it is still open")
        return False
    done = 0
    while (reached := await _roll_up_one_day(connection, announced)) is not None:
        done += 1
        progress(done, done - (reached - announced["late_before"]) // _DAY)
    return True


async def wait_for_earlier_transactions(connection: Connection, wait_s: float) -> bool:
    """Wait until every transaction that may have written before this call is over; return False after `wait_s`.

    A flush writes, and so has its number, before it asks what is late.
    """
    deadline = monotonic() + wait_s
    number = await connection.fetchval(SQL["get_transaction_number"])
    while not await connection.fetchval(SQL["are_earlier_transactions_over"], number):
        if monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def rewrite_day(connection: Connection, day: date) -> None:
    """Aggregate one UTC day anew, as far as it is behind the watermark, in one transaction."""
    async with connection.transaction(isolation="read_committed"):
        watermark = await _lock_watermark(connection)
        if watermark["rolled_to"] is not None:
            await _rewrite(connection, start_of(day), min(start_of(day) + _DAY, watermark["rolled_to"]))


async def drop_old_chunks(connection: Connection) -> int:
    """Drop chunks of raw readings and of minutes past retention; return how many."""
    readings = await connection.fetch(ROLL_UP["drop_old_readings"], RAW_RETENTION)
    minutes = await connection.fetch(ROLL_UP["drop_old_minutes"], MINUTE_RETENTION)
    return len(readings) + len(minutes)


async def create_views(connection: Connection, floor: datetime | None) -> None:
    """Create or replace the views; `floor` is the start of a day at or before the watermark, None without one."""
    text = "-infinity" if floor is None else floor.isoformat()
    await connection.execute(read_script("apache_views").replace("{floor}", text))


async def _roll_up_one_day(connection: Connection, announced: asyncpg.Record) -> datetime | None:
    """Move the watermark to the next midnight or to the end; return where it is, or None when it was there already."""
    async with connection.transaction(isolation="read_committed"):
        watermark = await _lock_watermark(connection)
        # Another table with the same name: the aggregates were rebuilt meanwhile, and the announcement is void.
        if watermark["tableoid"] != announced["tableoid"]:
            return None
        end: datetime = announced["late_before"]
        start: datetime | None = watermark["rolled_to"]
        if start is None:
            start = await connection.fetchval(ROLL_UP["find_oldest_day"], end, timeout=STATEMENT_TIMEOUT_S)
            start = end - timedelta(minutes=1) if start is None else start
        if start >= end:
            return None
        reached = min(end, floor_time(start, _DAY) + _DAY)
        await _rewrite(connection, start, reached)
        await connection.execute(ROLL_UP["move_watermark"], reached)
        if reached == end:
            await _renew_floor(connection, watermark["view_floor"], floor_time(end, _DAY))
    return reached


async def _lock_watermark(connection: Connection) -> asyncpg.Record:
    (row,) = await connection.fetch(ROLL_UP["lock_watermark"], timeout=STATEMENT_TIMEOUT_S)
    return row


async def _rewrite(connection: Connection, start: datetime, end: datetime) -> None:
    """Aggregate [start, end) anew, on each level as far as whole buckets go; each reads the level below."""
    for level in LEVELS:
        window = floor_time(start, level.bucket), floor_time(end, level.bucket)
        if window[0] < window[1]:
            await connection.execute(ROLL_UP[_REWRITE[level]], *window, timeout=STATEMENT_TIMEOUT_S)


async def _renew_floor(connection: Connection, old: datetime | None, new: datetime) -> None:
    """Put a new literal into the views once a day; while a long query keeps them busy, the old one stays right."""
    if old is not None and new <= old:
        return
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_REPLACE_VIEWS_WITHIN}'")
            await create_views(connection, new)
            await connection.execute(ROLL_UP["set_view_floor"], new)
    except asyncpg.LockNotAvailableError:
        log.info("view_floor_kept", floor=str(old))
