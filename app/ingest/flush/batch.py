"""The samples of a flush: those of all its uploads, grouped by day and series, without duplicates.

Blocks are sorted by (UTC day, series) and their samples by time. So all flushes take their locks in the same order:
chunks by day, then rows within them.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from operator import attrgetter, itemgetter
from struct import Struct

import msgspec

from app.clock import DAY_US, MINUTE_US
from app.ingest.upload import Upload
from app.model import MetricName, SensorName, SeriesId
from app.summaries import Summaries

#: A sample: microseconds since 1970, position in order of arrival, value.
Point = tuple[int, int, float]

#: A row of PostgreSQL's binary COPY: the number of fields, then each field after its length.
_pack_row = Struct(">hiiiqid").pack
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
#: Readings that are older than this when they are received count as late.
LATE_AFTER_US = 15 * MINUTE_US
#: 2000-01-01T00:00:00Z, from which timestamptz counts.
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Block(msgspec.Struct, frozen=True, gc=False):
    """The samples of one series on one UTC day: at least one, in ascending order of time, each time once."""

    #: Days since 1970.
    day: int
    series_id: SeriesId
    points: list[Point]


class Batch:
    """The blocks of some uploads. Of samples with the same series and time, the first is kept; others are duplicates.

    Raise KeyError if a series is not registered yet.
    """

    def __init__(
        self, uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
    ) -> None:
        self.uploads = uploads
        #: Sorted by (day, series).
        self.blocks = _make_blocks(_collect(uploads, series_of))
        #: Number of values in all blocks.
        self.size = _size(self.blocks)
        #: Position in order of arrival at which each upload ends.
        self._ends = list(accumulate(upload.value_count for upload in uploads))

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Return all samples as columns: series, microseconds since 1970, values."""
        ids = [block.series_id for block in self.blocks for _ in block.points]
        points = [point for block in self.blocks for point in block.points]
        return ids, [point[0] for point in points], [point[2] for point in points]

    def upload_of(self, point: Point) -> Upload:
        """Return the upload that brought a sample."""
        return self.uploads[bisect_right(self._ends, point[1])]

    def counts(self, blocks: Sequence[Block]) -> list[int]:
        """Return for each upload how many samples of the blocks it brought."""
        if self._ends and _size(blocks) == self._ends[-1]:
            return [upload.value_count for upload in self.uploads]
        counts = Counter(bisect_right(self._ends, point[1]) for block in blocks for point in block.points)
        return [counts[number] for number in range(len(self.uploads))]


class NewReadings:
    """The samples of a batch that were not stored before; `blocks` are sorted like the batch's."""

    def __init__(self, batch: Batch, blocks: list[Block]) -> None:
        self.batch = batch
        self.blocks = blocks
        #: Number of new values.
        self.size = _size(blocks)
        #: Number of new values of each upload.
        self.accepted = batch.counts(blocks)
        # Days ascend, so the last block of a series holds its newest sample.
        self.newest: dict[SeriesId, Point] = {block.series_id: block.points[-1] for block in blocks}
        #: Oldest new time of each touched UTC day.
        self.oldest_of_day = {day: min(block.points[0][0] for block in of_day) for day, of_day in by_day(blocks)}

    def summaries(self) -> dict[bool, Summaries]:
        """Return the summary of each series' new readings, by whether these are late.

        Late and fresh readings have separate summaries. One over both would span all stored readings between them, and
        alerting would evaluate these again.
        """
        fresh_from = min(upload.received_us for upload in self.batch.uploads) - LATE_AFTER_US
        if len(self.oldest_of_day) == 1 and min(self.oldest_of_day.values()) >= fresh_from:
            return {False: _summarize([(block.series_id, block.points) for block in self.blocks])}
        fresh: defaultdict[SeriesId, list[Point]] = defaultdict(list)
        late: defaultdict[SeriesId, list[Point]] = defaultdict(list)
        for block in self.blocks:
            first_fresh = bisect_left(block.points, fresh_from, key=itemgetter(0))
            late[block.series_id] += block.points[:first_fresh]
            fresh[block.series_id] += block.points[first_fresh:]
        of_kind = {
            is_late: [(key, points) for key, points in each.items() if points]
            for is_late, each in ((False, fresh), (True, late))
        }
        return {is_late: _summarize(points_of) for is_late, points_of in of_kind.items() if points_of}

    def states(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Return the newest sample of each series as columns (series, time, value), in ascending order of series."""
        ordered = sorted(self.newest)
        points = [self.newest[series_id] for series_id in ordered]
        return ordered, [point[0] for point in points], [point[2] for point in points]


def by_day(blocks: Iterable[Block]) -> Iterator[tuple[int, Iterator[Block]]]:
    """Group sorted blocks by UTC day, in ascending order."""
    return groupby(blocks, key=attrgetter("day"))


def select(blocks: Iterable[Block], keys: Collection[tuple[SeriesId, int]]) -> list[Block]:
    """Return blocks of only the samples with these (series, time)."""
    kept = ((block, [point for point in block.points if (block.series_id, point[0]) in keys]) for block in blocks)
    return [Block(block.day, block.series_id, points) for block, points in kept if points]


def as_columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    """Turn rows of `width` fields into columns, as unnest takes them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


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
    """Return the first sample to arrive for each time; `points` are sorted by time and arrival."""
    if len({point[0] for point in points}) == len(points):
        return points
    return [next(of_time) for _, of_time in groupby(points, key=itemgetter(0))]


def _size(blocks: Iterable[Block]) -> int:
    return sum(len(block.points) for block in blocks)


def _summarize(points_of: Sequence[tuple[SeriesId, list[Point]]]) -> Summaries:
    """Return the summaries of each series' points, which are in ascending order of time."""
    singles = [points[0] for _, points in points_of if len(points) == 1]
    times, _, values = zip(*singles, strict=True) if singles else ((), (), ())
    runs = [(series_id, points) for series_id, points in points_of if len(points) > 1]
    values_of = [[point[2] for point in points] for _, points in runs]
    return Summaries(
        [series_id for series_id, points in points_of if len(points) == 1],
        times,
        values,
        [series_id for series_id, _ in runs],
        [len(points) for _, points in runs],
        [points[0][0] for _, points in runs],
        [points[-1][0] for _, points in runs],
        list(map(min, values_of)),
        list(map(max, values_of)),
        [max(later[0] - point[0] for point, later in pairwise(points)) for _, points in runs],
    )
