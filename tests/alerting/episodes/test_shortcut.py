"""The shortcut: when the summary of new readings decides that no episode changes, and how the clocks move then."""

from typing import Literal

import pytest

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.conditions.inside import Inside
from app.alerting.episodes.machine import Level, Memory, SeriesRule
from app.alerting.episodes.samples import Sample, Sampler, ValueOf
from app.alerting.episodes.shortcut import Extremes, Shortcut
from app.clock import MINUTE_US
from app.summaries import Summary

M = MINUTE_US
#: A warning above 8 for 10 minutes, critical above 12 for 2 minutes; clear below 7 for 5 minutes.
RULE = SeriesRule(
    ValueOf(),
    (Level("warning", Above(8.0), 10 * M), Level("critical", Above(12.0), 2 * M)),
    clear=Below(7.0),
    clear_for_us=5 * M,
    max_gap_us=20 * M,
)
QUIET = Memory(10 * M, 10 * M, (None, None), None)


def run(first: float, last: float, lowest: float, highest: float, gap: float = 1) -> Summary:
    """Return the summary of two or more readings; times are in minutes."""
    return Summary(3, round(first * M), round(last * M), lowest, highest, round(gap * M))


def single(minute: float, value: float) -> Summary:
    return Summary(1, round(minute * M), round(minute * M), value, value, 0)


def of(rule: SeriesRule = RULE, **changes: object) -> Shortcut:
    fields = {name: getattr(rule, name) for name in rule.__struct_fields__}
    return Shortcut(SeriesRule(**{**fields, **changes}))


def test_clocks_stay_stopped_when_all_values_are_calm() -> None:
    assert of().skip(QUIET, None, run(11, 14, 1.0, 8.0), None) == Memory(14 * M, 14 * M, (None, None), None)


@pytest.mark.parametrize("highest", [8.0000001, 11.0, 13.0])
def test_there_is_no_shortcut_when_values_lie_on_both_sides_of_a_threshold(highest: float) -> None:
    assert of().skip(QUIET, None, run(11, 14, 1.0, highest), None) is None


def test_clock_starts_at_the_first_reading_when_all_values_are_past_the_threshold() -> None:
    assert of().skip(QUIET, None, run(11, 20, 9.0, 12.0), None) == Memory(20 * M, 20 * M, (11 * M, None), None)


def test_there_is_no_shortcut_when_a_clock_reaches_its_duration_at_the_last_reading() -> None:
    assert of().skip(QUIET, None, run(11, 21, 9.0, 10.0), None) is None
    running = Memory(10 * M, 10 * M, (5 * M, None), None)
    assert of().skip(running, None, run(11, 15, 9.0, 10.0), None) is None
    assert of().skip(running, None, run(11, 14, 9.0, 10.0), None) == Memory(14 * M, 14 * M, (5 * M, None), None)


def test_clock_stops_when_no_value_is_past_the_threshold() -> None:
    running = Memory(10 * M, 10 * M, (5 * M, 9 * M), None)
    assert of().skip(running, None, single(11, 9.0), None) == Memory(11 * M, 11 * M, (5 * M, None), None)
    assert of().skip(running, None, single(11, 8.0), None) == Memory(11 * M, 11 * M, (None, None), None)


def test_clock_restarts_at_the_first_reading_when_there_is_a_hole_before() -> None:
    running = Memory(10 * M, 10 * M, (5 * M, None), None)
    assert of().skip(running, None, run(30.1, 33, 9.0, 10.0), None) == Memory(
        33 * M, 33 * M, (round(30.1 * M), None), None
    )
    assert of().skip(running, None, run(30, 33, 9.0, 10.0), None) is None  # no hole: 28 minutes


