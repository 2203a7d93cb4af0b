"""The transaction of a flush, which stores everything that some uploads bring.

Concurrent flushes do not deadlock because all use the same order: readings by (day, series, time) with one COPY for
each day, then `series_state` by series, then idempotency keys by key. Creating a chunk locks the hypertable until
commit, so days must ascend in every flush.
"""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from operator import itemgetter

import msgspec

from app.clock import DAY_US, to_us
from app.db.pool import Connection
from app.ingest.flush.batch import Batch, NewReadings, by_day, copy_payload, select
from app.ingest.flush.feed_payload import Grouped, encode_payload, group_readings
from app.ingest.idempotency import AnsweredElsewhereError
from app.ingest.series import SensorsChangedError, SeriesRegistry
from app.ingest.sql import SQL
from app.ingest.upload import Receipt, Upload
from app.model import LEGACY_METRICS, LegacyRecord, SensorName, SeriesId

#: Batches from this size on are written by COPY. Below, INSERT … ON CONFLICT is as fast and returns what was new.
COPY_FROM = 101
_1970 = date(1970, 1, 1)


async def write_flush(
    connection: Connection,
    batch: Batch,
    registry: SeriesRegistry,
    *,
    by_copy: bool,
    any_decompression: bool = False,
) -> list[Receipt]:
    """Store a batch and return each upload's receipt, in order, after the commit.

    Raise asyncpg.UniqueViolationError if COPY meets a stored reading, asyncpg.DeadlockDetectedError,
    SensorsChangedError, AnsweredElsewhereError, and what a lost database raises. The transaction is rolled back then.
    """
    async with connection.transaction():
        if any_decompression:
            await connection.execute(SQL["allow_any_decompression"])
        new = await (_copy if by_copy else _insert)(connection, batch)
        feed_id = await _record(connection, new, registry) if new.blocks else None
        if feed_id is None:
            _check_version(registry, await connection.fetchval(SQL["get_sensor_version"]))
        await _store_answers(connection, new, feed_id)
    for series_id in _find_reporting(new, registry):
        del registry.retired[series_id]
    seq = await connection.fetchval(SQL["get_feed_seq"]) if feed_id is not None else None
    return _receipts(new, seq)


async def _copy(connection: Connection, batch: Batch) -> NewReadings:
    """Copy all samples into `reading`, day by day; all must be new."""
    for _day, blocks in by_day(batch.blocks):
        await connection.copy_to_table(
            "reading",
            source=_as_stream(copy_payload(blocks)),
            columns=("series_id", "time", "value"),
            format="binary",
        )
    return NewReadings(batch, batch.blocks)


async def _insert(connection: Connection, batch: Batch) -> NewReadings:
    """Insert the samples that are not stored yet."""
    stored = await connection.fetch(SQL["insert_readings"], *batch.columns())
    return NewReadings(batch, select(batch.blocks, {(row["series_id"], to_us(row["time"])) for row in stored}))


async def _record(connection: Connection, new: NewReadings, registry: SeriesRegistry) -> int:
    """Write the rows that follow from new readings, and return the id of the feed row."""
    days = [_1970 + timedelta(days=day) for day in new.oldest_of_day]
    await connection.execute(SQL["insert_late_days"], days, list(new.oldest_of_day.values()))
    is_import = new.batch.uploads[0].is_import  # a file is imported by a writer of its own
    await connection.execute(SQL["upsert_state_of_import" if is_import else "upsert_series_state"], *new.states())
    for late, ranges in new.ranges().items():
        await connection.execute(SQL["insert_dirty"], *ranges, late)
    grouped = group_readings(new, registry.names)
    legacy = [] if is_import else await _insert_legacy(connection, new, grouped, registry)
    payload = encode_payload(new, grouped, legacy)
    row = await connection.fetchrow(SQL["insert_feed"], new.size, payload)
    assert row is not None  # noqa: S101 -- INSERT … RETURNING
    _check_version(registry, row["version"])
    if reporting := _find_reporting(new, registry):
        await connection.execute(SQL["bring_back_sensors"], sorted(set(reporting.values())))
    return int(row["id"])


