"""The rows of one flush: what many uploads bring, deduplicated and in the one order that keeps flushes apart.

Rows are sorted by (UTC day, series, time), so every flush takes its locks in the same order: chunks by day, then
rows within them.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from struct import Struct

from app.clock import DAY_US, MINUTE_US
from app.ingest.upload import Upload
from app.model import MetricName, SensorName, SeriesId

#: UTC day since 1970, series, microseconds since 1970, place in order of arrival, value.
Row = tuple[int, SeriesId, int, int, float]

#: One row of PostgreSQL's binary COPY: three fields, each with its length; timestamptz counts from 2000.
_pack_row = Struct(">hiiiqid").pack
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
#: Readings older than this when they are received count as late.
LATE_AFTER_US = 15 * MINUTE_US
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Batch:
    """Unique rows of some uploads; where two carry the same key, the first stands and the other is a duplicate.

    Raises KeyError when a series is not registered yet.
    """

    def __init__(
        self, uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
    ) -> None:
        self.uploads = uploads
        rows: list[Row] = []
        place = 0
        for upload in uploads:
            for reading in upload.readings:
                time_us = reading.time_us
                day = time_us // DAY_US
                ids = series_of[reading.sensor]
                for metric, value in reading.values.items():
                    rows.append((day, ids[metric], time_us, place, value))
                    place += 1
        rows.sort()
        #: Sorted and unique.
        self.rows = _drop_duplicates(rows)
        #: Place in order of arrival at which each upload ends.
        self._ends = list(accumulate(upload.value_count for upload in uploads))

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give all rows as columns: series, microseconds since 1970, values."""
        rows = self.rows
        return [row[1] for row in rows], [row[2] for row in rows], [row[4] for row in rows]

    def upload_of(self, row: Row) -> Upload:
        """Find the upload that brought a row."""
        return self.uploads[bisect_right(self._ends, row[3])]

    def counts(self, rows: Sequence[Row]) -> list[int]:
        """Count the rows that each upload brought."""
        if self._ends and len(rows) == self._ends[-1]:
            return [upload.value_count for upload in self.uploads]
        counts = Counter(bisect_right(self._ends, row[3]) for row in rows)
        return [counts[number] for number in range(len(self.uploads))]


class News:
    """What of a batch was really new, and all that follows from it; `rows` are sorted like the batch's."""

    def __init__(self, batch: Batch, rows: list[Row]) -> None:
        self.batch = batch
        self.rows = rows
        #: New values of each upload.
        self.accepted = batch.counts(rows)
        # Days ascend, and times within a day and series: the last row of a series is its newest.
        self.newest: dict[SeriesId, Row] = {row[1]: row for row in rows}
        #: Oldest new time of each touched UTC day.
        self.oldest_of_day = {day: min(map(itemgetter(2), of_day)) for day, of_day in by_day(rows)}

    def ranges(self) -> dict[bool, tuple[list[SeriesId], list[int], list[int]]]:
        """Give the times that each series got new readings in, as columns; late ones apart from fresh.

        One range over both would span, and make alerting look at, all that is stored between them.
        """
        fresh_from = min(upload.received_us for upload in self.batch.uploads) - LATE_AFTER_US
        if min(self.oldest_of_day.values(), default=fresh_from) >= fresh_from:
            return {False: _ranges(self.rows)} if self.rows else {}
        if max(row[2] for row in self.newest.values()) < fresh_from:
            return {True: _ranges(self.rows)}
        fresh = [row for row in self.rows if row[2] >= fresh_from]
        late = [row for row in self.rows if row[2] < fresh_from]
        return {is_late: _ranges(rows) for is_late, rows in ((False, fresh), (True, late)) if rows}

    def states(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give the newest reading of each series as columns, in order of series."""
        ordered = sorted(self.newest)
        rows = [self.newest[series_id] for series_id in ordered]
        return ordered, [row[2] for row in rows], [row[4] for row in rows]


def _ranges(rows: list[Row]) -> tuple[list[SeriesId], list[int], list[int]]:
    """Find the earliest and the latest time of each series; rows of one series ascend."""
    latest = {row[1]: row[2] for row in rows}
    earliest = {row[1]: row[2] for row in reversed(rows)}
    return list(latest), [earliest[series_id] for series_id in latest], list(latest.values())


def by_day(rows: list[Row]) -> list[tuple[int, list[Row]]]:
    """Split sorted rows into UTC days, ascending."""
    if rows and rows[0][0] == rows[-1][0]:
        return [(rows[0][0], rows)]
    return [(day, list(of_day)) for day, of_day in groupby(rows, key=itemgetter(0))]


def select(rows: Iterable[Row], keys: Collection[tuple[SeriesId, int]]) -> list[Row]:
    """Keep the rows with these (series, time)."""
    return [row for row in rows if (row[1], row[2]) in keys]


def copy_payload(rows: Iterable[Row]) -> bytes:
    """Encode rows for COPY reading (series_id, time, value) FROM STDIN (FORMAT binary)."""
    epoch_us = _POSTGRES_EPOCH_US
    body = b"".join([_pack_row(3, 4, row[1], 8, row[2] - epoch_us, 8, row[4]) for row in rows])
    return _COPY_HEADER + body + _COPY_TRAILER


def _drop_duplicates(rows: list[Row]) -> list[Row]:
    """Keep the first arrival of each key; sorted, the others follow it at once."""
    unique: list[Row] = []
    last_series = last_time = -1
    for row in rows:
        if row[2] != last_time or row[1] != last_series:
            unique.append(row)
            last_series, last_time = row[1], row[2]
    return unique
