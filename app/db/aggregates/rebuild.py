"""Rebuilding of aggregates that do not fit the edition or this version of the program."""

import hashlib
from datetime import datetime, timedelta

import structlog

from app.db.aggregates.continuous import refresh_continuous_day
from app.db.aggregates.levels import LEVELS, STATEMENT_TIMEOUT_S, AggregateLevel, first_safe_day, start_of
from app.db.aggregates.roll_up import create_views, roll_up, wait_for_earlier_transactions
from app.db.aggregates.sql import REBUILD, ROLL_UP, SQL, read_script
from app.db.edition import Edition, detect_edition
from app.db.pool import Connection
from app.db.rights import grant_rows
from app.errors import AppError
from app.model import ReportProgress

#: How long a rebuild waits for transactions that began before it, in seconds.
WAIT_S = 60.0
_SCRIPTS: dict[Edition, tuple[str, ...]] = {
    "community": ("community", "community_late_before", "community_policies", "common"),
    "apache-2": ("apache_tables", "apache_late_before", "apache_views", "common"),
}
_LATE_BEFORE: dict[Edition, str] = {"community": "community_late_before", "apache-2": "apache_late_before"}
#: Fingerprints of aggregates that differ only in `late_before`, which is replaced alone: the earlier to the later.
_EQUAL_FINGERPRINTS = {
    "community d18d0463a43c5814": "community cf2f4249e3eaefb2",
    "apache-2 d803905b84ceef7e": "apache-2 3c01dbf765c54530",
}
#: The table of each level.
StoredAggregates = dict[AggregateLevel, str | None]
log = structlog.get_logger()


class CompressedReadingsError(AppError):
    """Chunks in the columnstore cannot be read by the Apache-2 edition."""

    code = "compressed_readings"
    title = "The Apache-2 edition cannot read the columnstore"


class BusyDatabaseError(AppError):
    """Another transaction has been open for too long."""

    code = "busy_database"
    title = "A transaction stays open"


async def ensure_aggregates(connection: Connection, progress: ReportProgress = lambda done, total: None) -> bool:
    """Make the aggregates fit the edition and return whether they were rebuilt; safe to interrupt and repeat.

    Days whose raw readings are gone are copied from the old aggregates, all others are aggregated anew, day by day.
    `connection` must not be in a transaction: a refresh cannot run in one. `progress` gets days done and in all.
    """
    edition = await detect_edition(connection)
    wanted = _fingerprint(edition)
    stands = await connection.fetchval(SQL["get_aggregates_fingerprint"])
    if stands == wanted:
        return False
    if _EQUAL_FINGERPRINTS.get(stands) == wanted:
        await connection.execute(f"{read_script(_LATE_BEFORE[edition])}; COMMENT ON VIEW reading_1d IS '{wanted}'")
        return False
    if edition == "apache-2" and await connection.fetchval(SQL["count_compressed_chunks"]):
        raise CompressedReadingsError(
            "Some chunks of reading or of its aggregates are in the columnstore. Run this database on TimescaleDB "
            "Community once more and call convert_to_rowstore for each chunk, then come back."
        )
    old = await find_stored_aggregates(connection)
    fill_from = None
    if any(old.values()):
        await _note_all_as_late(connection)
        fill_from = await find_first_day_to_fill(connection, old)
    await _replace(connection, edition, old, fill_from)
    if edition == "community":
        await _fill(connection, fill_from, progress)
        await connection.execute(read_script("community_policies"))
    elif (await connection.fetch(SQL["get_oldest_reading"], fill_from))[0]["oldest"] is not None:
        await roll_up(connection, wait_s=WAIT_S, progress=progress)
    await connection.execute(f"COMMENT ON VIEW reading_1d IS '{wanted}'")
    log.info("aggregates_built", edition=edition, copied_before=fill_from and fill_from.isoformat())
    return True


async def find_stored_aggregates(connection: Connection) -> StoredAggregates:
    """Return the name of the table that holds the rows of each level, None where there is none."""
    return {level: await connection.fetchval(SQL["find_stored_aggregate"], level.relation) for level in LEVELS}


async def create_anew(connection: Connection, fill_from: datetime | None) -> None:
    """Replace the aggregates by new ones that hold only the days of the temporary tables `old_…`.

    The temporary tables are named after the relations, and hold the days before `fill_from`; None: there are none. Run
    this in a transaction, and `ensure_aggregates` afterwards: until then all other days are computed from raw readings.
    No readings may be stored meanwhile.
    """
    await _create(connection, await detect_edition(connection), await find_stored_aggregates(connection), fill_from)


