"""Held samples, second metrics and eras, with literal times; tests/alerting/mutants.py puts faults into them."""

from collections.abc import Sequence

import pytest

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.episodes.machine import Episode, Level, SecondMetric, SeriesRule, Step
from app.alerting.episodes.replay import Known, Want, replay
from app.alerting.episodes.samples import Sample, StoredReading, ValueOf
from app.alerting.episodes.timed import NEVER, Companion, Timing, run_timed
from app.clock import MINUTE_US
from app.model import SeriesId
from tests.alerting.timed_histories import check_timed_history

M = MINUTE_US
DOOR = SecondMetric("door", Equals(0.0), 60 * M)
CLOSED = Companion(SeriesId(2), Equals(0.0), 60 * M)


def rule(
    *, for_m: int = 10, gap_m: int | None = 60, holds: bool = True, clear_m: int = 0, **more: object
) -> SeriesRule:
    """Return a rule that fires above 8."""
    levels = (Level("warning", Above(8.0), for_m * M),)
    gap_us = None if gap_m is None else gap_m * M
    return SeriesRule(ValueOf(), levels, clear_for_us=clear_m * M, max_gap_us=gap_us, holds=holds, **more)  # type: ignore[arg-type]


def spans(episodes: Sequence[Episode]) -> list[tuple[float, float, float | None]]:
    """Return (started, fired, resolved) in minutes."""
    return [
        (each.started_at / M, each.fired_at / M, None if each.resolved_at is None else each.resolved_at / M)
        for each in episodes
    ]


def run(
    series_rule: SeriesRule,
    *readings: tuple[float, float],
    until: float = 1_000,
    door: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float, float | None]]:
    samples = [Sample(round(minute * M), value) for minute, value in readings]
    companions = (CLOSED,) if series_rule.when else ()
    doors = [(round(minute * M), value) for minute, value in door]
    return spans(run_timed(series_rule, samples, Timing(round(until * M), companions), [doors] * len(companions)))


def test_held_value_fires_when_its_clock_reaches_its_duration() -> None:
    assert run(rule(), (0, 9)) == [(0, 10, None)]


def test_held_value_fires_nothing_after_the_horizon() -> None:
    assert run(rule(), (0, 9), until=9.9) == []
    assert run(rule(), (0, 9), until=10) == [(0, 10, None)]


def test_stored_reading_counts_alone_at_its_own_time() -> None:
    assert run(rule(), (0, 9), (10, 1)) == []
    assert run(rule(), (0, 9), (10.1, 1)) == [(0, 10, 10.1)]


def test_value_is_held_for_max_gap_at_most() -> None:
    assert run(rule(gap_m=9), (0, 9)) == []
    assert run(rule(gap_m=10), (0, 9)) == [(0, 10, None)]


def test_hole_is_measured_between_stored_samples_also_while_a_value_was_held() -> None:
    # The held sample at 5 is no sample that shortens the hole from 0 to 12.
    levels = (Level("warning", Above(8.0), 5 * M), Level("critical", Above(8.0), 14 * M))
    holding = SeriesRule(ValueOf(), levels, max_gap_us=10 * M, holds=True)
    samples = [Sample(0, 9.0), Sample(12 * M, 9.0)]
    (episode,) = run_timed(holding, samples, Timing(25 * M))
    assert episode.steps == (Step("warning", 5 * M),)


def test_held_value_clears_when_the_hold_of_clear_reaches_its_duration() -> None:
    assert run(rule(for_m=0, clear_m=5), (0, 9), (2, 1)) == [(0, 0, 7)]


def test_companion_that_fails_stops_the_clock_between_samples() -> None:
    plain = rule(holds=False, when=(DOOR,))
    assert run(plain, (0, 9), (9, 9), (12, 9), (18, 9), door=[(0, 0)]) == [(0, 12, None)]
    assert run(plain, (0, 9), (9, 9), (12, 9), (18, 9), door=[(0, 0), (4, 1), (5, 0)]) == []
    assert run(plain, (0, 9), (9, 9), (12, 9), (19, 9), door=[(0, 0), (4, 1), (5, 0)]) == [(9, 19, None)]


