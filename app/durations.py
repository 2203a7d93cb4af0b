"""Durations ("10m", "1h30m") and times of the day ("22:00") in the notation of rule files."""

import re
from decimal import Decimal

from app.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from app.hints import shown

UNITS_US = {"w": 7 * DAY_US, "d": DAY_US, "h": HOUR_US, "m": MINUTE_US, "s": SECOND_US, "ms": 1_000}
#: Longer durations are typing errors, and the longest of them would overflow a database interval.
LONGEST_US = 3_660 * DAY_US

#: Units in which a person is told how wrong a clock is, in seconds, largest first.
_ROUGH_S = ((365.25 * 86_400.0, "years"), (86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))

DURATION_PATTERN = r"^([0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d|w))+$"
TIME_PATTERN = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"

_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|[smhdw])")
_UNIT_WORDS = (
    (re.compile(r"(?<=\d)\s*(milliseconds?|millis|msecs?)\b", re.IGNORECASE), "ms"),
    (re.compile(r"(?<=\d)\s*(seconds?|secs?|s)\b", re.IGNORECASE), "s"),
    (re.compile(r"(?<=\d)\s*(minutes?|mins?|m)\b", re.IGNORECASE), "m"),
    (re.compile(r"(?<=\d)\s*(hours?|hrs?|h)\b", re.IGNORECASE), "h"),
    (re.compile(r"(?<=\d)\s*(days?|d)\b", re.IGNORECASE), "d"),
    (re.compile(r"(?<=\d)\s*(weeks?|w)\b", re.IGNORECASE), "w"),
)


def parse_duration(text: str) -> int:
    """Convert "90s", "1h30m" or "0" to microseconds; raise ValueError that says what is accepted."""
    if text == "0":
        return 0
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{shown(text)} is not a duration{_suggestion(text)} ({_ACCEPTED})")
    total = sum(Decimal(number) * UNITS_US[unit] for number, unit in _PART.findall(text))
    if total != int(total):
        raise ValueError(f"{shown(text)} is finer than a microsecond")
    if total > LONGEST_US:
        raise ValueError(f"{shown(text)} is longer than ten years")
    return int(total)


def format_duration(us: int) -> str:
    """Format microseconds in the notation of rule files, largest unit first: 5,400,000,000 is "1h30m"."""
    parts = []
    for unit, size in UNITS_US.items():
        if unit == "ms" and us:
            parts.append(f"{Decimal(us) / size:f}ms")
        elif unit != "w" and us >= size:
            count, us = divmod(us, size)
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def format_skew(skew_s: float) -> str:
    """Format how wrong a clock is, roughly: "3 h ahead", "90 s behind"; positive is behind."""
    seconds = abs(skew_s)
    size, unit = next(((size, unit) for size, unit in _ROUGH_S if seconds >= 2 * size), (1.0, "s"))
    number = seconds / size
    text = f"{number:.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")
    return f"{text} {unit} {'behind' if skew_s > 0 else 'ahead'}"


def parse_time_of_day(text: str) -> int:
    """Convert "22:00" to microseconds since midnight; "24:00" is the end of the day. Raise ValueError."""
    if not re.fullmatch(TIME_PATTERN, text):
        raise ValueError(f'{shown(text)} is not a time of the day; write "HH:MM" from "00:00" to "24:00"')
    hours, minutes = text.split(":")
    return int(hours) * HOUR_US + int(minutes) * MINUTE_US


def format_time_of_day(us: int) -> str:
    """Format microseconds since midnight as "HH:MM"."""
    return f"{us // HOUR_US:02}:{us % HOUR_US // MINUTE_US:02}"


_ACCEPTED = "a number and a unit, ms, s, m, h, d or w, such as 10m or 1h30m"


def _suggestion(text: str) -> str:
    """Return `; did you mean "10m"?` for a text that resembles a duration, or "" for any other."""
    guess = text.strip().lower()
    if re.fullmatch(r"[0-9]{1,12}", guess):
        return f', its unit is missing; did you mean "{guess}s" or "{guess}m"?'
    for unit_word, unit in _UNIT_WORDS:
        guess = unit_word.sub(unit, guess)
    guess = guess.replace(" ", "")
    return f'; did you mean "{guess}"?' if re.fullmatch(DURATION_PATTERN, guess) else ""