def _check_version(registry: SeriesRegistry, version: int) -> None:
    """Raise SensorsChangedError if an operator has changed a sensor since the registry loaded its first one."""
    if registry.version not in (None, version):
        raise SensorsChangedError


def _find_reporting(new: NewReadings, registry: SeriesRegistry) -> dict[SeriesId, int]:
    """Return the series of retired sensors that report again, with their sensor ids.

    Imported readings that are older than a day are no report.
    """
    upload = new.batch.uploads[0]
    since_us = upload.received_us - DAY_US if upload.is_import else -(2**63)
    return {
        series_id: registry.retired[series_id]
        for series_id in registry.retired.keys() & new.newest.keys()
        if new.newest[series_id][0] > since_us
    }


async def _insert_legacy(
    connection: Connection, new: NewReadings, grouped: Grouped, registry: SeriesRegistry
) -> list[LegacyRecord]:
    """Store new readings with temperature, humidity and pressure as records of the replaced sensor server.

    Return the records, and set the id of each in its upload.
    """
    found = [
        (sensor, time_us, values)
        for (time_us, sensor), values in sorted(grouped.items())
        if all(metric in values for metric in LEGACY_METRICS)
    ]
    if not found:
        return []
    origins = _origins(new, registry)
    uploads = [origins[sensor, time_us] for sensor, time_us, _ in found]
    columns = [
        [sensor for sensor, _, _ in found],
        [time_us for _, time_us, _ in found],
        *([values[metric] for _, _, values in found] for metric in LEGACY_METRICS),
        [upload.client_ip for upload in uploads],
    ]
    ids = [row["id"] for row in await connection.fetch(SQL["insert_legacy_readings"], *columns)]
    for upload, legacy_id in zip(uploads, ids, strict=True):
        upload.legacy_id = legacy_id
    return [
        LegacyRecord.make(legacy_id, sensor, time_us, values, upload.client_ip)
        for legacy_id, (sensor, time_us, values), upload in zip(ids, found, uploads, strict=True)
    ]


def _origins(new: NewReadings, registry: SeriesRegistry) -> dict[tuple[SensorName, int], Upload]:
    """Return the upload that first brought each (sensor, time), by the sensor's present name."""
    origins: dict[tuple[SensorName, int], Upload] = {}
    for upload in new.batch.uploads:
        for reading in upload.readings:
            origins.setdefault((registry.sensors[reading.sensor].name, reading.time_us), upload)
    return origins


async def _store_answers(connection: Connection, new: NewReadings, feed_id: int | None) -> None:
    """Store the answers to uploads with an Idempotency-Key; the trigger on `feed` adds their `seq`.

    Wait for a process that is storing an answer under the same key; raise AnsweredElsewhereError if it succeeds.
    """
    rows = [
        (
            upload.api_key.label,
            upload.idempotency.key,
            upload.idempotency.body_sha256,
            msgspec.json.encode(_receipt(new, number, None)).decode(),
            feed_id if new.accepted[number] else None,
        )
        for number, upload in enumerate(new.batch.uploads)
        if upload.idempotency is not None
    ]
    if rows:
        rows.sort(key=itemgetter(0, 1))
        stored = await connection.fetch(SQL["insert_idempotency"], *map(list, zip(*rows, strict=True)))
        if len(stored) < len(rows):
            raise AnsweredElsewhereError({row[:2] for row in rows} - {tuple(row) for row in stored})


def _receipts(new: NewReadings, seq: int | None) -> list[Receipt]:
    return [_receipt(new, number, seq if new.accepted[number] else None) for number in range(len(new.batch.uploads))]


def _receipt(new: NewReadings, number: int, seq: int | None) -> Receipt:
    upload, accepted = new.batch.uploads[number], new.accepted[number]
    duplicates = upload.value_count - accepted
    return Receipt(seq, accepted, duplicates, upload.rejected.listed, upload.rejected.count)


async def _as_stream(payload: bytes) -> AsyncIterator[bytes]:
    yield payload
