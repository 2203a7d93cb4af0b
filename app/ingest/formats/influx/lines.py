"""Influx line protocol: `measurement,tag=value field=value,field=value time`, one point a line.

A point is read by one regular expression. Where that finds none, a walk over the line finds out what is wrong with it.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from app.errors import InvalidRequestError

_CONTROL: Final = r"\x00-\x1f\x7f"
#: A backslash is part of a name; it escapes only what would end the name otherwise.
_MEASUREMENT: Final = rf"(?:[^{_CONTROL} ,\\]++|\\[ ,]?)++"
_KEY: Final = rf"(?:[^{_CONTROL} ,=\\]++|\\[ ,=]?)++"
_TEXT: Final = r'"(?:[^"\\]++|\\(?s:.))*+"'
_VALUE: Final = rf"(?:{_TEXT}|[-+.0-9tTfFnNiI][^ ,\r\n]*+)"
_FIELD: Final = rf"{_KEY}={_VALUE}"
_END: Final = r" *+(?:\r?\n|\r?\Z)"

_LINE: Final = re.compile(
    rf"(?P<head>{_MEASUREMENT}(?:,{_KEY}={_KEY})*+) ++(?P<fields>{_FIELD}(?:,{_FIELD})*+)"
    rf"(?: ++(?P<time>[-0-9]++))?+{_END}"
)
_BLANKS: Final = re.compile(rf"(?: *+(?:#[^{_CONTROL}]*+)?(?:\r?\n|\r?\Z))*+ *+")
_FIELDS: Final = re.compile(rf"(?P<key>{_KEY})=(?P<value>{_VALUE})")
_TAGS: Final = re.compile(rf",(?P<key>{_KEY})=(?P<value>{_KEY})")
_MEASUREMENTS: Final = re.compile(_MEASUREMENT)
_KEYS: Final = re.compile(_KEY)
_NAME_ESCAPES: Final = re.compile(r"\\([ ,=])")
_MEASUREMENT_ESCAPES: Final = re.compile(r"\\([ ,])")
_TEXT_ESCAPES: Final = re.compile(r'\\(["\\])')

#: A point of more characters is refused: each is read in one step.
POINT_LIMIT: Final = 2**20

_INTEGER: Final = re.compile(r"-?[0-9]{1,400}")
_FLOAT: Final = re.compile(r"-?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?")
#: What C's printf makes of a value that is no number; the value is refused, and not the body.
_NO_NUMBER: Final = re.compile(r"[-+]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)

Value = float | int | bool | str


class MalformedLineError(InvalidRequestError):
    """A line is not line protocol, so nothing of the body is stored."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(f"line {line}, column {column}: {reason}")
        #: Both count from 1; the column is in characters.
        self.line, self.column, self.reason = line, column, reason

    def after(self, lines: int) -> "MalformedLineError":
        """Return the same error of a text that follows so many lines."""
        return MalformedLineError(self.line + lines, self.column, self.reason)


class Point(NamedTuple):
    """One line: its number from 1, its measurement with the tags as written, its fields, and its time as written."""

    line: int
    head: str
    fields: list[tuple[str, Value]]
    time: int | None


class Head(NamedTuple):
    """What stands before the fields of a line."""

    measurement: str
    tags: dict[str, str]


def decode(body: bytes) -> str:
    """Return a body as text, without its mark and NULs at its end; raise MalformedLineError if it is not UTF-8."""
    body = body.removeprefix(BOM_UTF8).rstrip(b"\0")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        raise _malformed(before, len(before), "the text is not UTF-8") from None


def read_points(text: str) -> Iterator[Point]:
    """Yield the points of a text; raise MalformedLineError at the first line that is none.

    Blank lines and comments are skipped. A text in quotes may go over several lines.
    """
    position, line, known = 0, 1, set[str]()
    while True:
        start = _after_blanks(text, position)
        if start == len(text):
            return
        line += text.count("\n", position, start)
        if start - position >= POINT_LIMIT - 1:
            position = start
            continue
        match = _LINE.match(text, start, start + POINT_LIMIT)
        if match is None or (match.end() == start + POINT_LIMIT and match.end() < len(text)):
            _explain(text, start)
        head, _, time = match.groups()
        if head not in known:
            _read_unique_tags(text, start, head)
            known.add(head)
        yield Point(line, head, _read_fields(text, match), None if time is None else _read_time(text, match))
        position = match.end()
        line += text.count("\n", start, position)


def read_head(head: str) -> Head:
    """Return the measurement and the tags of a point, without escapes."""
    measurement = _MEASUREMENTS.match(head)
    end = _end_of(measurement)
    tags = {_unescape(key): _unescape(value) for key, value in _TAGS.findall(head, end)}
    return Head(_MEASUREMENT_ESCAPES.sub(r"\1", head[:end]), tags)


def read_value(token: str) -> Value:
    """Return the value of a field; raise ValueError, which says what is wrong with it."""
    if _FLOAT.fullmatch(token):
        return float(token)
    if token.startswith('"'):
        return _TEXT_ESCAPES.sub(r"\1", token[1:-1])
    if token in _BOOLEANS:
        return _BOOLEANS[token]
    if _NO_NUMBER.fullmatch(token):
        return float(token)
    if token[-1] in "iu" and token[0] not in "tTfF":
        return _read_integer(token)
    raise ValueError(f"{token!r:.60} is neither a number nor a boolean")


