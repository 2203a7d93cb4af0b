"""What a flush tells the live feed: its new readings, encoded once for every client."""

from collections.abc import Iterator, Mapping

import msgspec

from app.clock import rfc3339
from app.ingest.flush.batch import News, Sample
from app.model import LegacyRecord, MetricName, SensorName, SeriesId

#: A flush of more new values is a bulk replay: clients get the newest of each series, and read the rest by HTTP.
FRAME_VALUES_LIMIT = 2_500

Names = Mapping[SeriesId, tuple[SensorName, MetricName]]
#: Values by metric, of one sensor at one time in microseconds since 1970.
Grouped = dict[tuple[int, SensorName], dict[MetricName, float]]
_encode = msgspec.json.Encoder().encode


class FeedReading(msgspec.Struct, frozen=True, gc=False):
    """A reading as WebSocket clients get it."""

    sensor: SensorName
    time: str
    values: dict[MetricName, float]


class Truncated(msgspec.Struct, frozen=True):
    """How many values of a bulk replay a frame leaves out, and between which times they lie, both included."""

    omitted: int
    from_: str = msgspec.field(name="from")
    to: str = ""


class FeedPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload column of one `feed` row of kind `readings`."""

    readings: list[FeedReading]
    truncated: Truncated | None = None
    legacy: list[LegacyRecord] = []


def group_readings(news: News, names: Names) -> Grouped:
    """Put the new values of a flush, or of a bulk replay the newest of each series, back together as readings."""
    grouped: Grouped = {}
    for series_id, samples in _cut(news) if news.size > FRAME_VALUES_LIMIT else _all(news):
        sensor, metric = names[series_id]
        for time_us, _, value in samples:
            grouped.setdefault((time_us, sensor), {})[metric] = value
    return grouped


def encode_payload(news: News, grouped: Grouped, legacy: list[LegacyRecord]) -> bytes:
    """Write the feed row's payload as JSON, readings in order of time."""
    times: dict[int, str] = {}
    readings = []
    for time_us, sensor in sorted(grouped):
        time = times.get(time_us) or times.setdefault(time_us, rfc3339(time_us))
        readings.append(FeedReading(sensor, time, grouped[time_us, sensor]))
    return _encode(FeedPayload(readings, _truncation(news, grouped), legacy))


def _all(news: News) -> Iterator[tuple[SeriesId, list[Sample]]]:
    return ((block.series_id, block.samples) for block in news.blocks)


def _cut(news: News) -> Iterator[tuple[SeriesId, list[Sample]]]:
    """Keep the newest of each series, and what a client of the replaced sensor server waits for."""
    for series_id, newest in news.newest.items():
        yield series_id, [newest]
    if any(upload.wants_legacy_id for upload in news.batch.uploads):
        for series_id, samples in _all(news):
            yield series_id, [sample for sample in samples if news.batch.upload_of(sample).wants_legacy_id]


def _truncation(news: News, grouped: Grouped) -> Truncated | None:
    omitted = news.size - sum(map(len, grouped.values()))
    if not omitted:
        return None
    newest = max(time_us for time_us, _, _ in news.newest.values())
    return Truncated(omitted, rfc3339(min(news.oldest_of_day.values())), rfc3339(newest))
