import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.durations import (
    LONGEST_US,
    format_duration,
    format_time_of_day,
    parse_duration,
    parse_time_of_day,
)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0", 0),
        ("500ms", 500_000),
        ("90s", 90_000_000),
        ("10m", 600_000_000),
        ("1.5h", 5_400_000_000),
        ("4h", 14_400_000_000),
        ("1h30m", 5_400_000_000),
        ("7d", 604_800_000_000),
        ("2w", 1_209_600_000_000),
        ("0.001ms", 1),
    ],
)
def test_duration_is_microseconds_when_it_has_a_unit(text: str, us: int) -> None:
    assert parse_duration(text) == us


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10 minutes", '"10m"'),
        ("1 hour 30 min", '"1h30m"'),
        ("10M", '"10m"'),
        ("2 Days", '"2d"'),
        ("10", '"10s" or "10m"'),
    ],
)
def test_duration_suggests_a_spelling_when_the_meaning_is_plain(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as raised:
        parse_duration(text)
    assert f"did you mean {meant}?" in str(raised.value)


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5m ", "5m\n", "m", "5x", "٥m", "1e3s", "9" * 5000])
def test_duration_is_refused_when_the_text_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_duration_is_refused_when_it_is_too_long_or_too_fine() -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration("999999999999w")
    with pytest.raises(ValueError, match="finer than a microsecond"):
        parse_duration("0.0001ms")


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0"),
        (1_000, "1ms"),
        (1, "0.001ms"),
        (90_000_000, "1m30s"),
        (604_800_000_000, "7d"),
        (5_400_000_000, "1h30m"),
    ],
)
def test_duration_is_written_largest_unit_first(us: int, text: str) -> None:
    assert format_duration(us) == text


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=LONGEST_US))
def test_duration_is_unchanged_when_formatted_and_parsed(us: int) -> None:
    assert parse_duration(format_duration(us)) == us


def test_time_of_day_is_microseconds_since_midnight() -> None:
    assert parse_time_of_day("00:00") == 0
    assert parse_time_of_day("22:30") == 81_000_000_000
    assert parse_time_of_day("24:00") == 86_400_000_000
    assert format_time_of_day(81_000_000_000) == "22:30"


@pytest.mark.parametrize("text", ["24:01", "7:00", "12:60", "noon", "12:00:00", "12:00\n", ""])
def test_time_of_day_is_refused_when_it_does_not_exist(text: str) -> None:
    with pytest.raises(ValueError, match='write "HH:MM"'):
        parse_time_of_day(text)