def _read_integer(token: str) -> int:
    digits, allowed = token[:-1], _INT64 if token.endswith("i") else _UINT64
    if _INTEGER.fullmatch(digits) is None:
        raise ValueError(f"{token!r:.60} is no whole number")
    if int(digits) not in allowed:
        raise ValueError(f"{token!r:.60} does not fit into 64 bits")
    return int(digits)


def _read_fields(text: str, match: "re.Match[str]") -> list[tuple[str, Value]]:
    start, end = match.span("fields")
    try:
        return [(_unescape(key), read_value(token)) for key, token in _FIELDS.findall(text, start, end)]
    except ValueError as error:
        wrong = next(found for found in _FIELDS.finditer(text, start, end) if not _is_value(found["value"]))
        raise _malformed(text, wrong.start("value"), str(error)) from None


def _is_value(token: str) -> bool:
    try:
        read_value(token)
    except ValueError:
        return False
    return True


def _read_time(text: str, match: "re.Match[str]") -> int:
    time = match["time"]
    if _INTEGER.fullmatch(time) is None or int(time) not in _INT64:
        raise _malformed(text, match.start("time"), f"the time is {time!r:.60}; send a whole number of 64 bits")
    return int(time)


def _read_unique_tags(text: str, start: int, head: str) -> None:
    """Raise MalformedLineError if a tag is given twice."""
    seen: set[str] = set()
    for found in _TAGS.finditer(head, _end_of(_MEASUREMENTS.match(head))):
        key = _unescape(found["key"])
        if key in seen:
            raise _malformed(text, start + found.start("key"), f"the tag {key!r:.60} is given twice")
        seen.add(key)


def _unescape(name: str) -> str:
    return _NAME_ESCAPES.sub(r"\1", name) if "\\" in name else name


def _end_of(match: "re.Match[str] | None") -> int:
    assert match is not None  # noqa: S101 -- the expression always matches there
    return match.end()


def _after_blanks(text: str, position: int) -> int:
    """Return where blank lines and comments end, or where a line begins within POINT_LIMIT characters of them."""
    end = _end_of(_BLANKS.match(text, position, position + POINT_LIMIT))
    if end < position + POINT_LIMIT or end == len(text):
        return end
    line = text.rfind("\n", position, end) + 1  # the last one may have been cut
    if line <= position:
        raise _malformed(text, position, f"a line is longer than {POINT_LIMIT:,} characters")
    return line


def _explain(text: str, start: int) -> NoReturn:
    """Raise a MalformedLineError that says what is wrong with the line that begins at `start`."""
    if start + POINT_LIMIT < len(text) and text.find("\n", start, start + POINT_LIMIT) < 0:
        raise _malformed(text, start, f"a line is longer than {POINT_LIMIT:,} characters")
    text = text[: start + POINT_LIMIT]
    if text[start] == "#":
        raise _malformed(text, start, "the comment has a control character")
    measurement = _MEASUREMENTS.match(text, start)
    if measurement is None:
        raise _malformed(text, start, f"a line begins with a measurement, not with {_show(text, start)}")
    position = measurement.end()
    while text.startswith(",", position):
        position = _after_pair(text, position + 1, "tag", _KEYS)
    if not text.startswith(" ", position):
        raise _malformed(text, position, f"a blank and the fields come here, not {_show(text, position)}")
    position += len(text[position:]) - len(text[position:].lstrip(" "))
    values = re.compile(_VALUE)
    position = _after_pair(text, position, "field", values)
    while text.startswith(",", position):
        position = _after_pair(text, position + 1, "field", values)
    if not text.startswith((" ", "\r", "\n"), position):
        raise _malformed(
            text, position, f"a comma, a blank or the line's end comes after a field, not {_show(text, position)}"
        )
    position += len(text[position:]) - len(text[position:].lstrip(" "))
    raise _malformed(text, position, "only a time, a whole number, comes after the fields, then the line's end")


def _after_pair(text: str, position: int, kind: str, values: "re.Pattern[str]") -> int:
    """Return where a tag or field ends; raise MalformedLineError if there is none."""
    key = _KEYS.match(text, position)
    if key is None:
        raise _malformed(text, position, f"the name of a {kind} comes here, not {_show(text, position)}")
    if not text.startswith("=", key.end()):
        found = _show(text, key.end())
        raise _malformed(text, key.end(), f"= comes after the {kind} {key[0]!r:.60}, not {found}")
    value = values.match(text, key.end() + 1)
    if value is None:
        found = _show(text, key.end() + 1)
        raise _malformed(text, key.end() + 1, f"the value of the {kind} {key[0]!r:.60} comes here, not {found}")
    return value.end()


def _show(text: str, position: int) -> str:
    return repr(text[position]) if position < len(text) else "the end"


def _malformed(text: str, position: int, reason: str) -> MalformedLineError:
    begin = text.rfind("\n", 0, position) + 1
    return MalformedLineError(text.count("\n", 0, position) + 1, position - begin + 1, reason)
