"""Summaries of a flush: what ingest knows of the new readings of each series, packed for `dirty`, read by evaluation.

The packed form has little-endian columns without gaps, so that ten thousand series cost a flush little:

    u8     version: 1
    u8[3]  zero
    u32    number of singles (series with one new reading)
    u32    number of runs (series with several new readings)
    singles: series_id i32[], time_us i64[], value f64[]
    runs:    series_id i32[], count u32[], first_us i64[], last_us i64[], lowest f64[], highest f64[],
             widest_gap_us i64[]

A change of the form takes the next version. Processes of two releases share a database, so the reader must know the
version before, too.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Any

import msgspec

from app.model import SeriesId

VERSION = 1
_HEADER = Struct("<B3xII")
#: The array types of the columns of singles and of runs, in their order in the packed form.
_SINGLE_TYPES, _RUN_TYPES = "iqd", "iIqqddq"


class UnknownVersionError(ValueError):
    """Packed summaries have a version that this release does not know."""


class Summary(msgspec.Struct, frozen=True, gc=False):
    """Some new readings of one series."""

    count: int
    first_us: int
    last_us: int
    lowest: float
    highest: float
    #: The longest time between two neighbouring readings, or more.
    widest_gap_us: int

    def join(self, other: "Summary") -> "Summary":
        """Return the summary of both. If they overlap in time, the gap is only bounded from above."""
        between = max(self.first_us, other.first_us) - min(self.last_us, other.last_us)
        return Summary(
            self.count + other.count,
            min(self.first_us, other.first_us),
            max(self.last_us, other.last_us),
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            max(self.widest_gap_us, other.widest_gap_us, between),
        )

    def until(self, us: int) -> "Summary":
        """Return what is known of those readings that are not later than a time; at least the first one is."""
        return msgspec.structs.replace(self, last_us=min(self.last_us, us))

    def after(self, us: int) -> "Summary":
        """Return what is known of those readings that are later than a time; at least the last one is."""
        return msgspec.structs.replace(self, first_us=max(self.first_us, us + 1))


class Summaries(msgspec.Struct, frozen=True):
    """The new readings of some series, as columns. Each series occurs once, either as a single or as a run."""

    single_ids: Sequence[SeriesId] = ()
    single_us: Sequence[int] = ()
    single_values: Sequence[float] = ()
    run_ids: Sequence[SeriesId] = ()
    counts: Sequence[int] = ()
    first_us: Sequence[int] = ()
    last_us: Sequence[int] = ()
    lowest: Sequence[float] = ()
    highest: Sequence[float] = ()
    #: The longest time between two neighbouring new readings.
    widest_gap_us: Sequence[int] = ()

    @classmethod
    def of(cls, items: Iterable[tuple[SeriesId, Summary]]) -> "Summaries":
        """Return summaries of series as columns."""
        singles: list[tuple[Any, ...]] = []
        runs: list[tuple[Any, ...]] = []
        for series_id, summary in items:
            if summary.count == 1:
                singles.append((series_id, summary.first_us, summary.lowest))
            else:
                runs.append((series_id, *msgspec.structs.astuple(summary)))
        columns = [list(zip(*rows, strict=True)) or [()] * width for rows, width in ((singles, 3), (runs, 7))]
        return cls(*columns[0], *columns[1])

    @property
    def series_ids(self) -> list[SeriesId]:
        """All series."""
        return [*self.single_ids, *self.run_ids]

    @property
    def latest_us(self) -> int:
        """The time of the latest reading; there is at least one."""
        return max(*(max(times, default=-(2**63)) for times in (self.single_us, self.last_us)))

    def items(self) -> Iterator[tuple[SeriesId, Summary]]:
        """Yield each series with its summary."""
        for series_id, us, value in zip(self.single_ids, self.single_us, self.single_values, strict=True):
            yield series_id, Summary(1, us, us, value, value, 0)
        runs = (self.counts, self.first_us, self.last_us, self.lowest, self.highest, self.widest_gap_us)
        for series_id, *run in zip(self.run_ids, *runs, strict=True):
            yield series_id, Summary(*run)


def pack(summaries: Summaries) -> bytes:
    """Return summaries in the packed form."""
    columns = msgspec.structs.astuple(summaries)
    header = _HEADER.pack(VERSION, len(summaries.single_ids), len(summaries.run_ids))
    return b"".join((header, *map(_to_bytes, _SINGLE_TYPES + _RUN_TYPES, columns)))


def unpack(packed: bytes) -> Summaries:
    """Return the summaries in a packed form; raise UnknownVersionError if it is of a later release."""
    version, single_count, run_count = _HEADER.unpack_from(packed)
    if version != VERSION:
        raise UnknownVersionError(f"summaries of version {version}; this release knows version {VERSION}")
    columns: list[Any] = []
    start = _HEADER.size
    for types, count in ((_SINGLE_TYPES, single_count), (_RUN_TYPES, run_count)):
        for type_code in types:
            column: array[Any] = array(type_code)
            end = start + count * column.itemsize
            column.frombytes(packed[start:end])
            columns.append(_swapped_on_big_endian(column).tolist())
            start = end
    return Summaries(*columns)


def _to_bytes(type_code: str, column: Sequence[float]) -> bytes:
    return _swapped_on_big_endian(array(type_code, column)).tobytes()


def _swapped_on_big_endian(column: "array[Any]") -> "array[Any]":
    if sys.byteorder == "big":
        column.byteswap()
    return column
