"""The notation for readings in rule tests: `20 x5, 20..31 x12, gap 3, 31 x10, +1h=19.5`.

Values follow each other at a fixed interval. `xN` repeats a value N times, `a..b xN` goes from a to b in N readings,
`gap N` leaves N readings out, and `gap 1h` leaves an hour out. `+1h=19.5` is one reading an hour after the start.
"""

import re
from collections.abc import Callable, Iterator

import msgspec

from app.alerting.episodes.samples import StoredReading
from app.durations import LONGEST_US, format_duration, parse_duration
from app.hints import shown
from app.model import VALUE_LIMIT

#: The most readings in one series of a test. More would be slow, and nobody could check them by hand.
MOST_READINGS = 100_000
NOTATION_EXAMPLE = "20 x5, 20..31 x12, gap 3, +1h=19.5"


class Values(msgspec.Struct, frozen=True):
    """Readings from the first value to the last, in equal steps."""

    first: float
    last: float
    count: int

    def __iter__(self) -> Iterator[float]:
        steps = self.count - 1
        for step in range(steps):
            yield self.first + (self.last - self.first) * step / steps
        yield self.last


class Gap(msgspec.Struct, frozen=True):
    """A number of readings to leave out, or a time to leave out, in microseconds."""

    readings: int = 0
    us: int = 0


class At(msgspec.Struct, frozen=True):
    """One reading at a given time, in microseconds from the start."""

    offset_us: int
    value: float


NotationItem = Values | Gap | At


def parse_notation(text: str) -> tuple[NotationItem, ...]:
    """Return the items of a text in this notation; raise ValueError, which says what is accepted."""
    return tuple(_item(part.strip()) for part in text.split(","))


def expand(items: tuple[NotationItem, ...], start_us: int, every_us: int) -> tuple[StoredReading, ...]:
    """Return the readings in order of time.

    Raise ValueError when there are more than MOST_READINGS, two at the same time, or one later than LONGEST_US after
    the start.
    """
    count = sum(item.count if isinstance(item, Values) else 1 for item in items)
    if count > MOST_READINGS:
        raise ValueError(f"these are {count:,} readings; a series may have {MOST_READINGS:,}")
    readings: dict[int, float] = {}
    for t, value in _placed(items, start_us, every_us):
        if t > start_us + LONGEST_US:
            raise ValueError("the last of these readings is more than ten years after the start")
        if t in readings:
            raise ValueError(f"there are two readings at {format_offset(t - start_us)}")
        readings[t] = value
    return tuple(sorted(readings.items()))


def parse_offset(text: str) -> int:
    """Return a time counted from the start, such as `+5m`, in microseconds; raise ValueError when it is not one."""
    if not text.startswith("+"):
        raise ValueError(f"{shown(text)} is not a time counted from the start, such as +5m")
    return parse_duration(text[1:])


def format_offset(us: int) -> str:
    """Return a time counted from the start as text, such as `+5m`."""
    return f"+{format_duration(us)}"


_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_COUNT = r"\s*x\s*([0-9]{1,9})"


def _item(text: str) -> NotationItem:
    for pattern, parse in _FORMS.items():
        if match := re.fullmatch(pattern, text):
            return parse(*match.groups())
    raise ValueError(f'{shown(text)} is not known; write readings such as "{NOTATION_EXAMPLE}"')


def _values(first: str, last: str, count: str) -> Values:
    if int(count) < 1:
        raise ValueError(f"{shown(f'{first} x{count}')} is no reading at all; leave it out")
    return Values(_value(first), _value(last), int(count))


def _ramp(first: str, last: str, count: str) -> Values:
    if int(count) < 2:
        raise ValueError(f"{shown(f'{first}..{last} x{count}')} needs at least x2: the first value and the last")
    return _values(first, last, count)


def _value(text: str) -> float:
    value = float(text)
    if abs(value) > VALUE_LIMIT:
        raise ValueError(f"no reading is beyond ±{VALUE_LIMIT:g}")
    return value


_FORMS: dict[str, Callable[..., NotationItem]] = {
    f"({_NUMBER})": lambda value: _values(value, value, "1"),
    f"({_NUMBER}){_COUNT}": lambda value, count: _values(value, value, count),
    rf"({_NUMBER})\s*\.\.\s*({_NUMBER}){_COUNT}": _ramp,
    r"gap\s+([0-9]{1,9})": lambda count: Gap(readings=int(count)),
    r"gap\s+([0-9]\S*)": lambda duration: Gap(us=parse_duration(duration)),
    rf"(\+\S+?)\s*=\s*({_NUMBER})": lambda offset, value: At(parse_offset(offset), _value(value)),
}


def _placed(items: tuple[NotationItem, ...], start_us: int, every_us: int) -> Iterator[StoredReading]:
    next_us = start_us
    for item in items:
        match item:
            case Values():
                for value in item:
                    yield next_us, value
                    next_us += every_us
            case Gap(readings, us):
                next_us += readings * every_us + us
            case At(offset_us, value):
                yield start_us + offset_us, value
