"""Import of one file, block by block and in order, so that it can be killed at any moment and resumed."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.auth.keys import IMPORT_LABEL, ApiKey, Limits
from app.clock import now_us
from app.db.clock import follow_clock
from app.db.migrations import check_migrated
from app.db.pool import connect
from app.errors import OverloadedError
from app.ingest.imports.files import (
    Block,
    ImportProgress,
    RejectedFile,
    RejectedLine,
    find_source,
    load_progress,
    read_blocks,
    read_header,
)
from app.ingest.imports.table import CsvTable, InvalidFileError, RawRetention, find_kept
from app.ingest.sql import SQL
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt, Rejected
from app.ingest.uploads.upload import Upload
from app.ingest.writer import Writer
from app.metrics import Metrics
from app.model import ReportProgress
from app.tasks import supervised

#: One block is stored while the next one is parsed. All wait in one lane with one flusher: the first value stays.
_IN_FLIGHT = 2
#: How often a block is tried again when the database is too busy to store it, and the pause before each try.
_RETRIES, _PAUSE_S = 10, 1.0
#: Longest time of a block. Nobody waits for an answer, and late readings may need decompression of chunks.
_BLOCK_WITHIN_S = 600.0
#: Sensors are registered under this label; an operator's import has no cap.
IMPORT_KEY = ApiKey(IMPORT_LABEL, frozenset({"ingest"}), Limits(sensors=2**31 - 1))


class ImportSummary(msgspec.Struct, frozen=True):
    """The outcome of an import. Counts are of values; a row that is refused as a whole counts as one."""

    accepted: int
    duplicates: int
    rejected: int
    rejected_file: str | None
    #: The first line that was read, if an earlier import was interrupted.
    resumed_at_line: int | None


class Import:
    """One import of a file into a database."""

    def __init__(
        self, path: Path, dsn: str, report: ReportProgress, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._path = path
        self._dsn = dsn
        self._report = report
        self._say = say
        self._progress_path = path.with_name(f"{path.stem}.progress.json")
        self._rejected_path = path.with_name(f"{path.stem}.rejected.csv")
        self._writer = Writer(Metrics(), _BLOCK_WITHIN_S)

    async def run(self) -> ImportSummary:
        """Store the file and return the counts; raise AppError, OSError, and errors of a lost database."""
        if self._path.exists() and not self._path.is_file():
            raise InvalidFileError(
                f"{self._path} is not a regular file; save its contents to one, so that the import can be resumed"
            )
        connection = await connect(self._dsn)
        try:
            await check_migrated(connection)
            await follow_clock(connection)
            kept, database = await find_kept(connection), await connection.fetchval(SQL["get_database_identity"])
        finally:
            await connection.close()
        with self._path.open("rb") as file:
            table = CsvTable(read_header(file))
            progress, resumed = self._resume(database, file.tell())
            rejected = RejectedFile(self._rejected_path, progress.rejected_bytes)
            file.seek(progress.offset)
            async with supervised(self._writer.flushers(self._dsn, 1)):
                blocks = read_blocks(file, progress.line + 1)
                async with aclosing(self._store_blocks(blocks, table, kept)) as committed:
                    async for stored in committed:
                        self._finish(stored, progress, rejected)
        self._progress_path.unlink(missing_ok=True)
        return ImportSummary(
            progress.accepted,
            progress.duplicates,
            progress.rejected,
            str(self._rejected_path) if progress.rejected else None,
            resumed,
        )

    def _resume(self, database: str, start: int) -> tuple[ImportProgress, int | None]:
        """Return the progress to go on from, and the first line to read if an earlier import was interrupted."""
        source = find_source(self._path)
        found = load_progress(self._progress_path)
        if found is None:
            return ImportProgress(source, database, start, 1), None
        if (found.source, found.database) != (source, database):
            self._say(f"{self._progress_path.name} is of another file or database: starting from the beginning")
            return ImportProgress(source, database, start, 1), None
        self._say(f"going on at line {found.line + 1:,}, after {100 * found.offset // source.size} % of the file")
        return found, found.line + 1

    async def _store_blocks(
        self, blocks: Iterator[Block], table: CsvTable, kept: RawRetention
    ) -> AsyncGenerator["_Stored", None]:
        """Store blocks and yield each after its commit, in order, while the next one is under way."""
        waiting: deque[_Waiting] = deque()
        try:
            for block in blocks:
                upload, rejections = _parse(block, table, kept)
                waiting.append((block, rejections, asyncio.create_task(_store(self._writer, upload))))
                if len(waiting) == _IN_FLIGHT:
                    yield await _committed(waiting)
            while waiting:
                yield await _committed(waiting)
        finally:
            for _, _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in waiting), return_exceptions=True)

    def _finish(self, stored: "_Stored", progress: ImportProgress, rejected: RejectedFile) -> None:
        """Write the rejected rows of a block that is committed, then the progress."""
        receipt = stored.receipt
        progress.offset, progress.line = stored.block.end, stored.block.first_line + len(stored.block.lines) - 1
        progress.accepted += receipt.accepted
        progress.duplicates += receipt.duplicates
        progress.rejected += len(stored.rejections)
        progress.rejected_bytes = rejected.add(stored.rejections)
        progress.save(self._progress_path)
        self._report(progress.offset, progress.source.size)


class _Stored(NamedTuple):
    """A block that is committed."""

    block: Block
    rejections: list[RejectedLine]
    receipt: Receipt


#: A block on its way into the database.
_Waiting = tuple[Block, list[RejectedLine], asyncio.Task[Receipt]]


async def _committed(waiting: deque[_Waiting]) -> _Stored:
    """Wait for the oldest block, and take it out."""
    block, rejections, task = waiting[0]
    receipt = await task
    waiting.popleft()
    return _Stored(block, rejections, receipt)


def _parse(block: Block, table: CsvTable, kept: RawRetention) -> tuple[Upload, list[RejectedLine]]:
    received_us = now_us()
    readings, rejections = [], []
    for number, line in enumerate(block.lines, start=block.first_line):
        if not line:
            continue
        reading, refusals = table.parse(line, kept, received_us)
        if reading is not None:
            readings.append(reading)
        rejections += [RejectedLine(number, code, message, line) for code, message in refusals]
    return Upload(Readings.of(readings), Rejected(), received_us, IMPORT_KEY, is_import=True), rejections


async def _store(writer: Writer, upload: Upload) -> Receipt:
    if not upload.value_count:
        return Receipt(None, 0, 0, [], 0)
    for retries_left in range(_RETRIES, -1, -1):
        try:
            return (await writer.store(upload)).receipt
        except OverloadedError:
            if not retries_left:
                raise
            await asyncio.sleep(_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")
