"""The general transaction of a flush, which stores all the readings of some uploads.

Concurrent flushes do not deadlock because all use the same order: readings by (day, series, time) with one COPY for
each day, then `series_state` by series, then idempotency keys by key. Creating a chunk locks the hypertable until
commit, so days must ascend in every flush.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta

import asyncpg
import msgspec
import numpy as np

from app.clock import DAY_US
from app.db.pool import Connection
from app.db.sql import SQL as DB_SQL
from app.ingest.flush.batch import Batch, Ints, NewReadings, Samples, as_columns, by_day, copy_payload, split
from app.ingest.flush.commit import commit_answered, transaction
from app.ingest.flush.feed_payload import group_readings, split_payload
from app.ingest.flush.idempotency import AnsweredElsewhereError
from app.ingest.flush.legacy_records import NewRecord, columns_of, find_records
from app.ingest.flush.outcomes import make_answers, make_outcomes
from app.ingest.series.registry import SensorsChangedError, SeriesRegistry
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import Outcome
from app.model import SeriesId
from app.summaries import pack
from app.tasks import run_off_loop

#: Batches from this size on are written by COPY, where a value takes half of the time that it takes in an INSERT. For
#: fewer values, an INSERT within one call is faster than the round trips of a COPY.
COPY_FROM = 251
#: Rows of one INSERT: asyncpg encodes all of them in one step.
INSERTED_AT_ONCE = 5_000
#: Of the values of one flush that were stored already, so many are compared with what is stored, spread evenly, of at
#: most so many days. To compare all of a large repeated batch would double its time.
COMPARED_AT_MOST = 1_000
COMPARED_DAYS = 3
#: Bytes that are sent at a time.
_COPIED_BYTES = 2**20
_1970 = date(1970, 1, 1)


class _Recorded(msgspec.Struct, frozen=True):
    """Rows that a flush wrote besides its readings."""

    feed_id: int
    records: list[NewRecord]
    #: Ids of the records, in the same order.
    legacy_ids: list[int]


async def write_flush(
    connection: Connection,
    batch: Batch,
    registry: SeriesRegistry,
    *,
    by_copy: bool,
    any_decompression: bool = False,
) -> list[Outcome]:
    """Store a batch and return each upload's outcome, in order, after the commit.

    Raise asyncpg.UniqueViolationError if COPY meets a stored reading, asyncpg.DeadlockDetectedError,
    SensorsChangedError, AnsweredElsewhereError, and errors of a lost database. Then the transaction is rolled back; it
    may have been committed only after CommitUnknownError.
    """
    async with transaction(connection):
        if any_decompression:
            await connection.execute(DB_SQL["allow_any_decompression"])
        new = await (_copy if by_copy else _insert)(connection, batch)
        recorded = await _record(connection, new, registry) if new.size else None
        if recorded is None:
            _check_version(registry, await connection.fetchval(SQL["get_sensor_version"]))
        await _store_answers(connection, new, recorded.feed_id if recorded else None)
    if recorded is None:
        return make_outcomes(new, None, [], [])
    for series_id in _find_reporting(new, registry):
        del registry.retired[series_id]
    with commit_answered():
        seq = await connection.fetchval(SQL["get_feed_seq"])
    return make_outcomes(new, seq, recorded.records, recorded.legacy_ids)


def summaries_of(new: NewReadings) -> list[list[object]]:
    """Return packed summaries, and whether they are of late readings, as columns."""
    return as_columns([(pack(summaries), late) for late, summaries in new.summaries().items()], 2)


def days_of(new: NewReadings) -> tuple[list[date], list[int]]:
    """Return the touched UTC days, and the oldest new time of each, as columns."""
    oldest_us = new.oldest_of_day()
    return [_1970 + timedelta(days=day) for day in oldest_us], list(oldest_us.values())


async def _copy(connection: Connection, batch: Batch) -> NewReadings:
    """Copy all samples into `reading`, day by day; all must be new."""
    for samples in by_day(batch.samples):
        await _copy_day(connection, samples)
    return await run_off_loop(batch.size, NewReadings, batch, batch.samples)


async def _copy_day(connection: Connection, samples: Samples) -> None:
    try:
        await connection.copy_to_table(
            "reading",
            source=_as_stream(await run_off_loop(len(samples), copy_payload, samples)),
            columns=("series_id", "time", "value"),
            format="binary",
        )
    except AttributeError as error:
        # asyncpg writes the end of a cancelled COPY even to a connection that was closed meanwhile.
        if connection.is_closed():
            raise asyncpg.InterfaceError("the connection was closed in the middle of a COPY") from error
        raise


async def _insert(connection: Connection, batch: Batch) -> NewReadings:
    """Insert the samples that are not stored yet."""
    new, known = [], []
    for some in _parts(batch.samples):
        row = await connection.fetchrow(SQL["insert_readings"], *some.columns())
        assert row is not None  # noqa: S101 -- an aggregate returns a row
        own_new, own_known = split(some, row["series_ids"], row["times_us"])
        new.append(own_new)
        known.append(own_known)
    conflicts = await _find_conflicts(connection, Samples.join(known))
    return await run_off_loop(batch.size, NewReadings, batch, Samples.join(new), conflicts)


async def _find_conflicts(connection: Connection, known: Samples) -> Ints:
    """Return the positions in order of arrival of samples for which another value is stored; some are compared."""
    some = known.take(slice(None, None, -(-len(known) // COMPARED_AT_MOST) or 1))
    if not len(some):
        return some.places
    numbers = await connection.fetchval(SQL["find_conflicts"], *some.columns(), COMPARED_DAYS)
    return some.places[np.array(numbers, np.int64) - 1]


async def _record(connection: Connection, new: NewReadings, registry: SeriesRegistry) -> _Recorded:
    """Write the rows that follow from new readings. All is computed before the first row is locked."""
    is_import = new.batch.uploads[0].is_import  # a file is imported by a writer of its own
    summaries = await run_off_loop(new.size, summaries_of, new)
    grouped = await run_off_loop(new.size, group_readings, new, registry.names)
    records = [] if is_import else await run_off_loop(new.size, find_records, new, grouped, registry)
    payload = await run_off_loop(new.size, split_payload, new, grouped, [found.record for found in records])
    row = await connection.fetchrow(
        SQL["record_readings"],
        new.size,
        *days_of(new),
        *(await _update_state(connection, new, is_import=is_import)).columns(),
        *summaries,
        payload,
        *columns_of(records),
    )
    assert row is not None  # noqa: S101 -- a function returns a row
    _check_version(registry, row["version"])
    if reporting := _find_reporting(new, registry):
        await connection.execute(SQL["bring_back_sensors"], sorted(set(reporting.values())))
    return _Recorded(row["feed_id"], records, row["legacy_ids"] or [])


async def _update_state(connection: Connection, new: NewReadings, *, is_import: bool) -> Samples:
    """Write the newest reading of each series but for those that are returned, which the next statement writes."""
    parts = [*_parts(new.newest_that_count())]
    last = new.newest.take(slice(0)) if is_import or new.batch.has_pending else parts.pop()
    for part in parts:
        query = "upsert_state_of_import" if is_import else "update_series_state"
        await connection.execute(SQL[query], *part.columns())
    if new.batch.has_pending:
        await connection.execute(SQL["touch_series_state"], new.newest.ids.tolist())
    return last


def _parts(samples: Samples) -> Iterator[Samples]:
    """Yield samples in parts of INSERTED_AT_ONCE, at least one."""
    for start in range(0, max(len(samples), 1), INSERTED_AT_ONCE):
        yield samples.take(slice(start, start + INSERTED_AT_ONCE))


def _check_version(registry: SeriesRegistry, version: int) -> None:
    """Raise SensorsChangedError if an operator has changed a sensor since the registry loaded its first one."""
    if registry.version not in (None, version):
        raise SensorsChangedError


def _find_reporting(new: NewReadings, registry: SeriesRegistry) -> dict[SeriesId, int]:
    """Return the series of retired sensors that report again, with their sensor ids.

    Imported readings that are older than a day are no report.
    """
    if not registry.retired:
        return {}
    upload = new.batch.uploads[0]
    since_us = upload.received_us - DAY_US if upload.is_import else -(2**63)
    ids, times_us, _ = new.newest.columns()
    return {
        series_id: registry.retired[series_id]
        for series_id, time_us in zip(ids, times_us, strict=True)
        if series_id in registry.retired and time_us > since_us
    }


async def _store_answers(connection: Connection, new: NewReadings, feed_id: int | None) -> None:
    """Store the answers to uploads with an Idempotency-Key; the trigger on `feed` adds their `seq`.

    Wait for a process that is storing an answer under the same key; raise AnsweredElsewhereError if it succeeds.
    """
    answers = make_answers(new)
    if not answers:
        return
    stored = await connection.fetch(
        SQL["insert_idempotency"],
        [answer.label for answer in answers],
        [answer.key for answer in answers],
        [answer.body_sha256 for answer in answers],
        [answer.receipt for answer in answers],
        [feed_id if answer.has_seq else None for answer in answers],
    )
    if len(stored) < len(answers):
        raise AnsweredElsewhereError(
            {(answer.label, answer.key) for answer in answers} - {tuple(row) for row in stored}
        )


async def _as_stream(payload: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(payload), _COPIED_BYTES):
        yield payload[start : start + _COPIED_BYTES]
