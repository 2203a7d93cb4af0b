"""The records of the replaced sensor server: a flush adds one for each new reading of its three metrics."""

import msgspec

from app.db.pool import Pool
from app.ingest.flush.batch import NewReadings, as_columns
from app.ingest.flush.feed_payload import Grouped
from app.ingest.series.registry import SeriesRegistry
from app.ingest.sql import SQL
from app.model import LEGACY_METRICS, LegacyRecord, SensorName

_METRICS = frozenset(LEGACY_METRICS)


class NewRecord(msgspec.Struct, frozen=True):
    """A record that has no id yet; 0 stands for it."""

    record: LegacyRecord
    #: Position in the batch of the upload that brought it first.
    upload_number: int


def find_records(new: NewReadings, grouped: Grouped, registry: SeriesRegistry) -> list[NewRecord]:
    """Return a record for each new reading with temperature, humidity and pressure, in order of time."""
    found = [reading for reading in grouped if reading[2].keys() >= _METRICS]
    if not found:
        return []
    origins = _origins(new, registry)
    return [
        NewRecord(LegacyRecord.make(0, sensor, time_us, values, new.batch.uploads[number].client_ip), number)
        for time_us, sensor, values in found
        for number in (origins[sensor, time_us],)
    ]


def columns_of(records: list[NewRecord]) -> list[list[object]]:
    """Return the records as columns: sensor, time, temperature, humidity, pressure, client address."""
    return as_columns([msgspec.structs.astuple(new.record)[1:] for new in records], 6)


async def prune_legacy_readings(pool: Pool) -> None:
    """Delete all but the newest records; only the last one is read again."""
    await pool.execute(SQL["prune_legacy_readings"])


def _origins(new: NewReadings, registry: SeriesRegistry) -> dict[tuple[SensorName, int], int]:
    """Return the number of the upload that first brought each (sensor, time), by the sensor's present name."""
    origins: dict[tuple[SensorName, int], int] = {}
    for number, upload in enumerate(new.batch.uploads):
        sensors = [registry.sensors[sensor].name for sensor, _ in upload.readings.series]
        for code, time_us in zip(upload.readings.codes, upload.readings.times_us, strict=True):
            origins.setdefault((sensors[code], time_us), number)
    return origins
