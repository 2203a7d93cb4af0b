"""The numeric fields of a body in line protocol as columns, read all at once where the lines are alike."""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt

from app.ingest.formats.influx.lines import read_points

#: Characters that only the walk over the points understands: quotes, escapes, comments, and the one control character
#: that JSON allows in a text.
_UNUSUAL: Final = '"\\#\x7f'
#: A line without quotes and escapes.
_PLAIN_LINE: Final = re.compile(r"[^ \x00-\x1f]+ (?P<fields>[^ \x00-\x1f]+)(?P<time> [0-9]+)?(?=\n|\Z)")
_PLAIN_HEAD: Final = re.compile(r"[^ ,]+(?:,[^ ,=]+=[^ ,=]+)*")
#: Lines with more fields are read point by point.
_ALIKE_FIELDS: Final = 32
#: Times with more digits may not fit into 64 bits.
_TIME_DIGITS: Final = 18

Ints = npt.NDArray[np.int64]
#: A measurement with its tags, as written, and the name of a field.
Pair = tuple[str, str]


class Columns(NamedTuple):
    """Numeric fields, a row for each, in the order of the body. A field that is a text has none."""

    #: Each pair once, and the position in it of each row.
    pairs: list[Pair]
    codes: Ints
    #: Number of the line, from 0.
    lines: Ints
    #: Whole numbers are kept as such, because not each has an equal float.
    values: list[float]
    #: In the unit of the request; None where the line has no time.
    times: list[int] | list[int | None]


def read_columns(text: str) -> Columns:
    """Return the numeric fields of a text; raise MalformedLineError, which names line and column."""
    return _read_alike(text) or _read_any(text)


def _read_alike(text: str) -> Columns | None:
    """Return the fields if all lines have the fields of the first one, all or none a time; else None.

    The text is rewritten as JSON, which is decoded ten times as fast as lines are read one by one.
    """
    first = _PLAIN_LINE.match(text)
    if first is None or any(map(text.__contains__, _UNUSUAL)):
        return None
    keys = [field.partition("=")[0] for field in first["fields"].split(",")]
    rows = _decode_rows(text.removesuffix("\n"), keys, has_time=first["time"] is not None)
    if rows is None:
        return None
    columns = list(zip(*rows, strict=True))
    times: list[Any] = [None] * len(rows)
    if first["time"] is not None:
        written = columns.pop()
        digits = "".join(written)
        if not (digits.isdecimal() and digits.isascii() and max(map(len, written)) <= _TIME_DIGITS):
            return None
        times = list(map(int, written))
    heads = {head: number for number, head in enumerate(dict.fromkeys(columns[0]))}
    if not all(map(_is_plain_head, heads)):
        return None
    numbers = np.array([heads[head] for head in columns[0]], np.int64)
    return _spread(list(heads), keys, numbers, columns[1:], times)


def _spread(
    heads: list[str], keys: list[str], numbers: Ints, values: list[tuple[float, ...]], times: list[Any]
) -> Columns:
    """Return a row for each field of lines of which each has all `keys`; `numbers` are those of the lines' heads."""
    count, lines = len(keys), np.arange(len(numbers))
    pairs = [(head, key) for head in heads for key in keys]
    if count == 1:
        return Columns(pairs, numbers, lines, list(values[0]), times)
    codes = (numbers[:, None] * count + np.arange(count)).reshape(-1)
    flat = [value for of_line in zip(*values, strict=True) for value in of_line]
    return Columns(pairs, codes, lines.repeat(count), flat, [time for time in times for _ in keys])


def _decode_rows(text: str, keys: list[str], *, has_time: bool) -> list[tuple[Any, ...]] | None:
    """Return a row for each line: its head, its values and, as a text, its time; None if not all lines are alike."""
    if not all(keys) or len(keys) > _ALIKE_FIELDS:
        return None
    text = text.replace(f" {keys[0]}=", '",')
    for key in keys[1:]:
        text = text.replace(f",{key}=", ",")
    # A blank that is left in a head stays there, and no head may have one.
    text = text.replace(" ", ' ,"').replace("\n", '"],["' if has_time else '],["')
    try:
        rows = _decoder(len(keys), has_time)(f'[["{text}"]]' if has_time else f'[["{text}]]')
    except msgspec.DecodeError:
        return None
    return cast("list[tuple[Any, ...]]", rows)


@lru_cache(maxsize=2 * _ALIKE_FIELDS)
def _decoder(values: int, has_time: bool) -> Any:
    row = (str, *[float] * values, *[str] * has_time)
    return msgspec.json.Decoder(list[tuple[row]]).decode  # type: ignore[valid-type]


def _is_plain_head(head: str) -> bool:
    if _PLAIN_HEAD.fullmatch(head) is None:
        return False
    tags = [tag.partition("=")[0] for tag in head.split(",")[1:]]
    return len(tags) == len({*tags})


def _read_any(text: str) -> Columns:
    codes_of: dict[Pair, int] = {}
    codes: list[int] = []
    lines: list[int] = []
    values: list[float] = []
    times: list[int | None] = []
    for point in read_points(text):
        for key, value in point.fields:
            if not isinstance(value, str):
                codes.append(codes_of.setdefault((point.head, key), len(codes_of)))
                lines.append(point.line - 1)
                values.append(value)
                times.append(point.time)
    return Columns(list(codes_of), np.array(codes, np.int64), np.array(lines, np.int64), values, times)
