"""Checks of names, values, times and tags; each refusal names the value and what to send instead."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.clock import DAY_US, to_us
from app.ingest.checks import (
    Refusal,
    check_datetime,
    check_tags,
    check_time,
    check_value,
    refuse_metric,
    refuse_sensor,
)
from app.names import is_metric_name, is_sensor_name

RECEIVED_US = to_us(datetime(2026, 1, 31, 8, tzinfo=UTC))
MINUTE_US = 60_000_000


@pytest.mark.parametrize("name", ["a", "a b", "pi1,cpu=cpu0", "/slash/", "Grün", "水位", "😀", "x" * 100, "'\"\\%"])
def test_name_is_accepted_when_it_can_be_printed(name: str) -> None:
    assert is_sensor_name(name)
    assert is_metric_name(name)


@pytest.mark.parametrize(
    "name", ["", " ", "   ", "\0", "a\0", "a\nb", "a\tb", "\x7f", "\ud800", "\u200b", "\u00a0", "x" * 201]
)
def test_name_is_refused_when_it_is_empty_too_long_or_cannot_be_printed(name: str) -> None:
    assert not is_sensor_name(name)
    assert not is_metric_name(name)


def test_name_limits_are_200_for_sensors_and_100_for_metrics() -> None:
    assert (is_sensor_name("x" * 200), is_sensor_name("x" * 201)) == (True, False)
    assert (is_metric_name("x" * 100), is_metric_name("x" * 101)) == (True, False)
    assert refuse_sensor(None) == ("sensor_invalid", "sensor is null; send a text of 1 to 200 printable characters")
    assert refuse_metric("y" * 500) == (
        "metric_invalid",
        f"the metric is named '{'y' * 56}...; send a text of 1 to 100 printable characters",
    )


@pytest.mark.parametrize("value", [0, -0.0, 1, 1.5, 5e-324, 1e100, -1e100, 2**80])
def test_value_is_accepted_when_it_is_a_finite_number_within_the_limit(value: float) -> None:
    assert check_value("temperature", value) is None


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (float("nan"), "value_out_of_range", "temperature is nan; send a finite number within ±1e+100"),
        (float("inf"), "value_out_of_range", "temperature is inf; send a finite number within ±1e+100"),
        (float("-inf"), "value_out_of_range", "temperature is -inf; send a finite number within ±1e+100"),
        (1.1e100, "value_out_of_range", "temperature is 1.1e+100; send a finite number within ±1e+100"),
        (10**101, "value_out_of_range", f"temperature is 1{'0' * 56}...; send a finite number within ±1e+100"),
        (None, "value_not_a_number", "temperature is null; send a number, or leave the metric out"),
        (True, "value_not_a_number", "temperature is True; send a number, or leave the metric out"),
        ("21.5", "value_not_a_number", "temperature is '21.5'; send a number, or leave the metric out"),
        ([21.5], "value_not_a_number", "temperature is [21.5]; send a number, or leave the metric out"),
    ],
)
def test_value_is_refused_with_its_metric_when_it_is_not_a_finite_number_within_the_limit(
    value: object, code: str, message: str
) -> None:
    assert check_value("temperature", value) == (code, message)


@pytest.mark.parametrize(
    ("offset_us", "code"),
    [
        (10 * MINUTE_US, None),
        (10 * MINUTE_US + 1, "time_in_future"),
        (-399 * DAY_US, None),
        (-399 * DAY_US - 1, "time_too_old"),
    ],
)
def test_time_is_accepted_from_399_days_ago_to_ten_minutes_ahead(offset_us: int, code: str | None) -> None:
    refusal = check_time(RECEIVED_US + offset_us, RECEIVED_US)
    assert (refusal and refusal[0]) == code


@pytest.mark.parametrize(
    ("time_us", "message"),
    [
        (
            RECEIVED_US + 3600 * 1_000_000,
            (
                "time is 2026-01-31T09:00:00Z, more than 10 minutes ahead of the server's clock "
                "(2026-01-31T08:00:00Z); set the gateway's clock"
            ),
        ),
        (
            1_769_846_400_000,
            (
                "time is 1970-01-21T11:37:26.400000Z, older than the 399 days that are kept; numbers are milliseconds "
                "since 1970, not seconds"
            ),
        ),
        (-1, "time is 1969-12-31T23:59:59.999999Z, older than the 399 days that are kept"),
        (-(10**18), "time is -1000000000000000000 µs since 1970, older than the 399 days that are kept"),
    ],
)
def test_time_is_refused_with_advice_when_a_clock_is_wrong(time_us: int, message: str) -> None:
    refusal = check_time(time_us, RECEIVED_US)
    assert refusal is not None
    assert refusal[1] == message


def test_datetime_is_converted_without_rounding_when_it_has_a_zone() -> None:
    aware = datetime(2026, 1, 31, 10, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    assert check_datetime(aware) == RECEIVED_US + 1
    assert check_datetime(datetime(2026, 1, 31, 8)) == (  # noqa: DTZ001 -- the refused kind
        "time_without_zone",
        "time is '2026-01-31T08:00:00', which has no zone; write 2026-01-31T08:00:00Z for UTC",
    )


@pytest.mark.parametrize(
    "tags",
    [{}, {"site": ""}, {"": "x"}, {"a\nb": "\x01\t\u00a0"}, {"x" * 200: "y" * 200}, {str(n): "" for n in range(32)}],
)
def test_tags_are_accepted_when_they_are_few_short_texts(tags: object) -> None:
    assert check_tags(tags) is None


SHORT = "; send texts of at most 200 characters, without NUL and unpaired surrogates"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([], "tags is []; send an object of at most 32 texts"),
        ("site", "tags is 'site'; send an object of at most 32 texts"),
        ({str(n): "" for n in range(33)}, None),
        ({"site": None}, f"tag 'site' is null{SHORT}"),
        ({"site": 5}, f"tag 'site' is 5{SHORT}"),
        ({5: "site"}, f"tag 5 is 'site'{SHORT}"),
        ({"site": "\0"}, f"tag 'site' is '\\x00'{SHORT}"),
        ({"site": "\ud800"}, f"tag 'site' is '\\ud800'{SHORT}"),
        ({"\udfff": "x"}, f"tag '\\udfff' is 'x'{SHORT}"),
        ({"site": "y" * 201}, f"tag 'site' is '{'y' * 56}...{SHORT}"),
    ],
)
def test_tags_are_refused_when_they_are_too_many_too_long_or_cannot_be_stored(
    tags: object, message: str | None
) -> None:
    refusal: Refusal | None = check_tags(tags)
    assert refusal is not None
    assert refusal[0] == "tags_invalid"
    assert message is None or refusal[1] == message
