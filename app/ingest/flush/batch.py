"""The samples of a flush: those of all its uploads as columns, sorted and without duplicates.

They are sorted by (UTC day, series, time), so that all flushes take their locks in the same order: chunks by day, then
rows within them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from app.clock import DAY_US, MINUTE_US, PENDING_AFTER_US
from app.ingest.uploads.upload import Upload
from app.model import MetricName, SensorName, SeriesId
from app.summaries import Summaries

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: A row of PostgreSQL's binary COPY: the number of fields, then each field after its length.
_COPY_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("id_bytes", ">i4"),
        ("series_id", ">i4"),
        ("time_bytes", ">i4"),
        ("time", ">i8"),
        ("value_bytes", ">i4"),
        ("value", ">f8"),
    ]
)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_ZERO = np.zeros(1, np.int64)
_NONE = np.zeros(0, np.int64)
#: Readings that are older than this when they are received count as late.
LATE_AFTER_US = 15 * MINUTE_US
#: 2000-01-01T00:00:00Z, from which timestamptz counts.
_POSTGRES_EPOCH_US = 946_684_800_000_000


class Samples(msgspec.Struct, frozen=True, eq=False):
    """Samples as columns: a series, a time and a value each."""

    ids: Ints
    #: Microseconds since 1970.
    times_us: Ints
    values: Floats
    #: Position in order of arrival.
    places: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: npt.NDArray[np.bool_] | Ints | slice) -> "Samples":
        """Return some of the samples, or all in another order."""
        return Samples(self.ids[which], self.times_us[which], self.values[which], self.places[which])

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Return the samples of all parts, at least one, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.times_us for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.places for part in parts]),
        )

    def columns(self) -> tuple[list[SeriesId], list[int], list[float]]:
        """Return the columns as asyncpg takes them: series, microseconds since 1970, values."""
        return self.ids.tolist(), self.times_us.tolist(), self.values.tolist()


class Batch:
    """The samples of some uploads. The first sample of a series and time is kept; further ones are duplicates.

    Raise KeyError if a series is not registered yet.
    """

    def __init__(
        self, uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]
    ) -> None:
        self.uploads = uploads
        #: `samples` is sorted by (day, series, time). `conflicts` are the positions in order of arrival of the samples
        #: that were left out although their value differs from the one that is kept.
        self.samples, self.conflicts = _drop_duplicates(_sort(_collect(uploads, series_of)))
        #: Position in order of arrival at which each upload ends.
        self._ends = np.cumsum([upload.value_count for upload in uploads], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def pending_after_us(self) -> int:
        """Samples that are later than this are pending: their time has not come yet."""
        return max(upload.received_us for upload in self.uploads) + PENDING_AFTER_US

    @property
    def has_pending(self) -> bool:
        """Return whether a sample is pending."""
        return self.size > 0 and int(self.samples.times_us.max()) > self.pending_after_us

    def numbers(self, samples: Samples) -> Ints:
        """Return for each sample the position of the upload that brought it."""
        return np.searchsorted(self._ends, samples.places, side="right")

    def counts(self, places: Ints) -> list[int]:
        """Return for each upload how many of the samples at these positions in order of arrival it brought."""
        if self.uploads and len(places) == self._ends[-1]:
            return [upload.value_count for upload in self.uploads]
        if not len(places):
            return [0] * len(self.uploads)
        numbers = np.searchsorted(self._ends, places, side="right")
        counts: list[int] = np.bincount(numbers, minlength=len(self.uploads)).tolist()
        return counts


class NewReadings:
    """The samples of a batch that were not stored before, sorted like the batch's.

    `conflicts` are the positions, in order of arrival, of the samples for which another value is stored.
    """

    def __init__(self, batch: Batch, samples: Samples, conflicts: Ints = _NONE) -> None:
        self.batch = batch
        self.samples = samples
        #: Of each upload, the number of its new values, and of its values that differ from those taken before.
        self.accepted = batch.counts(samples.places)
        self.conflicts = batch.counts(np.concatenate((batch.conflicts, conflicts)))
        #: Sorted by (series, time), and the position of the first and the last sample of each series.
        self._by_series = _sort_by_series(samples)
        self._starts, self._ends = _runs(self._by_series.ids)
        #: The newest sample of each series, in ascending order of series.
        self.newest = self._by_series.take(self._ends)

    @property
    def size(self) -> int:
        """Number of new values."""
        return len(self.samples)

    def newest_that_count(self) -> Samples:
        """Return the newest sample of each series that is not pending, in ascending order of series."""
        if not self.batch.has_pending:
            return self.newest
        some = self._by_series.take(self._by_series.times_us <= self.batch.pending_after_us)
        return some.take(_runs(some.ids)[1])

    def oldest_of_day(self) -> dict[int, int]:
        """Return the oldest new time of each touched UTC day, in days and microseconds since 1970."""
        if not self.size:
            return {}
        days = self.samples.times_us // DAY_US
        starts, _ = _runs(days)
        oldest_us = np.minimum.reduceat(self.samples.times_us, starts)
        return dict(zip(days[starts].tolist(), oldest_us.tolist(), strict=True))

    def summaries(self) -> dict[bool, Summaries]:
        """Return the summary of each series' new samples, by whether these are late.

        Late and fresh samples have separate summaries. A common summary would span all stored readings between them,
        and alerting would evaluate those again.
        """
        return {is_late: _summarize(some, starts, ends) for is_late, some, starts, ends in self._fresh_and_late()}

    def _fresh_and_late(self) -> Iterator[tuple[bool, Samples, Ints, Ints]]:
        """Yield the fresh and the late samples, if there are any, sorted by (series, time), with the ends of series."""
        fresh_from = min(upload.received_us for upload in self.batch.uploads) - LATE_AFTER_US
        is_late = self._by_series.times_us < fresh_from
        if not is_late.any():
            yield False, self._by_series, self._starts, self._ends
            return
        for kind, some in ((False, self._by_series.take(~is_late)), (True, self._by_series.take(is_late))):
            if len(some):
                yield kind, some, *_runs(some.ids)


def by_day(samples: Samples) -> Iterator[Samples]:
    """Split sorted samples by UTC day, in ascending order."""
    days = samples.times_us // DAY_US
    for start, end in pairwise([*_runs(days)[0].tolist(), len(days)]):
        yield samples.take(slice(start, end))


def split(samples: Samples, series_ids: Sequence[SeriesId], times_us: Sequence[int]) -> tuple[Samples, Samples]:
    """Return the samples with these series and times, given as columns of some of them, and the other samples."""
    if len(series_ids) in (0, len(samples)):
        return samples.take(slice(len(series_ids))), samples.take(slice(len(series_ids), None))
    all_ids, all_times = np.unique(samples.ids), np.unique(samples.times_us)

    def number(ids: Ints, times: Ints) -> Ints:
        """Return a number for each (series, time)."""
        return np.searchsorted(all_ids, ids) * len(all_times) + np.searchsorted(all_times, times)

    asked = number(np.array(series_ids, np.int64), np.array(times_us, np.int64))
    is_one = np.isin(number(samples.ids, samples.times_us), asked)
    return samples.take(is_one), samples.take(~is_one)


def as_columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    """Turn rows of `width` fields into columns, as unnest takes them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def copy_payload(samples: Samples) -> bytes:
    """Encode samples for COPY reading (series_id, time, value) FROM STDIN (FORMAT binary)."""
    rows = np.empty(len(samples), _COPY_ROW)
    rows["fields"] = 3
    rows["id_bytes"], rows["time_bytes"], rows["value_bytes"] = 4, 8, 8
    rows["series_id"] = samples.ids
    rows["time"] = samples.times_us - _POSTGRES_EPOCH_US
    rows["value"] = samples.values
    return b"".join((_COPY_HEADER, rows.data, _COPY_TRAILER))


