"""Days that late readings touched: behind the watermark they are invisible until their day is refreshed."""

from datetime import date, datetime

from app.db.aggregates.continuous import refresh_continuous_day
from app.db.aggregates.levels import first_safe_day
from app.db.aggregates.roll_up import rewrite_day
from app.db.aggregates.sql import SQL
from app.db.edition import detect_edition
from app.db.pool import Connection


async def refresh_late_days(connection: Connection, now: datetime) -> int:
    """Refresh the days that late readings touched, through all levels; return how many days it took.

    The rows go only after the refresh, so an interrupted one is repeated. A day whose raw readings retention may have
    dropped is left as it is: a refresh would delete its aggregates.
    """
    rows = await connection.fetch(SQL["list_late_days"])
    days = sorted({row["day"] for row in rows if row["day"] >= first_safe_day(now)})
    for day in days:
        await refresh_day(connection, day, now)
    if rows:
        await connection.execute(SQL["delete_late_days"], [row["id"] for row in rows])
    return len(days)


async def refresh_day(connection: Connection, day: date, now: datetime) -> None:
    """Bring one UTC day of every level up to date, leaving out what is past the watermark and must stay real-time.

    All raw readings of the day must still be stored.
    """
    if await detect_edition(connection) == "community":
        await refresh_continuous_day(connection, day, now)
    else:
        await rewrite_day(connection, day)
