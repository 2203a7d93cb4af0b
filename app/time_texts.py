"""Times as texts: RFC 3339, and what clocks and firmware write in its place where it can mean only one thing."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

#: A date, a time of day that may lack seconds, a fraction after a point or a comma, and a zone that may lack minutes.
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)? ?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LONGEST: Final = 80
#: The digits of a number that counts each unit since 1970, now and for centuries to come.
_UNITS: Final = ((10**11, "seconds"), (10**14, "milliseconds"), (10**17, "microseconds"), (10**20, "nanoseconds"))


def parse_time_text(text: str) -> datetime:
    """Return the moment of a text; without a zone, the datetime has none either.

    Second 60 is the first of the next minute, hour 24 midnight, and what is finer than a microsecond is cut off. Raise
    ValueError, which says what is wrong.
    """
    found = _TIME.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(_explain(text.strip()))
    year, month, day, hour, minute, second = (int(part or 0) for part in found.group(1, 2, 3, 4, 5, 6))
    for name, value, least, most in (
        ("month", month, 1, 12),
        ("hour", hour, 0, 24),
        ("minute", minute, 0, 59),
        ("second", second, 0, 60),
    ):
        if not least <= value <= most:
            raise ValueError(f"its {name} is {value:02}")
    if hour == 24 and (minute or second):
        raise ValueError("its hour is 24")
    zone = _zone(found)
    of_day = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=int(f"{found[7] or '':0<6}"[:6]))
    try:
        return datetime(year, month, day, tzinfo=zone) + of_day
    except (ValueError, OverflowError):
        raise ValueError(f"there is no day {found[1]}-{found[2]}-{found[3]}") from None


def _explain(text: str) -> str:
    """Return what is wrong with a text that has not the form of a time."""
    if _DATE.fullmatch(text):
        return "it lacks the time of day"
    if len(text) <= _LONGEST and text.isascii() and text.isdecimal():
        return "it is a number in quotes"
    return "it is not RFC 3339"


def _zone(found: re.Match[str]) -> timezone | None:
    if found[8]:
        return UTC
    if not found[9]:
        return None
    offset = timedelta(hours=int(found[10]), minutes=int(found[11] or 0))
    if int(found[11] or 0) > 59 or offset > timedelta(hours=14):
        raise ValueError(f"its zone is {found[9]}{found[10]}:{found[11] or '00'}")
    return timezone(offset if found[9] == "+" else -offset)


def name_unit(number: float) -> str:
    """Return the unit in which a number counts the time since 1970, judged by its size."""
    return next((unit for limit, unit in _UNITS if abs(number) < limit), _UNITS[-1][1])
