"""Query parameters for times and ranges; an error names the parameter, its value and what is accepted."""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from app.clock import from_us
from app.errors import InvalidRequestError

DEFAULT_RANGE = timedelta(days=1)
_EARLIEST_END = datetime.min.replace(tzinfo=UTC) + DEFAULT_RANGE
_MILLISECONDS = re.compile(r"-?[0-9]{1,15}")
#: The unescaped + of an offset arrives as a space in a query.
_LOST_PLUS = re.compile(r" (?=\d\d:\d\d$)")


def parse_range(from_: str | None, to: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the half-open range [from, to); by default `to` is now and `from` a day before `to`.

    Raises InvalidRequestError.
    """
    end = now if to is None else parse_time("to", to)
    start = max(end, _EARLIEST_END) - DEFAULT_RANGE if from_ is None else parse_time("from", from_)
    if start >= end:
        raise InvalidRequestError(f"from is {start.isoformat()} and to is {end.isoformat()}; from must be earlier")
    return start, end


def parse_time(name: str, text: str) -> datetime:
    """Parse RFC 3339 with a zone, or milliseconds since 1970; raise InvalidRequestError."""
    try:
        if _MILLISECONDS.fullmatch(text):
            return from_us(int(text) * 1_000)
        moment = msgspec.convert(_LOST_PLUS.sub("+", text), datetime)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    raise InvalidRequestError(
        f"{name} is {text!r:.60}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970"
    )
