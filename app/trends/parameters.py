"""Query parameters for times, ranges and zones; an error names the parameter, its value and what is accepted."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from app.clock import from_us
from app.durations import parse_duration
from app.errors import InvalidRequestError
from app.hints import did_you_mean
from app.local_times import zone_names
from app.time_texts import name_unit, parse_time_text

DEFAULT_RANGE = timedelta(days=1)
_EARLIEST_END = datetime.min.replace(tzinfo=UTC) + DEFAULT_RANGE
_DIGITS = re.compile(r"[0-9]+")
_DIGITS_READ = 30
#: A number of seconds since 1970 from 2001 on; as milliseconds, it would be in January 1970.
_LEAST_SECONDS = 10**9
#: Greater numbers count no unit of time.
_NUMBERS_END = 10**20
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
    why = ""
    try:
        if _DIGITS.fullmatch(text):
            return _parse_number(name, text)
        moment = _parse_text(_LOST_PLUS.sub("+", text))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        why = ": it has no zone"
    except ValueError as error:
        why = f": {error}" if text[:4].isdigit() and "-" in text else ""
    except OverflowError:
        pass
    if _AGO.fullmatch(text):
        return now - _parse_ago(name, text)
    raise InvalidRequestError(
        f"{name} is {text!r:.60}{why}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, milliseconds since "
        "1970, now, or a time before now, such as -24h"
    )


def _parse_text(text: str) -> datetime:
    try:
        return msgspec.convert(text, datetime)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return parse_time_text(text)


def _parse_number(name: str, text: str) -> datetime:
    """Return milliseconds since 1970 as a time; raise InvalidRequestError for a number that counts something else."""
    number = int(text[:_DIGITS_READ])
    if number >= _NUMBERS_END:
        raise OverflowError
    unit = name_unit(number)
    if number >= _LEAST_SECONDS and unit != "milliseconds":
        raise InvalidRequestError(f"{name} is {text:.60}, which looks like {unit}; send milliseconds since 1970")
    return from_us(number * 1_000)


def parse_zone(text: str) -> ZoneInfo:
    """Return the zone of a name such as Europe/Berlin; raise InvalidRequestError."""
    # An unescaped + arrives as a space, as in Etc/GMT+5.
    name = text.replace(" ", "+")
    if name in zone_names():
        return ZoneInfo(name)
    raise InvalidRequestError(
        f"tz is {text!r:.60}; send a name of the IANA time zone database, such as Europe/Berlin"
        f"{did_you_mean(text, zone_names())}"
    )


def _parse_ago(name: str, text: str) -> timedelta:
    try:
        ago = timedelta(microseconds=parse_duration(text.removeprefix("-")))
    except ValueError as error:
        raise InvalidRequestError(f"{name} is {text!r:.60}: {error}") from None
    if not text.startswith("-"):
        raise InvalidRequestError(f'{name} is {text!r:.60}; times before now begin with a minus: "-{text}"')
    return ago
