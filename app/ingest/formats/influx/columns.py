"""The numeric fields of a body in line protocol as columns, read all at once where the lines are alike."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from app.ingest.formats.influx.lines import MalformedLineError, Point, read_points

#: Characters that only the walk over the points understands: quotes, escapes, comments, and control characters that
#: JSON allows in a text or between values.
_UNUSUAL: Final = '"\\#\x7f\t\r'
#: A line without quotes and escapes.
_PLAIN_LINE: Final = re.compile(r"[^ \x00-\x1f]+ (?P<fields>[^ \x00-\x1f]+)(?P<time> [0-9]+)?(?=\n|\Z)")
_PLAIN_HEAD: Final = re.compile(r"[^ ,]+(?:,[^ ,=]+=[^ ,=]+)*")
#: Lines with more fields are read point by point.
_ALIKE_FIELDS: Final = 32
#: About the length of a part that is read in one step, and the number of points of one.
PART_LENGTH: Final = 2**18
_POINTS_AT_ONCE: Final = 5_000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: A measurement with its tags, as written, and the name of a field.
Pair = tuple[str, str]


class Columns(NamedTuple):
    """Numeric fields, a row for each, in the order of the body. A field that is a text has none."""

    #: Each pair once, and the position in it of each row.
    pairs: list[Pair]
    codes: Ints
    #: Number of the line, from 0.
    lines: Ints
    #: Where there are whole numbers, a list: not each has an equal float.
    values: list[float] | Floats
    #: In the unit of the request; None where the line has no time.
    times: list[int | None] | Ints


def read_columns(text: str) -> Iterator[Columns]:
    """Yield the numeric fields of a text part by part; raise MalformedLineError, which names line and column."""
    if any(map(text.__contains__, _UNUSUAL)):
        yield from _read_parts(read_points(text))  # a text in quotes may go over several lines
        return
    start = line = 0
    while start < len(text):
        end = text.find("\n", start + PART_LENGTH) + 1 or len(text)
        part = text[start:end]
        alike = read_alike(part) if len(part) <= 2 * PART_LENGTH else None
        try:
            for columns in (alike,) if alike is not None else _read_parts(read_points(part)):
                yield columns._replace(lines=columns.lines + line)
        except MalformedLineError as error:
            raise error.after(line) from None
        line += part.count("\n")
        start = end


def _read_parts(points: Iterator[Point]) -> Iterator[Columns]:
    while some := list(islice(points, _POINTS_AT_ONCE)):
        yield _read_any(some)


def read_alike(text: str) -> Columns | None:
    """Return the fields if all lines have those of the first one, in the same order, and all or none a time; else None.

    The text is rewritten as a list of JSON, which is decoded ten times as fast as lines are read one by one: the head
    of each line, its first value, each further key and value, and its time.
    """
    first = _PLAIN_LINE.match(text)
    if first is None or any(map(text.__contains__, _UNUSUAL)):
        return None
    fields = [field.partition("=") for field in first["fields"].split(",")]
    keys, has_time = [key for key, _, _ in fields], first["time"] is not None
    if len(keys) > _ALIKE_FIELDS or not all(key and equals for key, equals, _ in fields):
        return None
    flat = _decode_flat(text.removesuffix("\n"), keys, has_time=has_time)
    width = 2 * len(keys) + has_time
    if flat is None or len(flat) % width:
        return None
    columns = [flat[place::width] for place in range(width)]
    # A line with its fields in another order has other keys there.
    if any(column.count(key) < len(column) for key, column in zip(keys[1:], columns[2::2], strict=False)):
        return None
    values = [_as_numbers(column) for column in columns[1 : 2 * len(keys) : 2]]
    times: list[int | None] | Ints | None = [None] * len(columns[0])
    if has_time:
        times = _as_times(columns[-1])
    heads = _number_heads(columns[0])
    numbers = [column for column in values if column is not None]
    if times is None or heads is None or len(numbers) < len(keys):
        return None
    return _spread([*heads], keys, np.array([heads[head] for head in columns[0]], np.int64), numbers, times)


def _spread(
    heads: list[str], keys: list[str], numbers: Ints, values: list[Floats], times: list[int | None] | Ints
) -> Columns:
    """Return a row for each field of lines of which each has all `keys`; `numbers` are those of the lines' heads."""
    count, lines = len(keys), np.arange(len(numbers))
    pairs = [(head, key) for head in heads for key in keys]
    if count == 1:
        return Columns(pairs, numbers, lines, values[0], times)
    codes = (numbers[:, None] * count + np.arange(count)).reshape(-1)
    spread = [time for time in times for _ in keys] if isinstance(times, list) else times.repeat(count)
    return Columns(pairs, codes, lines.repeat(count), np.stack(values, axis=1).reshape(-1), spread)


_decode: Final = msgspec.json.Decoder(list[str | float | int]).decode


def _decode_flat(text: str, keys: list[str], *, has_time: bool) -> list[Any] | None:
    """Return what the lines consist of, one after the other; None if they are not alike."""
    text = text.replace(f" {keys[0]}=", '",')
    for key in keys[1:]:
        text = text.replace(f",{key}=", f',"{key}",')
    if has_time:
        text = text.replace(" ", ",")
    try:
        return _decode('["' + text.replace("\n", ',"') + "]")
    except msgspec.DecodeError:
        return None


def _as_numbers(column: list[Any]) -> Floats | None:
    """Return values as floats; None if one of them is a text, or an integer beyond 64 bits."""
    numbers = np.array(column)
    return numbers.astype(np.float64) if numbers.dtype.kind in "fiu" else None


def _as_times(column: list[Any]) -> Ints | None:
    """Return times; None if one of them is no whole number of 64 bits."""
    times = np.array(column)
    return times if times.dtype == np.int64 else None


def _number_heads(column: list[Any]) -> dict[str, int] | None:
    """Return the heads by which lines begin, numbered; None if one of them is none, or needs a closer look."""
    heads = {head: number for number, head in enumerate(dict.fromkeys(column))}
    return heads if all(isinstance(head, str) and _is_plain_head(head) for head in heads) else None


def _is_plain_head(head: str) -> bool:
    if _PLAIN_HEAD.fullmatch(head) is None:
        return False
    tags = [tag.partition("=")[0] for tag in head.split(",")[1:]]
    return len(tags) == len({*tags})


def _read_any(points: Iterable[Point]) -> Columns:
    codes_of: dict[Pair, int] = {}
    codes: list[int] = []
    lines: list[int] = []
    values: list[float] = []
    times: list[int | None] = []
    for point in points:
        for key, value in point.fields:
            if not isinstance(value, str):
                codes.append(codes_of.setdefault((point.head, key), len(codes_of)))
                lines.append(point.line - 1)
                values.append(value)
                times.append(point.time)
    return Columns(list(codes_of), np.array(codes, np.int64), np.array(lines, np.int64), values, times)
