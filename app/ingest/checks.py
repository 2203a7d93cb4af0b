"""Checks of names, values, times and tags, for all formats. Each refusal says what to send instead."""

from datetime import datetime
from functools import lru_cache

from app.clock import DAY_US, MINUTE_US, rfc3339, to_us
from app.db.aggregates import OLDEST_ACCEPTED_US
from app.ingest.upload import RejectionCode
from app.model import VALUE_LIMIT

SENSOR_NAME_LIMIT = 200
METRIC_NAME_LIMIT = 100
TAGS_LIMIT = 32
TAG_LENGTH_LIMIT = 200
#: Times of readings may be this far in the future, because clocks of gateways run ahead.
FUTURE_LIMIT_US = 10 * MINUTE_US

Refusal = tuple[RejectionCode, str]


@lru_cache(maxsize=65_536)
def is_sensor_name(name: str) -> bool:
    """Return whether a sensor may have this name."""
    return _is_name(name, SENSOR_NAME_LIMIT)


@lru_cache(maxsize=4_096)
def is_metric_name(name: str) -> bool:
    """Return whether a metric may have this name."""
    return _is_name(name, METRIC_NAME_LIMIT)


def refuse_sensor(name: object) -> Refusal:
    """Return the refusal of a sensor's name."""
    return "sensor_invalid", (f"sensor is {show(name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable characters")


def refuse_metric(name: object) -> Refusal:
    """Return the refusal of a metric's name."""
    return "metric_invalid", (
        f"the metric is named {show(name)}; send a text of 1 to {METRIC_NAME_LIMIT} printable characters"
    )


def check_value(metric: str, value: object) -> Refusal | None:
    """Return a refusal if the value is not a finite number within ±VALUE_LIMIT, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "value_not_a_number", f"{metric} is {show(value)}; send a number, or leave the metric out"
    if not -VALUE_LIMIT <= value <= VALUE_LIMIT:
        return (
            "value_out_of_range",
            f"{metric} is {show(value)}; send a finite number within ±{VALUE_LIMIT:g}",
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
            f"time is {_show_time(time_us)}, more than {FUTURE_LIMIT_US // MINUTE_US} minutes ahead of the server's "
            f"clock ({rfc3339(received_us)}); set the gateway's clock"
        )
    if time_us < earliest:
        hint = "; numbers are milliseconds since 1970, not seconds" if 0 <= time_us < 40 * DAY_US else ""
        return "time_too_old", (
            f"time is {_show_time(time_us)}, older than the {OLDEST_ACCEPTED_US // (DAY_US)} days that are kept{hint}"
        )
    return None


def check_datetime(moment: datetime) -> Refusal | int:
    """Return a time in microseconds since 1970, or a refusal if it has no zone."""
    if moment.tzinfo is None:
        return "time_without_zone", (
            f"time is {moment.isoformat()!r}, which has no zone; write {moment.isoformat()}Z for UTC"
        )
    return to_us(moment)


def check_tags(tags: object) -> Refusal | None:
    """Return a refusal if the tags are not a mapping of at most TAGS_LIMIT short texts to short texts, else None."""
    if not isinstance(tags, dict) or len(tags) > TAGS_LIMIT:
        return "tags_invalid", f"tags is {show(tags)}; send an object of at most {TAGS_LIMIT} texts"
    for name, value in tags.items():
        for text in (name, value):
            if not isinstance(text, str) or len(text) > TAG_LENGTH_LIMIT or not _is_storable(text):
                return "tags_invalid", (
                    f"tag {show(name)} is {show(value)}; send texts of at most {TAG_LENGTH_LIMIT} characters, "
                    "without NUL and unpaired surrogates"
                )
    return None


def show(value: object) -> str:
    """Return a value as text for a message, cut to 60 characters."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_name(name: str, limit: int) -> bool:
    return 0 < len(name) <= limit and name.isprintable() and not name.isspace()


def _is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store the text; JSON can contain both NUL and half a surrogate pair."""
    return text.isprintable() or not ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text))


def _show_time(us: int) -> str:
    try:
        return rfc3339(us)
    except OverflowError:
        return f"{us} µs since 1970"