def test_companion_starts_nothing_between_samples_when_values_are_not_held() -> None:
    plain = rule(holds=False, when=(DOOR,))
    assert run(plain, (0, 9), (10, 9), (19, 9), door=[(0, 1), (3, 0)]) == []
    assert run(rule(when=(DOOR,)), (0, 9), door=[(0, 1), (3, 0)]) == [(3, 13, None)]


def test_companion_that_is_not_known_silences_nothing() -> None:
    assert run(rule(when=(DOOR,)), (0, 9)) == [(0, 10, None)]
    assert run(rule(when=(DOOR,)), (0, 9), door=[(-60, 1)]) == [(1 / M, 10 + 1 / M, None)]
    assert run(rule(when=(DOOR,)), (0, 9), door=[(-61, 1)]) == [(0, 10, None)]


def test_clear_as_written_does_not_look_at_the_second_metric() -> None:
    cleared = rule(for_m=0, holds=False, when=(DOOR,), clear=Below(7.0))
    assert run(cleared, (0, 9), (2, 9), door=[(1, 1)]) == [(0, 0, None)]
    assert run(rule(for_m=0, holds=False, when=(DOOR,)), (0, 9), (2, 9), door=[(1, 1)]) == [(0, 0, 2)]


def test_companion_reading_at_the_time_of_a_sample_counts_for_it() -> None:
    plain = rule(for_m=0, holds=False, when=(DOOR,))
    assert run(plain, (5, 9), door=[(0, 0), (5, 1)]) == []
    assert run(plain, (5, 9), door=[(0, 1), (5, 0)]) == [(5, 5, None)]


class Stored:
    """The stored readings of a series and of its companion, for a replay."""

    def __init__(self, readings: Sequence[tuple[float, float]], door: Sequence[tuple[float, float]] = ()) -> None:
        self.readings = {None: _in_us(readings), CLOSED.series_id: _in_us(door)}

    def __call__(self, want: Want) -> list[StoredReading]:
        low, high = want.from_us or 0, NEVER if want.to_us is None else want.to_us
        found = [reading for reading in self.readings[want.series_id] if low <= reading[0] < high]
        return found[-want.limit :] if want.newest else found[: want.limit]


def _in_us(readings: Sequence[tuple[float, float]]) -> list[StoredReading]:
    return [(round(minute * M), value) for minute, value in readings]


def test_replay_says_when_the_first_held_sample_is_due() -> None:
    result = replay(rule(), Known(), [(5 * M, 5 * M)], Stored([(5, 9)]), timing=Timing(6 * M))
    assert (result.episodes, result.next_due) == ((), 15 * M)
    known = Known((), 5 * M, next_due=15 * M)
    after = replay(rule(), known, [(15 * M, 16 * M)], Stored([(5, 9)]), timing=Timing(16 * M))
    assert (spans(after.episodes), after.next_due) == ([(5, 15, None)], None)


def test_replay_reads_the_value_that_was_held_before_the_clocks_it_needs() -> None:
    # The clock starts at 12, by a held sample between 8 and 20, which is longer ago than `for` before 21.
    stored = Stored([(8, 9), (20, 9), (21, 9)], door=[(8, 1), (12, 0)])
    known = Known((), 20 * M)
    result = replay(rule(when=(DOOR,)), known, [(21 * M, 23 * M)], stored, timing=Timing(23 * M, (CLOSED,)))
    assert spans(result.episodes) == [(12, 22, None)]


def test_era_begins_with_its_first_reading_in_the_episode_that_was_open() -> None:
    inherited = Episode(0, 5 * M, None, (Step("warning", 5 * M),))
    known = Known((inherited,), 5 * M, era_from=5 * M, inherited=inherited)
    plain = SeriesRule(ValueOf(), (Level("warning", Above(20.0)),))
    result = replay(plain, known, [(5 * M, 5 * M)], Stored([(4, 9), (5, 9)]))
    assert spans(result.episodes) == [(0, 5, 5)]
    past = SeriesRule(ValueOf(), (Level("warning", Above(8.0)),))
    assert spans(replay(past, known, [(5 * M, 5 * M)], Stored([(4, 9), (5, 9)])).episodes) == [(0, 5, None)]


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_random_histories_agree_with_two_oracles(first: int) -> None:
    for seed in range(first, first + 100):
        check_timed_history(seed)
