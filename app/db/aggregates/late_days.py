"""Days that late readings touched: behind the watermark they are invisible until their day is refreshed."""

from datetime import date, datetime, timedelta

import structlog

from app.db.aggregates.continuous import can_force_refreshes, refresh_continuous_day
from app.db.aggregates.levels import MINUTE_RETENTION, STATEMENT_TIMEOUT_S, first_safe_day, start_of
from app.db.aggregates.retention import find_raw_retention
from app.db.aggregates.roll_up import rewrite_day
from app.db.aggregates.sql import SQL
from app.db.edition import detect_edition
from app.db.pool import Connection

log = structlog.get_logger()


async def refresh_late_days(connection: Connection, now: datetime) -> int:
    """Refresh the days that late readings touched, through all levels; return how many days it took.

    The rows go only after the refresh, so an interrupted one is repeated. A day whose raw readings retention may have
    dropped, or has dropped before it was made longer, is left as it is: a refresh would delete its aggregates.
    """
    rows = await connection.fetch(SQL["list_late_days"])
    if not rows:
        return 0
    first = first_safe_day(now, await find_raw_retention(connection))
    days = [day for day in sorted({row["day"] for row in rows}) if day >= first]
    days = [day for day in days if await _is_complete(connection, day, now)]
    for day in days:
        await refresh_day(connection, day, now)
    await connection.execute(SQL["delete_late_days"], [row["id"] for row in rows])
    return len(days)


async def _is_complete(connection: Connection, day: date, now: datetime) -> bool:
    """Return whether all raw readings of a day are stored, as far as the aggregates know, and can be aggregated anew.

    Readings that were dropped before an operator lengthened retention are missing, until all of them are imported.
    """
    if day >= first_safe_day(now):
        return True
    window = start_of(day), start_of(day) + timedelta(days=1)
    if await connection.fetchval(SQL["has_gone_readings"], *window, timeout=STATEMENT_TIMEOUT_S):
        reason = "readings of it were dropped before retention was longer"
    elif day < first_safe_day(now, MINUTE_RETENTION) and not await can_force_refreshes(connection):
        reason = "this version of TimescaleDB cannot refresh a whole day"
    else:
        return True
    log.warning("late_day_kept", day=day.isoformat(), reason=reason)
    return False


async def refresh_day(connection: Connection, day: date, now: datetime) -> None:
    """Bring one UTC day of every level up to date, leaving out what is past the watermark and must stay real-time.

    All raw readings of the day must still be stored.
    """
    if await detect_edition(connection) == "community":
        await refresh_continuous_day(connection, day, now)
    else:
        await rewrite_day(connection, day)
