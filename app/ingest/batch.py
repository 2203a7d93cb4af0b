"""The rows of one flush: what many uploads bring, deduplicated and in the one order that keeps flushes apart.

A row's key is (UTC day, series, time). Sorted by it, every flush takes its locks in the same order: chunks by day,
then rows within them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Protocol

from app.clock import DAY_US
from app.ingest.upload import Upload
from app.model import MetricName, SensorName, SeriesId

#: UTC day since 1970, series, microseconds since 1970.
Key = tuple[int, SeriesId, int]

#: One row of PostgreSQL's binary COPY: three fields, each with its length; timestamptz counts from 2000.
_pack_row = Struct(">hiiiqid").pack
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH_US = 946_684_800_000_000


class SeriesOf(Protocol):
    """Knows the series of every sensor in the batch."""

    def __getitem__(self, sensor: SensorName, /) -> Mapping[MetricName, SeriesId]: ...


class Batch:
    """Unique rows of some uploads; where two carry the same key, the first stands and the other is a duplicate."""

    def __init__(self, uploads: Sequence[Upload], series_of: SeriesOf) -> None:
        self.uploads = uploads
        #: Value and number of the upload that brought it.
        self.rows: dict[Key, tuple[float, int]] = {}
        self.value_count = 0
        rows = self.rows
        for number, upload in enumerate(uploads):
            for reading in upload.readings:
                time_us = reading.time_us
                day = time_us // DAY_US
                ids = series_of[reading.sensor]
                for metric, value in reading.values.items():
                    rows.setdefault((day, ids[metric], time_us), (value, number))
                self.value_count += len(reading.values)
        self.keys: list[Key] = sorted(rows)

    def by_day(self) -> Iterable[tuple[int, list[Key]]]:
        """Give each day with its keys, ascending."""
        for day, keys in groupby(self.keys, key=itemgetter(0)):
            yield day, list(keys)

    def copy_payload(self, keys: Iterable[Key]) -> bytes:
        """Encode rows for COPY reading (series_id, time, value) FROM STDIN (FORMAT binary)."""
        rows = self.rows
        body = b"".join([_pack_row(3, 4, key[1], 8, key[2] - _POSTGRES_EPOCH_US, 8, rows[key][0]) for key in keys])
        return _COPY_HEADER + body + _COPY_TRAILER

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give all rows as columns: series, microseconds since 1970, values."""
        series = [key[1] for key in self.keys]
        times = [key[2] for key in self.keys]
        return series, times, [self.rows[key][0] for key in self.keys]


class News:
    """What of a batch was really new, and all that follows from it."""

    def __init__(self, batch: Batch, keys: Sequence[Key]) -> None:
        self.batch = batch
        self.keys = keys
        #: New values of each upload.
        self.accepted = [0] * len(batch.uploads)
        #: Newest new time and value of each series.
        self.newest: dict[SeriesId, tuple[int, float]] = {}
        #: Oldest new time of each UTC day.
        self.oldest_of_day: dict[int, int] = {}
        rows, newest, oldest = batch.rows, self.newest, self.oldest_of_day
        for key in keys:
            day, series_id, time_us = key
            value, number = rows[key]
            self.accepted[number] += 1
            known = newest.get(series_id)
            if known is None or time_us > known[0]:
                newest[series_id] = (time_us, value)
            if time_us < oldest.setdefault(day, time_us):
                oldest[day] = time_us

    def states(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give the newest reading of each series as columns, in order of series."""
        ordered = sorted(self.newest)
        times = [self.newest[series_id][0] for series_id in ordered]
        return ordered, times, [self.newest[series_id][1] for series_id in ordered]
