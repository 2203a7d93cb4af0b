"""The rows of one flush: what many uploads bring, deduplicated and in the one order that keeps flushes apart.

A row's key is (UTC day, series, time). Sorted by it, every flush takes its locks in the same order: chunks by day,
then rows within them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct

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


class Batch:
    """Unique rows of some uploads; where two carry the same key, the first stands and the other is a duplicate.

    Raises KeyError when a series is not registered yet.
    """

    def __init__(
        self, uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
    ) -> None:
        self.uploads = uploads
        self.rows: dict[Key, float] = {}
        #: How many of `rows`, which are in order of arrival, came with each upload.
        self.unique_counts: list[int] = []
        rows = self.rows
        for upload in uploads:
            before = len(rows)
            for reading in upload.readings:
                time_us = reading.time_us
                day = time_us // DAY_US
                ids = series_of[reading.sensor]
                for metric, value in reading.values.items():
                    rows.setdefault((day, ids[metric], time_us), value)
            self.unique_counts.append(len(rows) - before)
        self.keys: list[Key] = sorted(rows)

    def by_day(self) -> Iterable[tuple[int, list[Key]]]:
        """Give each day with its keys, ascending."""
        for day, keys in groupby(self.keys, key=itemgetter(0)):
            yield day, list(keys)

    def copy_payload(self, keys: Iterable[Key]) -> bytes:
        """Encode rows for COPY reading (series_id, time, value) FROM STDIN (FORMAT binary)."""
        rows, epoch_us = self.rows, _POSTGRES_EPOCH_US
        body = b"".join([_pack_row(3, 4, key[1], 8, key[2] - epoch_us, 8, rows[key]) for key in keys])
        return _COPY_HEADER + body + _COPY_TRAILER

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give all rows as columns: series, microseconds since 1970, values."""
        series = [key[1] for key in self.keys]
        times = [key[2] for key in self.keys]
        return series, times, [self.rows[key] for key in self.keys]

    def origin(self) -> dict[Key, int]:
        """Find the number of the upload that brought each row."""
        numbers = (number for number, count in enumerate(self.unique_counts) for _ in range(count))
        return dict(zip(self.rows, numbers, strict=True))


class News:
    """What of a batch was really new, and all that follows from it."""

    def __init__(self, batch: Batch, keys: Sequence[Key]) -> None:
        self.batch = batch
        #: Sorted like the batch's.
        self.keys = keys
        self.accepted = _count_accepted(batch, keys)
        # Days ascend, and times within a day and series: the last key of a series is its newest.
        self.newest: dict[SeriesId, Key] = {key[1]: key for key in keys}

    def oldest_of_days(self) -> tuple[list[int], list[int]]:
        """Give each touched UTC day and its oldest new time."""
        oldest = {day: min(map(itemgetter(2), keys)) for day, keys in groupby(self.keys, key=itemgetter(0))}
        return list(oldest), list(oldest.values())

    def states(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give the newest reading of each series as columns, in order of series."""
        ordered = sorted(self.newest)
        keys = [self.newest[series_id] for series_id in ordered]
        return ordered, [key[2] for key in keys], [self.batch.rows[key] for key in keys]


def _count_accepted(batch: Batch, keys: Sequence[Key]) -> list[int]:
    """Count the new values of each upload."""
    if len(keys) == len(batch.rows):
        return batch.unique_counts
    origin = batch.origin()
    counts = Counter(origin[key] for key in keys)
    return [counts[number] for number in range(len(batch.uploads))]
