"""Query parameters: times, ranges and cursors, each refused with its name, its value and what would be right."""

from datetime import UTC, datetime, timedelta

import msgspec

from app.clock import from_us
from app.errors import InvalidRequestError

DEFAULT_RANGE = timedelta(days=1)


def parse_range(from_: str | None, to: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Give the half-open range [from, to); left out, `to` is now and `from` a day before `to`."""
    end = now if to is None else parse_time("to", to)
    start = end - DEFAULT_RANGE if from_ is None else parse_time("from", from_)
    if start >= end:
        raise InvalidRequestError(f"from is {start.isoformat()} and to is {end.isoformat()}; from must be earlier")
    return start, end


def parse_time(name: str, text: str) -> datetime:
    """Parse RFC 3339 with a zone, or milliseconds since 1970; raise InvalidRequestError."""
    try:
        if text.lstrip("-").isdigit():
            return from_us(int(text) * 1_000)
        # In a query an unescaped + of an offset arrives as a space.
        moment: datetime | None = msgspec.convert(text.replace(" ", "+"), datetime)
    except (msgspec.ValidationError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequestError(
            f"{name} is {text!r:.60}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds "
            "since 1970"
        )
    return moment.astimezone(UTC)


def parse_cursor(cursor: str | None, start: datetime) -> tuple[datetime, int]:
    """Read the cursor of a page of readings: time in microseconds and sensor id; before all when there is none."""
    if cursor is None:
        return start, -1
    us, _dot, sensor_id = cursor.partition(".")
    try:
        return from_us(int(us)), int(sensor_id)
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"cursor is {cursor!r:.60}; send the `next` of the page before, unchanged") from None
