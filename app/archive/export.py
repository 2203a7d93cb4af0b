"""Export: all rows of a database as they are at one moment, while the server runs."""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from app import __version__
from app.archive.manifest import Manifest, Member, TableEntry
from app.archive.sql import SQL
from app.archive.tables import TABLES
from app.csv_text import encode_rows
from app.db.aggregates import find_first_day_to_fill, find_stored_aggregates
from app.db.aggregates.rebuild import StoredAggregates
from app.db.edition import detect_edition
from app.db.lease import is_held
from app.db.pool import Connection, connect
from app.db.servers.restored import check_restored
from app.model import ReportProgress

#: A file of the archive is kept in memory until its size is known, because a tar has the size first.
_FILE_BYTES = 16 * 1024 * 1024


class Files(Protocol):
    """The destination of the files."""

    def add(self, name: str, data: bytes) -> Member:
        """Write a file."""


async def open_session(dsn: str, *, writes: bool) -> Connection:
    """Open a connection for an archive: values in one form, and no limit on the time of a statement."""
    return await connect(
        dsn,
        writes=writes,
        datestyle="ISO, MDY",
        intervalstyle="postgres",
        bytea_output="hex",
        extra_float_digits="1",
        statement_timeout="0",
        idle_in_transaction_session_timeout="0",
    )


async def export_archive(
    connection: Connection, files: Files, report: ReportProgress = lambda done, total: None
) -> Manifest:
    """Write the files of an archive and return its manifest, which the caller writes last.

    `connection` is one of `open_session`. The database may have an older schema, and be a replica. `report` gets the
    days of readings done and in all. Meanwhile chunks are neither compressed nor dropped.
    """
    await check_restored(connection)
    stored = await find_stored_aggregates(connection)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # Before the first query, because the transaction keeps its snapshot: chunks truncated later would look empty.
        tables = ["reading", *(name for name in stored.values() if name is not None)]
        await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE")
        (facts,) = await connection.fetch(SQL["describe_database"])
        fill_from = await find_first_day_to_fill(connection, stored)
        exporter = _Exporter(connection, files, await _list_columns(connection))
        await exporter.export_tables(report)
        if fill_from is not None:
            await exporter.export_aggregates(stored, fill_from)
        return Manifest(
            id=secrets.token_hex(16),
            exported_at=facts["exported_at"],
            tidegauge=__version__,
            schema_version=facts["schema_version"],
            postgresql=facts["postgresql"],
            timescaledb=facts["timescaledb"],
            edition=await detect_edition(connection),
            has_worker=await _may_have_worker(connection, exporter, is_replica=facts["is_replica"]),
            aggregates_before=fill_from,
            sequences={row["name"]: row["last_value"] for row in await connection.fetch(SQL["list_sequences"])},
            tables=exporter.entries,
        )


async def _may_have_worker(connection: Connection, exporter: "_Exporter", *, is_replica: bool) -> bool:
    """Return whether a worker runs on this database. A replica and an older schema cannot tell: then return True."""
    return is_replica or "session_pid" not in exporter.columns["lease"] or await is_held(connection)


async def _list_columns(connection: Connection) -> dict[str, list[str]]:
    """Return the columns of each table and view by its name."""
    columns = defaultdict(list)
    for row in await connection.fetch(SQL["list_columns"]):
        columns[row["table_name"]].append(row["column_name"])
    return columns


class _Exporter:
    """Writes one table after another."""

    def __init__(self, connection: Connection, files: Files, columns: dict[str, list[str]]) -> None:
        self.columns = columns
        self.entries: list[TableEntry] = []
        self._connection = connection
        self._files = files

    async def export_tables(self, report: ReportProgress) -> None:
        """Write all tables that the database has."""
        for table in TABLES:
            if table.name == "reading":
                await self.export_readings(report)
            elif table.name in self.columns:
                await self.export(table.name, table.name)

    async def export_aggregates(self, stored: StoredAggregates, fill_from: datetime) -> None:
        """Write the rows of the aggregates before a day."""
        for level, relation in stored.items():
            if relation is not None:
                await self.export(level.relation, f"{relation} WHERE bucket < '{fill_from.isoformat()}'")

    async def export(self, name: str, source: str) -> None:
        """Write the rows of a table or of a part of it, `source` in SQL."""
        table = _TableFiles(name, self.columns[name], self._files)
        await self._copy(table, source)
        self.entries.append(table.finish())

    async def export_readings(self, report: ReportProgress) -> None:
        """Write the readings, chunk by chunk."""
        table = _TableFiles("reading", self.columns["reading"], self._files)
        windows = await self._connection.fetch(SQL["list_windows"])
        for done, (start, end) in enumerate(windows):
            report(done, len(windows))
            await self._copy(table, "reading WHERE time >= $1 AND time < $2", start, end)
        report(len(windows), len(windows))
        self.entries.append(table.finish())

    async def _copy(self, table: "_TableFiles", source: str, *arguments: datetime) -> None:
        query = f"SELECT {', '.join(map(_quoted, table.columns))} FROM {source}"  # noqa: S608 -- names of ours
        status = await self._connection.copy_from_query(query, *arguments, output=table.take, format="csv")
        table.rows += int(status.removeprefix("COPY "))


class _TableFiles:
    """Cuts the rows of a table into files."""

    def __init__(self, name: str, columns: Sequence[str], files: Files) -> None:
        self.columns = columns
        self.rows = 0
        self._name = name
        self._files = files
        self._members: list[Member] = []
        self._begin()

    async def take(self, rows: bytes) -> None:
        """Take whole rows: PostgreSQL sends each in one message, which asyncpg does not cut."""
        self._data += rows
        if len(self._data) >= _FILE_BYTES:
            self._write()
            self._begin()

    def finish(self) -> TableEntry:
        """Write the remaining rows, and return the entry of the table."""
        if self._has_rows or not self._members:
            self._write()
        return TableEntry(self._name, list(self.columns), self.rows, self._members)

    @property
    def _has_rows(self) -> bool:
        return len(self._data) > self._header_bytes

    def _begin(self) -> None:
        self._data = bytearray(encode_rows([tuple(self.columns)]).encode())
        self._header_bytes = len(self._data)

    def _write(self) -> None:
        number = len(self._members) + 1
        name = f"{self._name}.csv" if number == 1 else f"{self._name}.{number}.csv"
        self._members.append(self._files.add(name, bytes(self._data)))


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
