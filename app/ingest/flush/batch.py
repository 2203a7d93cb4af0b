"""What one flush stores: what many uploads bring, by day and series, deduplicated.

Blocks are sorted by (UTC day, series) and their samples by time, so every flush takes its locks in the same order:
chunks by day, then rows within them.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter, itemgetter
from struct import Struct

import msgspec

from app.clock import DAY_US, MINUTE_US
from app.ingest.upload import Upload
from app.model import MetricName, SensorName, SeriesId

#: Microseconds since 1970, place in order of arrival, value.
Point = tuple[int, int, float]

#: One row of PostgreSQL's binary COPY: three fields, each with its length; timestamptz counts from 2000.
_pack_row = Struct(">hiiiqid").pack
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
#: Readings older than this when they are received count as late.
LATE_AFTER_US = 15 * MINUTE_US
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Block(msgspec.Struct, frozen=True, gc=False):
    """What one series gets on one UTC day, counted since 1970: at least one sample, in order of time, none twice."""

    day: int
    series_id: SeriesId
    points: list[Point]


class Batch:
    """The blocks of some uploads; where two carry the same key, the first stands and the other is a duplicate.

    Raises KeyError when a series is not registered yet.
    """

    def __init__(
        self, uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
    ) -> None:
        self.uploads = uploads
        #: Sorted by (day, series).
        self.blocks = _make_blocks(_collect(uploads, series_of))
        #: Values in all blocks.
        self.size = _size(self.blocks)
        #: Place in order of arrival at which each upload ends.
        self._ends = list(accumulate(upload.value_count for upload in uploads))

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give all samples as columns: series, microseconds since 1970, values."""
        ids = [block.series_id for block in self.blocks for _ in block.points]
        points = [point for block in self.blocks for point in block.points]
        return ids, [point[0] for point in points], [point[2] for point in points]

    def upload_of(self, point: Point) -> Upload:
        """Find the upload that brought a sample."""
        return self.uploads[bisect_right(self._ends, point[1])]

    def counts(self, blocks: Sequence[Block]) -> list[int]:
        """Count the samples that each upload brought."""
        if self._ends and _size(blocks) == self._ends[-1]:
            return [upload.value_count for upload in self.uploads]
        counts = Counter(bisect_right(self._ends, point[1]) for block in blocks for point in block.points)
        return [counts[number] for number in range(len(self.uploads))]


class NewReadings:
    """What of a batch was really new, and all that follows from it; `blocks` are sorted like the batch's."""

    def __init__(self, batch: Batch, blocks: list[Block]) -> None:
        self.batch = batch
        self.blocks = blocks
        #: New values in all.
        self.size = _size(blocks)
        #: New values of each upload.
        self.accepted = batch.counts(blocks)
        # Days ascend: a series' last block holds its newest sample.
        self.newest: dict[SeriesId, Point] = {block.series_id: block.points[-1] for block in blocks}
        #: Oldest new time of each touched UTC day.
        self.oldest_of_day = {day: min(block.points[0][0] for block in of_day) for day, of_day in by_day(blocks)}

    def ranges(self) -> dict[bool, tuple[list[SeriesId], list[int], list[int]]]:
        """Give the times that each series got new readings in, as columns; late ones apart from fresh.

        One range over both would span, and make alerting look at, all that is stored between them.
        """
        fresh_from = min(upload.received_us for upload in self.batch.uploads) - LATE_AFTER_US
        fresh: dict[SeriesId, tuple[int, int]] = {}
        late: dict[SeriesId, tuple[int, int]] = {}
        for block in self.blocks:
            first_fresh = bisect_left(block.points, fresh_from, key=itemgetter(0))
            _extend(late, block.series_id, block.points[:first_fresh])
            _extend(fresh, block.series_id, block.points[first_fresh:])
        return {is_late: _as_columns(ranges) for is_late, ranges in ((False, fresh), (True, late)) if ranges}

    def states(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Give the newest reading of each series as columns, in order of series."""
        ordered = sorted(self.newest)
        points = [self.newest[series_id] for series_id in ordered]
        return ordered, [point[0] for point in points], [point[2] for point in points]


def by_day(blocks: Iterable[Block]) -> Iterator[tuple[int, Iterator[Block]]]:
    """Split sorted blocks into UTC days, ascending."""
    return groupby(blocks, key=attrgetter("day"))


def select(blocks: Iterable[Block], keys: Collection[tuple[SeriesId, int]]) -> list[Block]:
    """Keep the samples with these (series, time)."""
    kept = ((block, [point for point in block.points if (block.series_id, point[0]) in keys]) for block in blocks)
    return [Block(block.day, block.series_id, points) for block, points in kept if points]


def copy_payload(blocks: Iterable[Block]) -> bytes:
    """Encode blocks for COPY reading (series_id, time, value) FROM STDIN (FORMAT binary)."""
    pack, epoch_us = _pack_row, _POSTGRES_EPOCH_US
    rows = [
        pack(3, 4, series_id, 8, time_us - epoch_us, 8, value)
        for series_id, points in [(block.series_id, block.points) for block in blocks]
        for time_us, _, value in points
    ]
    return _COPY_HEADER + b"".join(rows) + _COPY_TRAILER


def _collect(
    uploads: Iterable[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
) -> dict[SeriesId, list[Point]]:
    collected: defaultdict[SeriesId, list[Point]] = defaultdict(list)
    place = 0
    for upload in uploads:
        for reading in upload.readings:
            time_us = reading.time_us
            ids = series_of[reading.sensor]
            for metric, value in reading.values.items():
                collected[ids[metric]].append((time_us, place, value))
                place += 1
    return collected


def _make_blocks(collected: Mapping[SeriesId, list[Point]]) -> list[Block]:
    blocks: list[Block] = []
    for series_id, points in collected.items():
        points.sort()
        unique = _drop_duplicates(points)
        day = unique[0][0] // DAY_US
        if unique[-1][0] // DAY_US == day:
            blocks.append(Block(day, series_id, unique))
        else:
            days = groupby(unique, key=lambda point: point[0] // DAY_US)
            blocks += [Block(day, series_id, list(of_day)) for day, of_day in days]
    blocks.sort(key=attrgetter("day", "series_id"))
    return blocks


def _drop_duplicates(points: list[Point]) -> list[Point]:
    """Keep the first arrival of each time; sorted, the others follow it at once."""
    if len({point[0] for point in points}) == len(points):
        return points
    return [next(of_time) for _, of_time in groupby(points, key=itemgetter(0))]


def _size(blocks: Iterable[Block]) -> int:
    return sum(len(block.points) for block in blocks)


def _extend(ranges: dict[SeriesId, tuple[int, int]], series_id: SeriesId, points: list[Point]) -> None:
    """Extend a series' range up to these samples; those of one series come in order of time."""
    if points:
        earliest, _ = ranges.get(series_id, (points[0][0], 0))
        ranges[series_id] = (earliest, points[-1][0])


def _as_columns(ranges: Mapping[SeriesId, tuple[int, int]]) -> tuple[list[SeriesId], list[int], list[int]]:
    return list(ranges), [earliest for earliest, _ in ranges.values()], [latest for _, latest in ranges.values()]