def test_there_is_no_shortcut_when_a_clock_runs_over_a_hole_within_the_readings() -> None:
    long = of(levels=(Level("warning", Above(8.0), 99 * M),))
    assert long.skip(Memory(10 * M, 10 * M, (None,), None), None, run(11, 50, 9.0, 10.0, gap=20), None) is not None
    assert long.skip(Memory(10 * M, 10 * M, (None,), None), None, run(11, 50, 9.0, 10.0, gap=20.1), None) is None
    assert long.skip(Memory(10 * M, 10 * M, (None,), None), None, run(11, 50, 1.0, 2.0, gap=20.1), None) is not None


def test_episode_goes_on_when_all_values_are_past_its_level() -> None:
    firing = Memory(40 * M, 40 * M, (5 * M, None), None)
    assert of().skip(firing, 1, run(41, 60, 9.0, 12.0), None) == Memory(60 * M, 60 * M, (5 * M, None), None)


def test_there_is_no_shortcut_when_a_higher_level_may_be_reached() -> None:
    firing = Memory(40 * M, 40 * M, (5 * M, None), None)
    assert of().skip(firing, 1, run(41, 43, 13.0, 14.0), None) is None
    assert of().skip(firing, 1, run(41, 42.9, 13.0, 14.0), None) == Memory(
        round(42.9 * M), round(42.9 * M), (5 * M, 41 * M), None
    )
    assert of().skip(firing, 2, run(41, 43, 13.0, 14.0), None) is not None


def test_hold_of_clear_starts_goes_on_and_stops_while_an_episode_is_open() -> None:
    firing = Memory(40 * M, 40 * M, (None, None), None)
    held = of().skip(firing, 1, run(41, 45, 5.0, 6.0), None)
    assert held == Memory(45 * M, 45 * M, (None, None), 41 * M)
    assert held is not None
    assert of().skip(held, 1, single(46, 6.0), None) is None  # resolves
    assert of().skip(held, 1, single(46, 7.0), None) == Memory(46 * M, 46 * M, (None, None), None)
    assert of().skip(held, 1, single(65.1, 6.0), None) == Memory(
        round(65.1 * M), round(65.1 * M), (None, None), round(65.1 * M)
    )
    assert of().skip(firing, 1, run(41, 42, 6.9, 7.0), None) is None


def test_there_is_no_shortcut_when_clear_is_left_out_and_no_value_is_past_the_threshold() -> None:
    without = of(clear=None, clear_for_us=0)
    assert without.skip(Memory(40 * M, 40 * M, (5 * M, None), None), 1, single(41, 8.0), None) is None


def test_episode_of_a_level_that_the_rule_lost_counts_as_open() -> None:
    held = Memory(45 * M, 45 * M, (None, None), 41 * M)
    assert of().skip(held, 0, single(46, 6.0), None) is None


@pytest.mark.parametrize("condition", [Inside(4.9, 5.1), Equals(5.0)])
def test_there_is_no_shortcut_when_the_condition_is_met_only_between_the_lowest_and_the_highest_value(
    condition: Inside | Equals,
) -> None:
    rule = of(levels=(Level("warning", condition),), clear=None)
    assert rule.skip(Memory(10 * M, 10 * M, (None,), None), None, run(11, 12, 4.0, 6.0), None) is None


def windowed(kind: Literal["avg", "min", "max", "delta", "rate"], above: float) -> Shortcut:
    return Shortcut(SeriesRule(ValueOf(kind, 10 * M), (Level("warning", Above(above)),)))


def extremes(*readings: Summary) -> Extremes:
    found = Extremes.after(-60 * M)
    for each in readings:
        found.add(each, 10 * M)
    return found


CALM = Memory(0, 0, (None,), None)


@pytest.mark.parametrize(
    ("kind", "most"),
    # Readings between 2 and 3, then between 4 and 5.
    [("avg", 5.000000000000002), ("min", 5.0), ("max", 5.0), ("delta", 3.0), ("rate", 36.0)],
)
def test_samples_are_bounded_by_the_readings_before_when_the_value_has_a_window(
    kind: Literal["avg", "min", "max", "delta", "rate"], most: float
) -> None:
    new = run(9, 11, 4.0, 5.0)
    known = extremes(run(-20, 0, 2.0, 3.0), new)
    assert windowed(kind, most).skip(CALM, None, new, known) == Memory(11 * M, 11 * M, (None,), None)
    assert windowed(kind, most - 0.001).skip(CALM, None, new, known) is None