def _collect(uploads: Sequence[Upload], series_of: Mapping[SensorName, Mapping[MetricName, SeriesId]]) -> Samples:
    """Return the samples of all uploads in order of arrival."""
    all_readings = [upload.readings for upload in uploads]
    # One table of the series of all uploads, one upload after the other.
    ids = np.array([series_of[sensor][metric] for each in all_readings for sensor, metric in each.series], np.int64)
    ends = list(accumulate((len(each.series) for each in all_readings), initial=0))
    begins = np.repeat(np.array(ends[:-1], np.int64), [len(each.codes) for each in all_readings])
    codes = np.frombuffer(b"".join([each.codes for each in all_readings]), np.int64)
    times_us = np.frombuffer(b"".join([each.times_us for each in all_readings]), np.int64)
    # The sum is 0 also for -0, which some formats lose.
    values = np.frombuffer(b"".join([each.values for each in all_readings]), np.float64) + 0.0
    return Samples(ids[codes + begins], times_us, values, np.arange(len(times_us)))


def _sort(samples: Samples) -> Samples:
    """Sort samples by (UTC day, series, time), and equal ones in order of arrival."""
    return samples.take(np.lexsort((samples.times_us, samples.ids, samples.times_us // DAY_US)))


def _sort_by_series(samples: Samples) -> Samples:
    """Sort samples, which are sorted by (day, series, time), by (series, time)."""
    if not len(samples) or samples.times_us[0] // DAY_US == samples.times_us[-1] // DAY_US:
        return samples
    # Stable, so that the samples of a series stay in order of time, because days ascend.
    return samples.take(np.argsort(samples.ids, kind="stable"))


def _drop_duplicates(samples: Samples) -> tuple[Samples, Ints]:
    """Keep the first sample to arrive for each series and time; also return the places of others with other values."""
    is_first = np.ones(len(samples), bool)
    ids, times_us = samples.ids, samples.times_us
    is_first[1:] = (ids[1:] != ids[:-1]) | (times_us[1:] != times_us[:-1])
    if is_first.all():
        return samples, _NONE
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(samples)), 0))
    return samples.take(is_first), samples.places[samples.values != samples.values[firsts]]


def _runs(column: Ints) -> tuple[Ints, Ints]:
    """Return the positions of the first and of the last of each run of equal values."""
    if not len(column):
        return column, column
    starts = np.concatenate((_ZERO, (column[1:] != column[:-1]).nonzero()[0] + 1))
    return starts, np.concatenate((starts[1:], (len(column),))) - 1


def _summarize(samples: Samples, starts: Ints, ends: Ints) -> Summaries:
    """Return the summaries of samples that are sorted by (series, time); there is at least one."""
    if len(starts) == len(samples):
        return Summaries(*samples.columns())
    is_single = starts == ends
    singles, firsts, lasts = starts[is_single], starts[~is_single], ends[~is_single]
    gaps = np.diff(samples.times_us, prepend=0)
    gaps[starts] = 0
    lowest, highest, widest_gaps = (
        function.reduceat(column, starts)[~is_single].tolist()
        for function, column in ((np.minimum, samples.values), (np.maximum, samples.values), (np.maximum, gaps))
    )
    return Summaries(
        samples.ids[singles].tolist(),
        samples.times_us[singles].tolist(),
        samples.values[singles].tolist(),
        samples.ids[firsts].tolist(),
        (lasts - firsts + 1).tolist(),
        samples.times_us[firsts].tolist(),
        samples.times_us[lasts].tolist(),
        lowest,
        highest,
        widest_gaps,
    )
