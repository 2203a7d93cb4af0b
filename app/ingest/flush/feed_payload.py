"""The payload of a flush's feed row: its new readings, encoded once for all clients of the live feed."""

from collections.abc import Mapping

import msgspec
import numpy as np

from app.clock import rfc3339
from app.ingest.flush.batch import Ints, NewReadings, Samples
from app.model import FeedReading, LegacyRecord, MetricName, SensorName, SeriesId

#: A flush with more new values is a bulk replay: clients get only the newest of each series, and read the rest by HTTP.
FRAME_VALUES_LIMIT = 2_500

SeriesNames = Mapping[SeriesId, tuple[SensorName, MetricName]]
#: Time in microseconds since 1970, sensor and values by metric of each reading, in order of (time, sensor).
Grouped = list[tuple[int, SensorName, dict[MetricName, float]]]
_encode = msgspec.json.Encoder().encode


class Truncated(msgspec.Struct, frozen=True):
    """The number of values of a bulk replay that a frame omits, and the range of their times, both ends included."""

    omitted: int
    from_: str = msgspec.field(name="from")
    to: str = ""


class FeedPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The column `payload` of a `feed` row of kind `readings`."""

    readings: list[FeedReading]
    truncated: Truncated | None = None
    legacy: list[LegacyRecord] = []


def group_readings(new: NewReadings, names: SeriesNames) -> Grouped:
    """Return the new values of a flush as readings; of a bulk replay, only the newest value of each series."""
    shown = _cut(new) if new.size > FRAME_VALUES_LIMIT else new.samples
    of_series = [names[series_id] for series_id in new.newest.ids.tolist()]
    codes = np.searchsorted(new.newest.ids, shown.ids)
    order = np.lexsort((codes, _ranks([sensor for sensor, _ in of_series])[codes], shown.times_us))
    _, times_us, values = shown.take(order).columns()
    grouped: Grouped = []
    before: tuple[int, SensorName] | None = None
    for code, time_us, value in zip(codes[order].tolist(), times_us, values, strict=True):
        sensor, metric = of_series[code]
        if (time_us, sensor) == before:
            grouped[-1][2][metric] = value
        else:
            grouped.append((time_us, sensor, {metric: value}))
            before = (time_us, sensor)
    return grouped


def split_payload(new: NewReadings, grouped: Grouped, legacy: list[LegacyRecord]) -> list[bytes]:
    """Return the payload in parts; between two parts belongs the id of a legacy record. The records given have id 0."""
    payload = encode_payload(new, grouped, [])
    if not legacy:
        return [payload]
    # A NUL marks the place of an id, because JSON has none.
    records = [b'{"id":\0' + _encode(record).removeprefix(b'{"id":0') for record in legacy]
    return (payload[:-1] + b',"legacy":[' + b",".join(records) + b"]}").split(b"\0")


def encode_payload(new: NewReadings, grouped: Grouped, legacy: list[LegacyRecord]) -> bytes:
    """Return the feed row's payload as JSON, with the readings in order of time."""
    readings = []
    before_us, time = None, ""
    for time_us, sensor, values in grouped:
        if time_us != before_us:
            before_us, time = time_us, rfc3339(time_us)
        readings.append(FeedReading(sensor, time, values))
    return _encode(FeedPayload(readings, _truncation(new, grouped), legacy))


def _cut(new: NewReadings) -> Samples:
    """Return the newest sample of each series, and all samples whose upload needs a legacy id for its answer."""
    needs_id = np.array([upload.wants_legacy_id for upload in new.batch.uploads], bool)
    if not needs_id.any():
        return new.newest
    return Samples.join([new.newest, new.samples.take(needs_id[new.batch.numbers(new.samples)])])


def _ranks(sensors: list[SensorName]) -> Ints:
    """Return for each sensor its position among all in order of name."""
    ranks = {sensor: rank for rank, sensor in enumerate(sorted(set(sensors)))}
    return np.array([ranks[sensor] for sensor in sensors], np.int64)


def _truncation(new: NewReadings, grouped: Grouped) -> Truncated | None:
    omitted = new.size - sum(len(values) for _, _, values in grouped)
    if not omitted:
        return None
    times_us = new.samples.times_us
    return Truncated(omitted, rfc3339(int(times_us.min())), rfc3339(int(times_us.max())))
