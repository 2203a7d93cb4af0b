"""The aggregates `reading_1m`, `_1h` and `_1d`: the same names and answers on both editions.

The aggregates are not a numbered migration. `ensure_aggregates` compares the existing aggregates with those that the
running edition needs and rebuilds them when they differ, so that a database can move from one edition to the other.
"""

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import structlog

from app.clock import DAY_US
from app.db.edition import Edition, detect_edition
from app.db.pool import Connection
from app.db.sql import SQL
from app.errors import AppError
from app.model import ReportProgress

#: Raw readings and minute buckets are kept this long, hour and day buckets for ever.
RAW_RETENTION = timedelta(days=400)
MINUTE_RETENTION = timedelta(days=800)
#: Older readings are rejected: within a day of the end of retention their chunk may be dropped at any moment.
OLDEST_ACCEPTED_US = (RAW_RETENTION.days - 1) * DAY_US

#: Refreshes all buckets in one transaction. By default TimescaleDB 2.28 and later refresh ten buckets at a time, which
#: takes fifteen times as long and skips buckets before the fix of
#: https://github.com/timescale/timescaledb/issues/10221.
_ALL_BUCKETS_AT_ONCE = """, options => '{"buckets_per_batch": 0}'"""

log = structlog.get_logger()


class AggregateLevel:
    """One aggregate: its relation, the width of its buckets, and the length of its newest part that stays real-time."""

    def __init__(self, relation: str, bucket: timedelta, real_time: timedelta) -> None:
        self.relation = relation
        self.bucket = bucket
        self.real_time = real_time

    def refreshable_until(self, now: datetime) -> datetime:
        """Return the latest bucket edge that a refresh may reach; a later one would hide fresh readings."""
        edge = now - self.real_time
        return edge - (edge - datetime(1970, 1, 1, tzinfo=UTC)) % self.bucket


LEVELS = (
    AggregateLevel("reading_1m", timedelta(minutes=1), timedelta(minutes=2)),
    AggregateLevel("reading_1h", timedelta(hours=1), timedelta(hours=2)),
    AggregateLevel("reading_1d", timedelta(days=1), timedelta(days=2)),
)


class CompressedReadingsError(AppError):
    """Chunks in the columnstore cannot be read by the Apache-2 edition."""

    code = "compressed_readings"
    title = "The Apache-2 edition cannot read the columnstore"


async def ensure_aggregates(connection: Connection, progress: ReportProgress = lambda done, total: None) -> bool:
    """Build the aggregates that the edition needs and return whether they were rebuilt; safe to interrupt and repeat.

    `connection` must not be in a transaction, because a refresh cannot run in one. `progress` is called with the
    number of days refreshed so far and in total. Raises CompressedReadingsError.
    """
    edition = await detect_edition(connection)
    wanted = _fingerprint(edition)
    if await connection.fetchval(SQL["get_aggregates_fingerprint"]) == wanted:
        return False
    if edition == "apache-2" and await connection.fetchval(SQL["count_compressed_chunks"]):
        raise CompressedReadingsError(
            "Some chunks of reading are in the columnstore. Run this database on TimescaleDB Community once more and "
            "call convert_to_rowstore for each chunk, then come back."
        )
    await _create(connection, edition)
    if edition == "community":
        await _fill(connection, progress)
        await connection.execute(_script("community_policies"))
    await connection.execute(f"COMMENT ON VIEW reading_1d IS '{wanted}'")
    log.info("aggregates_built", edition=edition)
    return True


async def refresh_late_days(connection: Connection, now: datetime) -> int:
    """Refresh the days with late readings in all levels and return the number of days.

    The rows of late_day are deleted after the refresh, so that an interrupted refresh is repeated. A day whose raw
    readings may have been dropped by retention is left out, because a refresh would delete its aggregates.
    """
    rows = await connection.fetch(SQL["list_late_days"])
    oldest = (now - RAW_RETENTION).date() + timedelta(days=1)
    days = sorted({row["day"] for row in rows if row["day"] >= oldest})
    for day in days:
        await refresh_day(connection, day, now)
    if rows:
        await connection.execute(SQL["delete_late_days"], [row["id"] for row in rows])
    return len(days)


async def refresh_day(connection: Connection, day: date, now: datetime) -> None:
    """Refresh one UTC day in every level, except the part that must stay real-time."""
    start = datetime.combine(day, time(), tzinfo=UTC)
    options = _ALL_BUCKETS_AT_ONCE if await connection.fetchval(SQL["has_refresh_options"]) else ""
    for level in LEVELS:
        end = min(start + timedelta(days=1), level.refreshable_until(now))
        if start + level.bucket <= end:
            window = f"'{start.isoformat()}', '{end.isoformat()}'"
            await connection.execute(f"CALL refresh_continuous_aggregate('{level.relation}', {window}{options})")


async def drop_old_chunks(connection: Connection) -> int:
    """Drop chunks of raw readings older than RAW_RETENTION and return their number; Community has a policy for that."""
    return len(await connection.fetch(SQL["drop_old_chunks"], RAW_RETENTION))


async def _create(connection: Connection, edition: Edition) -> None:
    async with connection.transaction():
        for relation in reversed([level.relation for level in LEVELS]):
            kind = await connection.fetchval(SQL["get_view_kind"], relation)
            if kind is not None:
                await connection.execute(f"DROP {kind} {relation}")
        await connection.execute(_script("community" if edition == "community" else "apache"))
        await connection.execute(_script("grants"))


async def _fill(connection: Connection, progress: ReportProgress) -> None:
    """Refresh the aggregates day by day, oldest day first, so that each transaction stays small."""
    row = await connection.fetchrow(SQL["get_oldest_reading"])
    if row is None or row["oldest"] is None:
        return
    oldest, now = row["oldest"], row["now"]
    days = (now.date() - oldest.date()).days + 1
    for done in range(days):
        await refresh_day(connection, oldest.date() + timedelta(days=done), now)
        progress(done + 1, days)


def _script(name: str) -> str:
    return Path(__file__).with_name(f"aggregates_{name}.sql").read_text(encoding="utf-8")


def _fingerprint(edition: Edition) -> str:
    names = ("community", "community_policies") if edition == "community" else ("apache",)
    digest = hashlib.sha256("".join(map(_script, (*names, "grants"))).encode()).hexdigest()
    return f"{edition} {digest[:16]}"
