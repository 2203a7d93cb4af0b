"""The payload of a flush's feed row: its new readings, encoded once for all clients of the live feed."""

from collections.abc import Iterator, Mapping

import msgspec

from app.clock import rfc3339
from app.ingest.flush.batch import NewReadings, Point
from app.model import FeedReading, LegacyRecord, MetricName, SensorName, SeriesId

#: A flush with more new values is a bulk replay: clients get only the newest of each series, and read the rest by HTTP.
FRAME_VALUES_LIMIT = 2_500

SeriesNames = Mapping[SeriesId, tuple[SensorName, MetricName]]
#: Values by metric, for each time in microseconds since 1970 and sensor.
Grouped = dict[tuple[int, SensorName], dict[MetricName, float]]
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
    grouped: Grouped = {}
    for series_id, points in _cut(new) if new.size > FRAME_VALUES_LIMIT else _all(new):
        sensor, metric = names[series_id]
        for time_us, _, value in points:
            grouped.setdefault((time_us, sensor), {})[metric] = value
    return grouped


def split_payload(new: NewReadings, grouped: Grouped, legacy: list[LegacyRecord]) -> list[bytes]:
    """Return the payload in parts, where the id of a legacy record belongs between each two; the ids given are 0."""
    payload = encode_payload(new, grouped, [])
    if not legacy:
        return [payload]
    # A NUL marks the place of an id, because JSON has none.
    records = [b'{"id":\0' + _encode(record).removeprefix(b'{"id":0') for record in legacy]
    return (payload[:-1] + b',"legacy":[' + b",".join(records) + b"]}").split(b"\0")


def encode_payload(new: NewReadings, grouped: Grouped, legacy: list[LegacyRecord]) -> bytes:
    """Return the feed row's payload as JSON, with the readings in order of time."""
    times: dict[int, str] = {}
    readings = []
    for time_us, sensor in sorted(grouped):
        time = times.get(time_us) or times.setdefault(time_us, rfc3339(time_us))
        readings.append(FeedReading(sensor, time, grouped[time_us, sensor]))
    return _encode(FeedPayload(readings, _truncation(new, grouped), legacy))


def _all(new: NewReadings) -> Iterator[tuple[SeriesId, list[Point]]]:
    return ((block.series_id, block.points) for block in new.blocks)


def _cut(new: NewReadings) -> Iterator[tuple[SeriesId, list[Point]]]:
    """Yield the newest sample of each series, and all samples whose upload needs a legacy id for its answer."""
    for series_id, newest in new.newest.items():
        yield series_id, [newest]
    if any(upload.wants_legacy_id for upload in new.batch.uploads):
        for series_id, points in _all(new):
            yield series_id, [point for point in points if new.batch.upload_of(point).wants_legacy_id]


def _truncation(new: NewReadings, grouped: Grouped) -> Truncated | None:
    omitted = new.size - sum(map(len, grouped.values()))
    if not omitted:
        return None
    newest = max(time_us for time_us, _, _ in new.newest.values())
    return Truncated(omitted, rfc3339(min(new.oldest_of_day.values())), rfc3339(newest))