async def _note_all_as_late(connection: Connection) -> None:
    """Let flushes note every day, so that a reading stored during the rebuild is not missed; raise BusyDatabaseError.

    The new aggregates bring their own late_before().
    """
    await connection.execute(SQL["note_all_as_late"])
    if not await wait_for_earlier_transactions(connection, WAIT_S):
        raise BusyDatabaseError(
            f"A transaction has been open for more than {WAIT_S:.0f} s on this server (pg_stat_activity shows which). "
            "End it and try again."
        )


async def find_first_day_to_fill(connection: Connection, old: StoredAggregates) -> datetime | None:
    """Return the first UTC day from which on raw readings are complete, or None if no aggregate outlives its readings.

    Readings of a day are gone where the old aggregates count more, or where retention may be dropping them just now.
    """
    now = await connection.fetchval("SELECT now()")
    days = [
        await connection.fetchval(
            REBUILD["find_day_after_gone_readings"].format(relation=relation),
            start_of(first_safe_day(now)),
            timeout=STATEMENT_TIMEOUT_S,
        )
        for relation in old.values()
        if relation is not None
    ]
    return max((day for day in days if day is not None), default=None)


async def _replace(connection: Connection, edition: Edition, old: StoredAggregates, fill_from: datetime | None) -> None:
    """Create the new aggregates with the old days before `fill_from`, in one transaction."""
    async with connection.transaction(isolation="read_committed"):
        if fill_from is not None:
            await _copy_old_days(connection, old, fill_from)
        await _create(connection, edition, old, fill_from)


async def _create(connection: Connection, edition: Edition, old: StoredAggregates, fill_from: datetime | None) -> None:
    await _drop(connection)
    if edition == "community":
        await connection.execute(read_script("community"))
    else:
        await connection.execute(read_script("apache_tables"))
        await create_views(connection, None)
    await connection.execute(read_script(_LATE_BEFORE[edition]))
    await connection.execute(read_script("common"))
    await grant_rows(connection)
    if fill_from is not None:
        await _insert_old_days(connection, old)
        if edition == "apache-2":
            await connection.execute(ROLL_UP["set_watermark"], fill_from)


async def _copy_old_days(connection: Connection, old: StoredAggregates, fill_from: datetime) -> None:
    """Copy old days into temporary tables, and note those that lack stored readings as late."""
    for level, relation in old.items():
        if relation is not None:
            await connection.execute(
                REBUILD["copy_old_days"].format(name=level.relation, relation=relation, end=fill_from.isoformat()),
                timeout=STATEMENT_TIMEOUT_S,
            )
            await connection.execute(
                REBUILD["note_incomplete_days"].format(relation=relation), fill_from, timeout=STATEMENT_TIMEOUT_S
            )


async def _insert_old_days(connection: Connection, old: StoredAggregates) -> None:
    for level, relation in old.items():
        if relation is not None:
            stored = await connection.fetchval(SQL["find_stored_aggregate"], level.relation)
            await connection.execute(
                REBUILD["insert_old_days"].format(name=level.relation, relation=stored), timeout=STATEMENT_TIMEOUT_S
            )


async def _drop(connection: Connection) -> None:
    """Drop what either edition has made."""
    for relation in reversed([level.relation for level in LEVELS]):
        kind = await connection.fetchval(SQL["get_view_kind"], relation)
        if kind is not None:
            await connection.execute(f"DROP {kind} {relation}")
    for table in ("rolled_1d", "rolled_1h", "rolled_1m", "aggregate_watermark"):
        await connection.execute(f"DROP TABLE IF EXISTS {table}")


async def _fill(connection: Connection, fill_from: datetime | None, progress: ReportProgress) -> None:
    """Materialise day by day, oldest first, so that each transaction stays small."""
    if fill_from is not None:
        await _show_old_days(connection, fill_from)
    row = await connection.fetchrow(SQL["get_oldest_reading"], fill_from)
    if row is None or row["oldest"] is None:
        return
    oldest, now = row["oldest"], row["now"]
    days = (now.date() - oldest.date()).days + 1
    for done in range(days):
        await refresh_continuous_day(connection, oldest.date() + timedelta(days=done), now)
        progress(done + 1, days)


async def _show_old_days(connection: Connection, fill_from: datetime) -> None:
    """Move the watermarks past days that were copied: only a refresh that stores a row moves a watermark.

    The row is that of a placeholder, a reading of no series, which goes again at once.
    """
    later = fill_from + timedelta(days=3)
    await connection.execute(SQL["insert_placeholder"], fill_from)
    await refresh_continuous_day(connection, fill_from.date(), later)
    await connection.execute(SQL["delete_placeholders"])
    await refresh_continuous_day(connection, fill_from.date(), later)


def _fingerprint(edition: Edition) -> str:
    digest = hashlib.sha256("".join(map(read_script, _SCRIPTS[edition])).encode()).hexdigest()
    return f"{edition} {digest[:16]}"
