"""Import of an archive into an empty database, completely or not at all."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from app.archive.export import open_session
from app.archive.files import read_manifest, read_members
from app.archive.manifest import MANIFEST_NAME, ArchiveError, Manifest, TableEntry
from app.archive.sql import SQL
from app.archive.tables import AGGREGATES, TABLES
from app.db.aggregates import create_anew
from app.db.migrations import load_migrations, migrate
from app.db.pool import Connection
from app.errors import AppError
from app.model import ReportProgress

_LEFT_TO_THE_SOURCE = "Was being sent when it was exported; a worker of the exported database sends it"


class NotEmptyError(AppError):
    """The database has data already."""

    code = "not_empty"
    title = "The database is not empty"


class Imported(msgspec.Struct, frozen=True):
    """The outcome of an import."""

    exported_at: datetime
    sensors: int
    readings: int
    alerts: int
    #: Alert messages that were pending and are left to a worker of the exported database.
    left_messages: int
    #: When an earlier run had imported the archive already.
    imported_before: datetime | None = None


class Reports(msgspec.Struct, frozen=True):
    """Callbacks for the progress of each part of an import."""

    checked_bytes: ReportProgress = lambda done, total: None
    loaded_bytes: ReportProgress = lambda done, total: None
    filled_days: ReportProgress = lambda done, total: None


async def import_archive(path: Path, dsn: str, reports: Reports = Reports()) -> Imported:  # noqa: B008 -- immutable
    """Import an archive; raise ArchiveError, NotEmptyError, and errors of a lost database.

    The database is migrated first. All rows are stored in one transaction, and the aggregates are filled after it. If
    that is interrupted, import the same archive again or run `tidegauge migrate`: both fill what is missing.
    """
    manifest = read_manifest(path, reports.checked_bytes)
    _check_version(manifest)
    await migrate(dsn, progress=reports.filled_days)
    connection = await open_session(dsn, writes=True)
    try:
        imported = await _load(connection, path, manifest, reports.loaded_bytes)
    finally:
        await connection.close()
    await migrate(dsn, progress=reports.filled_days)
    return imported


def _check_version(manifest: Manifest) -> None:
    known = len(load_migrations())
    if manifest.schema_version > known:
        raise ArchiveError(
            f"It has schema {manifest.schema_version}, written by Tidegauge {manifest.tidegauge}, and this version "
            f"knows {known}; import it with that version or a newer one"
        )
    allowed = {table.name for table in TABLES} | set(AGGREGATES)
    for entry in manifest.tables:
        if entry.name not in allowed:
            raise ArchiveError(f"It has a table {entry.name!r}, which this version of Tidegauge does not import")


async def _load(connection: Connection, path: Path, manifest: Manifest, report: ReportProgress) -> Imported:
    """Store all rows, in one transaction."""
    left_messages = 0
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"LOCK TABLE {', '.join(table.name for table in TABLES)} IN EXCLUSIVE MODE")
        before = await connection.fetchval(SQL["find_import"], manifest.id)
        if before is None:
            await _check_empty(connection)
            await _store(connection, path, manifest, report)
            left_messages = await _leave_pending(connection) if manifest.has_worker else 0
            await connection.execute(SQL["record_import"], manifest.id, manifest.exported_at)
            await create_anew(connection, manifest.aggregates_before)
    return Imported(
        manifest.exported_at,
        manifest.count("sensor"),
        manifest.count("reading"),
        manifest.count("alert_episode"),
        left_messages,
        before,
    )


async def _check_empty(connection: Connection) -> None:
    """Raise NotEmptyError if the database has other rows than every new database has."""
    found = []
    for table in TABLES:
        where = f"{table.name} WHERE NOT ({table.own_rows})"
        count = await connection.fetchval(f"SELECT count(*) FROM {where}")  # noqa: S608 -- names of ours
        if count:
            found.append(f"{count} in {table.name}")
    if found:
        raise NotEmptyError(
            f"It has rows already: {', '.join(found)}. Import into an empty database, which createdb makes, or the "
            "first `tidegauge up` with another DATA_DIR"
        )


async def _store(connection: Connection, path: Path, manifest: Manifest, report: ReportProgress) -> None:
    rules_version = await connection.fetchval("SELECT coalesce(max(version), 0) FROM rule_set")
    for table in TABLES:
        if manifest.count(table.name):
            await connection.execute(f"DELETE FROM {table.name} WHERE {table.own_rows}")  # noqa: S608 -- names of ours
    if manifest.aggregates_before is not None:
        for name in AGGREGATES:
            rows = f"SELECT * FROM {name} WITH NO DATA"  # noqa: S608 -- a relation of ours
            await connection.execute(f"CREATE TEMPORARY TABLE old_{name} ON COMMIT DROP AS {rows}")
    await _check_columns(connection, manifest)
    await _copy_files(connection, path, manifest, report)
    names, numbers = list(manifest.sequences), list(manifest.sequences.values())
    await connection.fetch(SQL["raise_sequences"], names, numbers)
    await connection.execute(SQL["renew_rules"], rules_version)
    for query in ("renew_sensors", "renew_lease", "begin_silence"):
        await connection.execute(SQL[query])


async def _check_columns(connection: Connection, manifest: Manifest) -> None:
    """Raise ArchiveError for a column that this version does not have.

    Where the archive is of an older version and lacks a column, its rows get the default of the column.
    """
    known = {(row["table_name"], row["column_name"]) for row in await connection.fetch(SQL["list_columns"])}
    for entry in manifest.tables:
        for column in entry.columns:
            if (entry.name, column) not in known:
                raise ArchiveError(
                    f"Its table {entry.name} has a column {column!r}, which this version of Tidegauge does not import"
                )


async def _copy_files(connection: Connection, path: Path, manifest: Manifest, report: ReportProgress) -> None:
    """Store the rows of the files, in the order of the archive."""
    entry_of = {file.name: entry for entry in manifest.tables for file in entry.files}
    stored = dict.fromkeys((entry.name for entry in manifest.tables), 0)
    for name, pieces in read_members(path, report):
        if name == MANIFEST_NAME:
            continue
        if name not in entry_of:
            raise ArchiveError(f"The file {name} was added while the archive was read")
        entry = entry_of[name]
        stored[entry.name] += await _copy(connection, entry, pieces)
    for entry in manifest.tables:
        if stored[entry.name] != entry.rows:
            raise ArchiveError(
                f"Its table {entry.name} has {stored[entry.name]} rows, and {MANIFEST_NAME} says {entry.rows}"
            )


async def _copy(connection: Connection, entry: TableEntry, pieces: Iterator[bytes]) -> int:
    target = f"old_{entry.name}" if entry.name in AGGREGATES else entry.name
    status = await connection.copy_to_table(
        target, source=_source(pieces), columns=entry.columns, format="csv", header=True
    )
    return int(status.removeprefix("COPY "))


async def _source(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _leave_pending(connection: Connection) -> int:
    """Leave pending messages to the worker of the exported database; return how many messages these are."""
    waiting = await connection.execute(SQL["delete_waiting"])
    sending = await connection.execute(SQL["give_up_sending"], _LEFT_TO_THE_SOURCE)
    await connection.execute(SQL["settle_pending"])
    return sum(int(status.rpartition(" ")[2]) for status in (waiting, sending))