def test_there_is_no_shortcut_when_the_readings_of_the_window_are_not_all_known() -> None:
    new = single(10, 1.0)
    for after_us, is_known in ((-1, True), (0, False)):
        known = Extremes.after(after_us)
        known.add(new, 10 * M)
        assert (windowed("avg", 8.0).skip(CALM, None, new, known) is not None) is is_known
    assert windowed("avg", 8.0).skip(CALM, None, new, None) is None


def test_there_is_no_shortcut_when_an_average_may_be_past_the_threshold_by_rounding() -> None:
    rule = SeriesRule(ValueOf("avg", 5 * M), (Level("warning", Below(-0.2)),))
    sampler = Sampler(rule.value)
    assert [sampler.push(t, -0.2) for t in range(1, 4)][-1] == Sample(3, -0.20000000000000004)
    known = extremes(run(1, 2, -0.2, -0.2))
    assert Shortcut(rule).skip(CALM, None, run(1, 2, -0.2, -0.2), known) is None


@pytest.mark.parametrize("kind", ["delta", "rate"])
def test_there_is_no_shortcut_when_a_clock_runs_and_readings_may_give_no_sample(
    kind: Literal["delta", "rate"],
) -> None:
    rule = Shortcut(SeriesRule(ValueOf(kind, 10 * M), (Level("warning", Above(8.0), 60 * M),)))
    new = single(1, 1.0)
    running = Memory(0, 0, (-5 * M,), None)
    assert rule.skip(running, None, new, extremes(run(-20, 0, 1.0, 1.0), new)) is None
    assert rule.skip(CALM, None, new, extremes(run(-20, 0, 1.0, 1.0), new)) is not None
    assert rule.skip(CALM, None, new, extremes(run(-20, 0, -900.0, -900.0), new)) is None  # would start


def test_there_is_no_shortcut_for_counters() -> None:
    for value_of in (ValueOf("increase", 10 * M), ValueOf("rate", 10 * M, counter=True)):
        rule = Shortcut(SeriesRule(value_of, (Level("warning", Above(1e9)),)))
        assert rule.skip(CALM, None, single(1, 1.0), extremes(run(-20, 0, 1.0, 1.0), single(1, 1.0))) is None


def test_range_of_readings_within_bounds_is_at_most_their_distance() -> None:
    rule = Shortcut(SeriesRule(ValueOf("range", 10 * M), (Level("warning", Above(3.0)),)))
    assert rule.skip(CALM, None, single(1, 4.0), extremes(run(-20, 0, 1.0, 1.0), single(1, 4.0))) is not None
    assert rule.skip(CALM, None, single(1, 4.5), extremes(run(-20, 0, 1.0, 1.0), single(1, 4.5))) is None


def test_extremes_forget_readings_that_left_the_window_after_at_most_two_windows() -> None:
    known = Extremes.after(0)
    known.add(single(1, 99.0), 10 * M)
    for minute in range(2, 12):
        known.add(single(minute, 1.0), 10 * M)
        assert known.highest == 99.0
    known.add(single(12, 1.0), 10 * M)
    for minute in range(13, 24):
        known.add(single(minute, 1.0), 10 * M)
    assert (known.lowest, known.highest) == (1.0, 1.0)
    assert known.covers(23 * M - 10 * M)


def test_extremes_include_a_reading_that_comes_late_whatever_its_time() -> None:
    known = Extremes.after(0)
    known.add(single(11, 1.0), 10 * M)
    known.add(single(30, 1.0), 10 * M)
    known.add(single(15, 50.0), 10 * M)
    assert known.highest == 50.0
    known.add(single(31, 1.0), 10 * M)
    assert known.highest == 50.0
