import pytest

from app.alerting.trials.series_notation import expand, format_offset, parse_notation, parse_offset
from app.clock import HOUR_US, MINUTE_US, SECOND_US

M = MINUTE_US


def read(text: str, start_us: int = 0, every_us: int = M) -> list[tuple[int, float]]:
    return list(expand(parse_notation(text), start_us, every_us))


def test_values_follow_each_other_at_the_interval() -> None:
    assert read("20, 20.5 x2, -1e1", start_us=7, every_us=10) == [(7, 20.0), (17, 20.5), (27, 20.5), (37, -10.0)]


def test_ramp_ends_at_its_last_value_when_steps_are_not_exact() -> None:
    assert read("27..22 x6") == [(n * M, 27.0 - n) for n in range(6)]
    assert [value for _, value in read("0.1..0.3 x4")][-1] == 0.3


def test_gap_leaves_out_readings_or_time() -> None:
    assert read("1 x2, gap 3, 2, gap 1h, 3") == [(0, 1.0), (M, 1.0), (5 * M, 2.0), (6 * M + HOUR_US, 3.0)]


def test_reading_at_an_explicit_time_does_not_move_the_next_ones() -> None:
    assert read("1, +30s=9, +1h=4, 2") == [(0, 1.0), (30 * SECOND_US, 9.0), (M, 2.0), (HOUR_US, 4.0)]


def test_spaces_are_ignored_between_parts() -> None:
    assert read(" 1  x 2 ,3 .. 4x2, +5m = 6 ") == read("1 x2, 3..4 x2, +5m=6")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", '"" is not known; write readings such as "20 x5, 20..31 x12, gap 3, +1h=19.5"'),
        ("20; 21", '"20; 21" is not known'),
        ("20 x0", '"20 x0" is no reading at all; leave it out'),
        ("20..21 x1", '"20..21 x1" needs at least x2: the first value and the last'),
        ("gap 5 minutes", '"gap 5 minutes" is not known'),
        ("gap 5min", '"5min" is not a duration; did you mean "5m"?'),
        ("+5=3", '"5" is not a duration, its unit is missing; did you mean "5s" or "5m"?'),
        ("1e101", "no reading is beyond ±1e+100"),
        ("nan", '"nan" is not known'),
        ("1 x3, +1m=2", "there are two readings at +1m"),
        ("1 x100001", "these are 100,001 readings; a series may have 100,000"),
        ("1, gap 999999999, 2", "the last of these readings is more than ten years after the start"),
    ],
)
def test_notation_is_refused_with_a_helpful_message(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:
        read(text)
    assert str(raised.value).startswith(said)


def test_offsets_are_read_and_written_in_the_same_form() -> None:
    assert parse_offset("+1h30m") == 90 * M
    assert format_offset(90 * M) == "+1h30m"
    assert format_offset(0) == "+0"
    with pytest.raises(ValueError, match=r'"5m" is not a time counted from the start, such as \+5m'):
        parse_offset("5m")
