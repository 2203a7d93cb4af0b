"""Checks of values, times, tags and units, for all formats. Each refusal says what to send instead."""

import re
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from app.clock import DAY_US, MINUTE_US, rfc3339, to_us
from app.db.aggregates import OLDEST_ACCEPTED_US
from app.ingest.uploads.receipt import Rejected, RejectionCode
from app.model import VALUE_LIMIT, Tags
from app.names import (
    METRIC_NAME_LIMIT,
    SENSOR_NAME_LIMIT,
    TAGS_LIMIT,
    explain_tag,
    explain_tags,
    show,
)
from app.time_texts import name_unit, parse_time_text

#: Times of readings may be this far in the future, because clocks of gateways run ahead.
FUTURE_LIMIT_US = 10 * MINUTE_US
#: A 64-bit float holds every integer up to this.
EXACT_LIMIT = 2**53
#: A number with a decimal comma, perhaps in quotes, as messages show it.
_COMMA: Final = re.compile(r"'?[-+]?[0-9]+,[0-9]+'?", re.ASCII)
#: Greater times, beyond three thousand years, are refused before the conversion to microseconds.
_MILLISECONDS_LIMIT = 10**14

Refusal = tuple[RejectionCode, str]


def refuse_sensor(name: object) -> Refusal:
    """Return the refusal of a sensor's name."""
    return "sensor_invalid", (
        f"sensor is {show(name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable characters{_except_steps(name)}"
    )


def refuse_metric(name: object) -> Refusal:
    """Return the refusal of a metric's name."""
    return "metric_invalid", (
        f"the metric is named {show(name)}; send a text of 1 to {METRIC_NAME_LIMIT} printable characters"
        f"{_except_steps(name)}"
    )


def _except_steps(name: object) -> str:
    return ", but not a step of a path" if name in (".", "..") else ""


def check_value(metric: str, value: object) -> Refusal | None:
    """Return a refusal if the value is not a finite number within ±VALUE_LIMIT, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        form = "a number with a point" if _COMMA.fullmatch(show(value)) else "a number"
        return "value_not_a_number", f"{metric} is {show(value)}; send {form}, or leave the metric out"
    if not -VALUE_LIMIT <= value <= VALUE_LIMIT:
        return (
            "value_out_of_range",
            f"{metric} is {show(value)}; send a finite number within ±{VALUE_LIMIT:g}",
        )
    if isinstance(value, int) and abs(value) > EXACT_LIMIT and int(float(value)) != value:
        return (
            "value_not_exact",
            f"{metric} is {show(value)}, which no 64-bit float equals; send it as a float, rounded",
        )
    return None


def time_limits(received_us: int) -> tuple[int, int]:
    """Return the earliest and the latest time that a reading received at `received_us` may have."""
    return received_us - OLDEST_ACCEPTED_US, received_us + FUTURE_LIMIT_US


def check_time(time_us: int, received_us: int) -> Refusal | None:
    """Return a refusal if the time is too far ahead of, or behind, the time of receipt, else None."""
    earliest, latest = time_limits(received_us)
    if time_us > latest:
        return "time_in_future", (
            f"time is {show_time(time_us)}, more than {FUTURE_LIMIT_US // MINUTE_US} minutes ahead of the server's "
            f"clock ({rfc3339(received_us)}); set the gateway's clock"
        )
    if time_us < earliest:
        hint = "; numbers are milliseconds since 1970, not seconds" if 0 <= time_us < 40 * DAY_US else ""
        return "time_too_old", (
            f"time is {show_time(time_us)}, older than the {OLDEST_ACCEPTED_US // (DAY_US)} days that are kept{hint}"
        )
    return None


def read_time(time: object) -> int | Refusal:
    """Return a time of any accepted form in microseconds since 1970, or a refusal."""
    if isinstance(time, datetime):
        return check_datetime(time)
    if isinstance(time, int | float) and not isinstance(time, bool):
        return _read_milliseconds(time)
    why = ""
    if isinstance(time, str):
        with suppress(msgspec.ValidationError, UnicodeEncodeError):
            return check_datetime(msgspec.convert(time, datetime))
        try:
            return check_datetime(parse_time_text(time))
        except ValueError as error:
            why = f": {error}"
    return "time_invalid", (
        f"time is {show(time)}{why}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since "
        "1970"
    )


def _read_milliseconds(time: float) -> int | Refusal:
    if -_MILLISECONDS_LIMIT < time < _MILLISECONDS_LIMIT:
        return round(time * 1_000)
    unit = name_unit(time)
    counted = f", which looks like {unit}" if 0 < time < 10**20 else ""
    return "time_invalid", f"time is {show(time)}{counted}; send milliseconds since 1970"


def check_datetime(moment: datetime) -> Refusal | int:
    """Return a time in microseconds since 1970, or a refusal if it has no zone."""
    if moment.tzinfo is None:
        return "time_without_zone", (
            f"time is {moment.isoformat()!r}, which has no zone; write {moment.isoformat()}Z for UTC"
        )
    return to_us(moment)


def check_tags(tags: object) -> Refusal | None:
    """Return a refusal if these cannot be stored as tags, else None."""
    reason = explain_tags(tags)
    return None if reason is None else ("tags_invalid", reason)


def keep_tags(index: int, tags: object, rejected: Rejected) -> Tags | None:
    """Return the tags of a reading that can be stored: texts, and numbers and booleans as text; null is no tag.

    The others are refused one by one; the reading is stored without them.
    """
    if tags is None:
        return None
    if not isinstance(tags, dict):
        rejected.add_tag(index, "", f"tags is {show(tags)}; send an object of at most {TAGS_LIMIT} texts")
        return None
    kept: Tags = {}
    for name, given in tags.items():
        if given is None:
            continue
        value = given if isinstance(given, str) else scalar_text(given)
        reason = explain_tag(name, given if value is None else value)
        if reason is None and len(kept) >= TAGS_LIMIT:
            reason = f"tag {show(name)} is one too many; send at most {TAGS_LIMIT}"
        if reason is not None:
            rejected.add_tag(index, name if explain_tag(name, "") is None else show(name), reason)
        elif value is not None:
            kept[name] = value
    return kept


def scalar_text(value: object) -> str | None:
    """Return a finite number or a boolean as JSON has it, None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else None
    return repr(value) if isinstance(value, float) and abs(value) <= VALUE_LIMIT else None


def show_time(us: int) -> str:
    """Return a time for a message, also one that no calendar has."""
    try:
        return rfc3339(us)
    except OverflowError:
        return f"{us} µs since 1970"
