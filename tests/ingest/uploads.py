"""Uploads as the routes make them, for tests that do not use HTTP."""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter

import msgspec

from app.auth.keys import ApiKey, Limits
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt, Rejected
from app.ingest.uploads.upload import Idempotency, Upload
from app.model import Reading, SeriesId, Tags

#: 2026-01-31T08:00:00Z
T0 = 1_769_846_400_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KEY = ApiKey("API_KEY", frozenset({"ingest"}))


def key(label: str, sensors: int | None = None) -> ApiKey:
    """Return a key that may register `sensors` sensors; None: the default limit."""
    return ApiKey(label, frozenset({"ingest"}), Limits(sensors=sensors))


def reading(sensor: str, time_us: int = T0, tags: Tags | None = None, **values: float) -> Reading:
    """Return a reading; without values it has a temperature."""
    return Reading(sensor, time_us, {**values} or {"temperature": 21.5}, tags)


def receipt_of(seq: int | None, accepted: int, duplicates: int) -> Receipt:
    """Return the receipt of an upload that came at T0, of which nothing was refused."""
    return Receipt(seq, accepted, duplicates, [], 0, server_time="2026-01-31T08:00:00Z")


def upload(
    *readings: Reading,
    received_us: int = T0,
    gateway: str | None = None,
    api_key: ApiKey = KEY,
    idempotency: Idempotency | None = None,
    wants_legacy_id: bool = False,
) -> Upload:
    """Return an upload of these readings, without rejections."""
    return Upload(
        Readings.of([msgspec.structs.replace(each, index=index) for index, each in enumerate(readings)]),
        Rejected(),
        received_us,
        api_key,
        gateway,
        idempotency=idempotency,
        wants_legacy_id=wants_legacy_id,
    )


def series_ids(*names: tuple[str, str]) -> Mapping[str, Mapping[str, SeriesId]]:
    """Return ids for these series, counted from 1, in the form of `SeriesRegistry.series_of`."""
    series_of: dict[str, dict[str, SeriesId]] = {}
    for number, (sensor, metric) in enumerate(names, start=1):
        series_of.setdefault(sensor, {})[metric] = SeriesId(number)
    return series_of


def as_objects(readings: Readings) -> list[Reading]:
    """Return readings as objects, in the order of the body."""
    described = {reading.index: reading for reading in readings.described}
    rows = zip(readings.indexes, readings.codes, readings.times_us, readings.values, strict=True)
    objects = []
    for index, of_reading in groupby(rows, key=itemgetter(0)):
        _, codes, (time_us, *_), values = zip(*of_reading, strict=True)
        sensor, _ = readings.series[codes[0]]
        metrics = [readings.series[code][1] for code in codes]
        by_metric = dict(zip(metrics, values, strict=True))
        plain = Reading(sensor, time_us, by_metric, index=index)
        describing = described.get(index, plain)
        objects.append(msgspec.structs.replace(plain, tags=describing.tags, units=describing.units))
    return objects
