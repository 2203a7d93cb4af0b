"""CSV with a first line of names: `time,sensor,metric,value`, or a column for each metric.

Columns may be in any order; an empty cell is no value. Without a column `sensor`, all rows are of one sensor. Cells are
separated by commas, semicolons or tabs, whichever the first line has.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from app.errors import InvalidRequestError
from app.hints import find_meant
from app.ingest.bodies.document import Document
from app.ingest.bodies.lines import list_lines
from app.ingest.bodies.loose_json import Word, read_number
from app.ingest.checks import refuse_metric
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._items import OTHER_NAMES, refuse_item
from app.names import is_metric_name, show, tidy_name

_MEDIA_TYPES: Final = frozenset({"text/csv", "application/csv", "text/tab-separated-values"})
_COLUMNS: Final = ("time", "sensor", "metric", "value", "unit")
#: A column of these names is no metric.
_OTHER_NAMES: Final = {name: meant for name, meant in OTHER_NAMES.items() if meant in _COLUMNS}
_COLUMNS_LIMIT: Final = 1_003
_SEPARATORS: Final = ",;\t"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]+)?", re.ASCII)


class _Table(NamedTuple):
    """What the columns of a table are, by their places."""

    separator: str
    width: int
    #: time, sensor, metric, value, unit: None where there is no such column.
    places: dict[str, int]
    metrics: list[tuple[int, str]]


def fits_text(body: bytes) -> bool:
    """Return whether the first line has the names of columns, as in this shape."""
    first = body[:1_000].removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].decode(errors="replace").lower()
    names = {name.strip('" \r') for separator in _SEPARATORS for name in first.split(separator)}
    return not first.lstrip().startswith(("{", "[")) and bool(names & {"time", "sensor", "metric"})


def read(document: Document, source: Source) -> Items:
    """Yield a reading for each row; its place is that of the line after the first, from 0."""
    lines = document.items.items() if document.items is not None else iter(())
    table = _read_head(next(lines, b""))
    for index, line in enumerate(lines):
        if line.strip():
            item = _read_row(table, line, source)
            if item is not None:
                yield index, item


def _read_head(line: bytes) -> _Table:
    separator, cells = _split_head(line)
    names = cells[:-1] if len(cells) > 1 and not cells[-1] else cells  # some programs write one more separator
    if len(names) > _COLUMNS_LIMIT:
        raise InvalidRequestError(f"The first line has {len(names)} columns; send at most {_COLUMNS_LIMIT}")
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequestError(f"The first line has the column {show(name)} twice; leave one out")
    is_long = {"metric", "value"} <= set(names)
    known = [name for name in _COLUMNS if is_long or name in ("time", "sensor")]
    places = {name: names.index(name) for name in known if name in names}
    metrics = [(place, name) for place, name in enumerate(names) if name not in known]
    _check_spelling(names, known)
    if is_long and metrics:
        raise InvalidRequestError(
            f"The first line has the columns metric and value, and {show(metrics[0][1])}; leave that column out"
        )
    if not is_long and (not metrics or len(names) == 1):
        raise InvalidRequestError(
            f"The first line is {show(line.decode())}; send time,sensor,metric,value, or time,sensor and a "
            "column a metric"
        )
    _check_metrics([name for _, name in metrics], has_names=bool(places))
    return _Table(separator, len(cells), places, metrics)


def _split_head(line: bytes) -> tuple[str, list[str]]:
    """Return the separator, and the names in the first line."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("The first line is not UTF-8; send UTF-8") from None
    separator = max(_SEPARATORS, key=text.count)
    return separator, [tidy_name(name) for name in _split(text, separator) or ()]


def _check_spelling(names: list[str], known: list[str]) -> None:
    accepted = _COLUMNS if {"metric", "value"} & set(names) else ("time", "sensor")
    for name in names:
        meant = None if name in known else find_meant(name, accepted, _OTHER_NAMES)
        if meant is not None and meant not in names:
            raise InvalidRequestError(f"The first line has the column {show(name)}; did you mean {meant}?")


def _check_metrics(names: list[str], *, has_names: bool) -> None:
    """Raise InvalidRequestError for a metric that cannot be one, and for a first line that has values and no names."""
    for name in names:
        if not has_names and (_DATE.match(name) or not isinstance(read_number(name), Word)):
            raise InvalidRequestError(
                f"The first line has {show(name)}, which is a value and no name; send the names of the columns first"
            )
        if not is_metric_name(name):
            raise InvalidRequestError(f"In the first line, {refuse_metric(name)[1]}")


def _read_row(table: _Table, line: bytes, source: Source) -> object:
    """Return a row as a reading, None if all its cells of values are empty."""
    try:
        cells = _split(line.decode(), table.separator)
    except UnicodeDecodeError:
        return refuse_item("the line is not UTF-8; send UTF-8")
    if cells is None:
        return refuse_item("the line is not CSV; quotes inside of quotes are written twice")
    if len(cells) != table.width:
        return refuse_item(f"the line has {len(cells)} cells; send {table.width}, as the first line has")
    values = {metric: read_number(text.strip()) for metric, text in _values(table, cells) if text.strip()}
    if not values:
        return None
    reading: dict[str, Any] = {"sensor": source.sensor, "values": values}
    for name in ("sensor", "time", "unit"):
        if name in table.places and (text := cells[table.places[name]].strip()):
            reading[name] = read_number(text) if name == "time" and _WHOLE.fullmatch(text) else text
        elif name == "sensor" and name in table.places:
            reading[name] = ""
    return reading


def _values(table: _Table, cells: Sequence[str]) -> Iterable[tuple[str, str]]:
    if "metric" in table.places:
        yield cells[table.places["metric"]], cells[table.places["value"]]
    yield from ((metric, cells[place]) for place, metric in table.metrics)


def _split(text: str, separator: str) -> list[str] | None:
    """Return the cells of a line, None if it is no CSV. No name may contain a line break, so a line is a row."""
    if '"' not in text:
        return text.split(separator)
    try:
        rows: Iterator[list[str]] = csv.reader([text], delimiter=separator, strict=True)
        return next(rows, None)
    except csv.Error:
        return None


SHAPE: Final = Shape(
    example="time,sensor,metric,value\n2026-01-31T08:00:00Z,cellar,temperature,12.5\n",
    fits=lambda _document: False,
    read=read,
    media_types=_MEDIA_TYPES,
    open_body=lambda body, _media_type: Document(list_lines(body)),
    fits_text=fits_text,
)
