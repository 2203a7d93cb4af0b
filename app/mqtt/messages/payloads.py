"""Payloads: the numbers and the time in a JSON object, or one plain number.

A wrong value is passed on unchanged if the server can describe it better, or can refuse it alone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import isfinite
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.clock import from_us, rfc3339, to_us
from app.globs import compile_glob
from app.mqtt.model import TopicRoute

#: A payload that is nested deeper is refused.
DEPTH_LIMIT: Final = 16
#: Number of characters that are uploaded of a text that is not a number, so that the refusal shows them.
_SHOWN: Final = 100
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
#: Strings in JSON, and the texts that printf of C writes for NaN and infinities.
_BARE_NAN = re.compile(r'"(?:[^"\\]|\\.)*"|(-?)\b(nan|inf(?:inity)?)\b', re.IGNORECASE)
#: A whole number with more digits is not a value. Python would read up to 4,300 digits, and a 64-bit float has 309.
_INTEGER_DIGITS: Final = 19
#: 2000-01-01. A device without a clock counts from 1970.
_NO_CLOCK_BEFORE_US: Final = 946_684_800_000_000
#: Times below this are seconds, those below a thousand times as much milliseconds, then microseconds, nanoseconds.
_SECONDS_BELOW: Final = 100_000_000_000
Values = dict[str, float | str]


class PayloadError(ValueError):
    """A payload has nothing that could be a value; the message is uploaded in place of values."""


class _NoNumber(str):
    """A number in JSON that does not fit into a float."""

    __slots__ = ()


def read_plain(route: TopicRoute, payload: bytes, metric: str | None) -> Values:
    """Return the one value of a payload; raise PayloadError."""
    text = _decode(payload)
    if metric is None:
        raise PayloadError(_cut(text))
    return {metric: _number(route, text)}


def read_json(route: TopicRoute, payload: bytes, metric: str | None) -> tuple[Values, str | None]:
    """Return the values of a payload and the time in it; raise PayloadError.

    Without a time, or with one of a device that has no clock yet, the time is None.
    """
    document = _parse(_decode(payload))
    if not isinstance(document, dict | list):
        if metric is None:
            raise PayloadError(_cut(str(document)))
        return {metric: _scalar(route, document)}, None
    time = None
    values: Values = {}
    for path, leaf in _walk("", document, DEPTH_LIMIT):
        if path == route.time:
            time = read_time(leaf, route.timezone)
        elif (value := _value(route, path, leaf)) is not None:
            values[_metric(route, path, metric)] = value
    return values, time


def read_time(given: object, timezone: str | None) -> str | None:
    """Return a time as RFC 3339, or as it is where the server must refuse it; None where a device has no clock yet."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    if isinstance(given, str) and not _NUMBER.fullmatch(given.strip()):
        return _read_text_time(given, timezone)
    number = float(given)
    if not isfinite(number):
        return str(given)
    exact = given if isinstance(given, int) else number
    if abs(exact) >= _SECONDS_BELOW * 1_000_000:
        return _checked(int(exact) // 1_000, str(given))
    scale = next(scale for scale in (1_000_000, 1_000, 1) if abs(exact) * scale < _SECONDS_BELOW * 1_000_000)
    return _checked(int(exact * scale), str(given))


def _read_text_time(text: str, timezone: str | None) -> str | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return _cut(text)
    if moment.tzinfo is None:
        if timezone is None:
            return _cut(text) if moment.year >= from_us(_NO_CLOCK_BEFORE_US).year else None
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    try:
        return _checked(to_us(moment), text)
    except OverflowError:
        return _cut(text)


def _checked(time_us: int, given: str) -> str | None:
    if time_us < _NO_CLOCK_BEFORE_US:
        return None
    try:
        return rfc3339(time_us)
    except OverflowError:
        return _cut(given)


def _decode(payload: bytes) -> str:
    """Return the text of a payload, without the NUL at its end that some firmware sends."""
    return payload.decode("utf-8", "backslashreplace").strip(" \t\r\n\0\ufeff")


def _parse(text: str) -> Any:
    # The text is changed only if it is not JSON as it is.
    for written in (text, _BARE_NAN.sub(_as_python_reads_it, text)):
        try:
            return json.loads(written, parse_int=_integer)
        except (ValueError, RecursionError):
            continue
    raise PayloadError(_cut(text))


def _as_python_reads_it(match: re.Match[str]) -> str:
    if match[2] is None:
        return match[0]
    return "NaN" if match[2].lower() == "nan" else f"{match[1]}Infinity"


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _INTEGER_DIGITS else _NoNumber(_cut(text))


def _walk(name: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    """Yield the leaves of a nested value, with names such as `soil.temperature` and `probes.0`."""
    if not isinstance(value, dict | list):
        yield name, value
        return
    if not depth:
        raise PayloadError(f"nested deeper than {DEPTH_LIMIT} levels")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _walk(f"{name}.{key}" if name else str(key), inner, depth - 1)


def _value(route: TopicRoute, path: str, leaf: object) -> float | str | None:
    """Return the value of a leaf, or None if it is not stored: texts and null are not values."""
    chosen = any(compile_glob(glob)(path) for glob in route.values)
    if (route.values and not chosen) or any(compile_glob(glob)(path) for glob in route.without) or leaf is None:
        return None
    if isinstance(leaf, str) and not isinstance(leaf, _NoNumber):
        if leaf in route.words:
            return route.words[leaf]
        # A text with a number is stored only if the route names it.
        return _number(route, leaf) if chosen and _NUMBER.fullmatch(leaf) else None
    return _scalar(route, leaf)


def _scalar(route: TopicRoute, leaf: object) -> float | str:
    if isinstance(leaf, str) and not isinstance(leaf, _NoNumber):
        return _number(route, leaf)
    if isinstance(leaf, int | float) and isfinite(leaf):
        return float(leaf) if isinstance(leaf, bool) else leaf
    return str(leaf)


def _number(route: TopicRoute, text: str) -> float | str:
    if text in route.words:
        return route.words[text]
    number = float(text) if _NUMBER.fullmatch(text) else None
    return _cut(text) if number is None or not isfinite(number) else number


def _metric(route: TopicRoute, path: str, metric: str | None) -> str:
    if path in route.rename:
        return route.rename[path]
    if metric is not None:
        path = metric if path == "value" else f"{metric}.{path}"
    return _encodable(path)


def _cut(text: str) -> str:
    return _encodable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _encodable(text: str) -> str:
    """Return a text without halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def units_of(route: TopicRoute, values: Mapping[str, object]) -> dict[str, str] | None:
    """Return the units that a route gives to these metrics."""
    return {metric: unit for metric, unit in route.units.items() if metric in values} or None
