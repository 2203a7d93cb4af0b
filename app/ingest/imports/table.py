"""The two forms of CSV that can be imported, and what makes readings of their lines.

Long: the columns sensor, time, metric and value, as `tidegauge export` writes them; a column unit is left out. Wide:
the columns sensor and time, and one for each metric, in which an empty cell is no value. Columns may be in any order.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from app.clock import DAY_US, rfc3339, to_us
from app.db.aggregates import find_raw_retention
from app.db.edition import Edition, detect_edition
from app.db.pool import Connection
from app.errors import AppError
from app.hints import did_you_mean, shown
from app.ingest.checks import (
    Refusal,
    check_datetime,
    check_time,
    check_value,
    refuse_metric,
    refuse_sensor,
    show_time,
    time_limits,
)
from app.model import Reading
from app.names import is_metric_name, is_sensor_name, show, tidy_name

_LONG = {"sensor", "time", "metric", "value"}
#: Matches the last line of a quoted cell that spans several lines, which would be read as a row.
_STRAY_QUOTE = re.compile(r'^(?:[^",]*|"(?:[^"]|"")*")(?:,(?:[^",]*|"(?:[^"]|"")*"))*[^",]"')
_MILLISECONDS = re.compile(r"-?[0-9]{1,15}")
#: Earlier times are mistakes.
_EARLIEST_US = to_us(datetime(1800, 1, 1, tzinfo=UTC))
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class InvalidFileError(AppError):
    """A file is no CSV that can be imported."""

    code = "invalid_file"
    title = "The file cannot be imported"


class RawRetention(msgspec.Struct, frozen=True):
    """Time for which the database keeps raw readings, None for ever, and its edition."""

    retention: timedelta | None
    edition: Edition

    def check(self, time_us: int, received_us: int) -> Refusal | None:
        """Return a refusal if retention could drop a reading at any moment or its time is in the future, else None."""
        if time_us > time_limits(received_us)[1]:
            return check_time(time_us, received_us)
        if time_us < _EARLIEST_US:
            return "time_too_old", f"time is {show_time(time_us)}; readings may be as old as {rfc3339(_EARLIEST_US)}"
        if self.retention is None or time_us >= received_us - (self.retention // timedelta(microseconds=1) - DAY_US):
            return None
        return "time_too_old", (
            f"time is {rfc3339(time_us)}, older than the {self.retention.days - 1} days that are kept; "
            + (
                "lengthen the retention policy of `reading`, or remove it"
                if self.edition == "community"
                else "the Apache-2 edition keeps no more, TimescaleDB Community can"
            )
        )


async def find_kept(connection: Connection) -> RawRetention:
    """Return the retention of the database."""
    return RawRetention(await find_raw_retention(connection), await detect_edition(connection))


class CsvTable:
    """The columns of a file, from its first line; raises InvalidFileError."""

    def __init__(self, header: bytes) -> None:
        names = _read_header(header)
        self._width = len(names)
        self._sensor, self._time = names.index("sensor"), names.index("time")
        self.is_long = set(names) >= _LONG
        if self.is_long:
            self._metric, self._value = names.index("metric"), names.index("value")
            for name in set(names) - _LONG - {"unit"}:
                raise InvalidFileError(
                    f"The first line has the columns metric and value, and {show(name)}; leave that column out"
                )
        self._metrics = [
            (place, name) for place, name in enumerate(names) if not self.is_long and place not in self._named
        ]
        for _, name in self._metrics:
            if not is_metric_name(name):
                raise InvalidFileError(f"In the first line, {refuse_metric(name)[1]}")

    @property
    def _named(self) -> tuple[int, int]:
        return self._sensor, self._time

    def parse(self, line: bytes, kept: RawRetention, received_us: int) -> tuple[Reading | None, list[Refusal]]:
        """Return the reading of a line, None if it has none, and the refusals of the line or of single values."""
        cells = _split(line)
        if isinstance(cells, tuple):
            return None, [cells]
        if len(cells) != self._width:
            return None, [
                ("reading_invalid", f"the line has {len(cells)} cells; write {self._width}, as the first line has")
            ]
        sensor = tidy_name(cells[self._sensor])
        if not is_sensor_name(sensor):
            return None, [refuse_sensor(sensor)]
        time_us = parse_time(cells[self._time])
        refusal = time_us if isinstance(time_us, tuple) else kept.check(time_us, received_us)
        if isinstance(time_us, tuple) or refusal is not None:
            return None, [refusal] if refusal else []
        values: dict[str, float] = {}
        refusals = []
        for metric, text in self._texts(cells):
            metric, value = tidy_name(metric), _parse_value(text)
            refusal = check_value(metric, value) if is_metric_name(metric) else refuse_metric(metric)
            if refusal is None:
                values[metric] = float(value)
            else:
                refusals.append(refusal)
        return Reading(sensor, time_us, values) if values else None, refusals

    def _texts(self, cells: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the metrics of a line with the texts of their values."""
        if self.is_long:
            yield cells[self._metric], cells[self._value]
        for place, metric in self._metrics:
            if cells[place]:
                yield metric, cells[place]


@lru_cache(maxsize=4_096)
def parse_time(text: str) -> int | Refusal:
    """Return a time in microseconds since 1970, or a refusal."""
    if _MILLISECONDS.fullmatch(text):
        return int(text) * 1_000
    with suppress(msgspec.ValidationError):
        return check_datetime(msgspec.convert(text, datetime))
    return "time_invalid", (
        f"time is {show(text)}; write RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970"
    )


def _parse_value(text: str) -> float | str:
    """Return the number in a text, also NaN and infinities; return any other text unchanged, so that it is refused."""
    if _NUMBER.fullmatch(text) or text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(text)
    return text


def _read_header(header: bytes) -> list[str]:
    if header.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidFileError("The file is UTF-16; save it as UTF-8")
    cells = _split(header.removeprefix(b"\xef\xbb\xbf"))
    if isinstance(cells, tuple):
        raise InvalidFileError(f"The first line is no list of columns: {cells[1]}")
    names = [tidy_name(cell) for cell in cells]
    for separator in (";", "\t"):
        if len(names) == 1 and separator in names[0]:
            raise InvalidFileError(f"The columns are separated by {separator!r}; separate them by commas")
    for name in ("sensor", "time"):
        if name not in names:
            raise InvalidFileError(
                f"The first line is {shown(','.join(names))}, without a column {name}; write sensor,time,metric,value, "
                f"or sensor,time and a column for each metric{did_you_mean(name, names)}"
            )
    for name in names:
        if names.count(name) > 1:
            raise InvalidFileError(f"The first line has the column {show(name)} twice; leave one out")
    if len(names) == 2:
        raise InvalidFileError("The first line has no column of values; add metric,value, or one for each metric")
    return names


def _split(line: bytes) -> list[str] | Refusal:
    """Return the cells of a line, or a refusal. No name may contain a line break, so a line is a row."""
    try:
        text = line.decode()
        if '"' not in text:
            return text.split(",")
        (cells,) = csv.reader([text], strict=True)
        if _STRAY_QUOTE.search(text):
            raise csv.Error("a quote in a cell that does not begin with one")
    except UnicodeDecodeError:
        return "reading_invalid", "the line is not UTF-8; save the file as UTF-8"
    except (csv.Error, ValueError) as error:
        return "reading_invalid", f"the line is not CSV: {error}; quotes inside of quotes are written twice"
    return cells
