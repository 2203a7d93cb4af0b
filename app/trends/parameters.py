"""Query parameters for times, ranges and zones; an error names the parameter, its value and what is accepted."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from app.clock import from_us
from app.durations import parse_duration
from app.errors import InvalidRequestError
from app.hints import did_you_mean

DEFAULT_RANGE = timedelta(days=1)
_EARLIEST_END = datetime.min.replace(tzinfo=UTC) + DEFAULT_RANGE
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
#: A duration before now, right or wrong: digits and a unit. Without the minus it is refused with a hint.
_AGO = re.compile(r"-?[0-9][0-9A-Za-z. ]*[A-Za-z]")
#: The unescaped + of an offset arrives as a space in a query.
_LOST_PLUS = re.compile(r" (?=\d\d:\d\d$)")


def parse_range(from_: str | None, to: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the half-open range [from, to); by default `to` is now and `from` a day before `to`.

    Raises InvalidRequestError.
    """
    end = now if to is None else parse_time("to", to, now)
    start = max(end, _EARLIEST_END) - DEFAULT_RANGE if from_ is None else parse_time("from", from_, now)
    if start >= end:
        raise InvalidRequestError(f"from is {start.isoformat()} and to is {end.isoformat()}; from must be earlier")
    return start, end


def parse_time(name: str, text: str, now: datetime) -> datetime:
    """Parse RFC 3339 with a zone, milliseconds since 1970, `now`, or a duration before now such as `-24h`.

    Raises InvalidRequestError.
    """
    if text == "now":
        return now
    try:
        if _MILLISECONDS.fullmatch(text):
            return from_us(int(text) * 1_000)
        moment = msgspec.convert(_LOST_PLUS.sub("+", text), datetime)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):
        pass
    if _AGO.fullmatch(text):
        return now - _parse_ago(name, text)
    raise InvalidRequestError(
        f"{name} is {text!r:.60}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, milliseconds since 1970, "
        "now, or a time before now, such as -24h"
    )


def parse_zone(text: str) -> ZoneInfo:
    """Return the zone of a name such as Europe/Berlin; raise InvalidRequestError."""
    # An unescaped + arrives as a space, as in Etc/GMT+5.
    name = text.replace(" ", "+")
    if name in _zone_names():
        return ZoneInfo(name)
    raise InvalidRequestError(
        f"tz is {text!r:.60}; send a name of the IANA time zone database, such as Europe/Berlin"
        f"{did_you_mean(text, _zone_names())}"
    )


def _parse_ago(name: str, text: str) -> timedelta:
    try:
        ago = timedelta(microseconds=parse_duration(text.removeprefix("-")))
    except ValueError as error:
        raise InvalidRequestError(f"{name} is {text!r:.60}: {error}") from None
    if not text.startswith("-"):
        raise InvalidRequestError(f'{name} is {text!r:.60}; times before now begin with a minus: "-{text}"')
    return ago


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    """Return the names of all zones; finding them reads several hundred files."""
    return frozenset(available_timezones())
