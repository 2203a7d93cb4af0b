"""Checks of values, times, tags and units, for all formats. Each refusal says what to send instead."""

from datetime import datetime

from app.clock import DAY_US, MINUTE_US, rfc3339, to_us
from app.db.aggregates import OLDEST_ACCEPTED_US
from app.ingest.upload import RejectionCode
from app.model import VALUE_LIMIT
from app.names import METRIC_NAME_LIMIT, SENSOR_NAME_LIMIT, explain_tags, explain_units, show

#: Times of readings may be this far in the future, because clocks of gateways run ahead.
FUTURE_LIMIT_US = 10 * MINUTE_US

Refusal = tuple[RejectionCode, str]


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
            f"time is {show_time(time_us)}, more than {FUTURE_LIMIT_US // MINUTE_US} minutes ahead of the server's "
            f"clock ({rfc3339(received_us)}); set the gateway's clock"
        )
    if time_us < earliest:
        hint = "; numbers are milliseconds since 1970, not seconds" if 0 <= time_us < 40 * DAY_US else ""
        return "time_too_old", (
            f"time is {show_time(time_us)}, older than the {OLDEST_ACCEPTED_US // (DAY_US)} days that are kept{hint}"
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
    """Return a refusal if these cannot be stored as tags, else None."""
    reason = explain_tags(tags)
    return None if reason is None else ("tags_invalid", reason)


def check_units(units: object) -> Refusal | None:
    """Return a refusal if these cannot be stored as units by metric, else None."""
    reason = explain_units(units)
    return None if reason is None else ("unit_invalid", reason)


def show_time(us: int) -> str:
    """Return a time for a message, also one that no calendar has."""
    try:
        return rfc3339(us)
    except OverflowError:
        return f"{us} µs since 1970"
