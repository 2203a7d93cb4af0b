"""Times as texts: what is taken, and what is said of the others."""

from datetime import UTC, datetime

import pytest

from app.time_texts import name_unit, parse_time_text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T08:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31 08:00:05 z", datetime(2026, 1, 31, 8, 0, 5, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T04:30:00-0330", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00,25Z", datetime(2026, 1, 31, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-01-31T08:00:00.1234567Z", datetime(2026, 1, 31, 8, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-06-30T23:59:60Z", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-01-31T24:00:00Z", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-01-31T08:00", datetime(2026, 1, 31, 8)),  # noqa: DTZ001
    ],
)
def test_time_is_read_when_it_means_one_thing(text: str, moment: datetime) -> None:
    assert parse_time_text(text) == moment


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not RFC 3339"),
        ("31.1.2026 08:00", "it is not RFC 3339"),
        ("2026-01-31", "it lacks the time of day"),
        ("2026-13-31T08:00Z", "its month is 13"),
        ("2026-01-31T25:00Z", "its hour is 25"),
        ("2026-01-31T24:01Z", "its hour is 24"),
        ("2026-01-31T08:60Z", "its minute is 60"),
        ("2026-01-31T08:00:61Z", "its second is 61"),
        ("2026-02-30T08:00Z", "there is no day 2026-02-30"),
        ("9999-12-31T24:00Z", "there is no day 9999-12-31"),
        ("2026-01-31T08:00+15:00", "its zone is +15:00"),
        ("2" * 1_000_000, "it is not RFC 3339"),
        ("1769846400000", "it is a number in quotes"),
    ],
    ids=lambda text: text[:30],
)
def test_time_is_refused_with_what_is_wrong_with_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$".replace("+", r"\+")):
        parse_time_text(text)


def test_unit_is_told_by_the_size_of_a_number() -> None:
    now = 1_769_846_400
    assert [name_unit(now * 10**power) for power in (0, 3, 6, 9)] == [
        "seconds",
        "milliseconds",
        "microseconds",
        "nanoseconds",
    ]
