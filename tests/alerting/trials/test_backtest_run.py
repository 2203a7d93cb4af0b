"""Backtests of one series; some start within the series and are compared with a run over the whole of it."""

from app.alerting.conditions import holds
from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.machine import Episode, Level, SeriesRule, Step, run
from app.alerting.episodes.samples import StoredReading, ValueOf, samples
from app.alerting.trials.backtest_run import Edges, FoundEpisode, RuleRun
from app.clock import MINUTE_US
from tests.alerting.histories import Upload, random_history
from tests.alerting.oracle import first_stored

M = MINUTE_US
LONG_AGO = -(10**18)
NO_EDGE = Edges(LONG_AGO, has_past=False)
WARM = SeriesRule(ValueOf(), (Level("warning", Above(8), 2 * M),), Below(7), M)


def found(
    rule: SeriesRule, readings: list[StoredReading], start_us: int = LONG_AGO, edges: Edges = NO_EDGE
) -> list[FoundEpisode]:
    rule_run = RuleRun(rule, start_us)
    for t, value in readings:
        rule_run.push(t, value)
    episodes = rule_run.found(edges)
    assert rule_run.has_episodes == bool(episodes)
    return episodes


def minutes(*values: float) -> list[StoredReading]:
    return [(n * M, value) for n, value in enumerate(values)]


def test_episodes_are_found_with_their_peaks() -> None:
    episodes = found(WARM, minutes(5, 9, 11, 10, 7.5, 9.5, 6, 6, 20, 5, 9, 9, 8.5))
    assert episodes == [
        FoundEpisode(Episode(M, 3 * M, 7 * M, (Step("warning", 3 * M),)), 11.0, ()),
        FoundEpisode(Episode(10 * M, 12 * M, None, (Step("warning", 12 * M),)), 9.0, ()),
    ]


def test_peak_is_the_value_farthest_past_the_limit() -> None:
    level = Level("warning", Below(8))
    (below,) = found(SeriesRule(ValueOf(), (level,)), minutes(9, 7, 3, 5, 9))
    assert below.peak == 3.0
    level = Level("warning", Outside(10, 20))
    (outside,) = found(SeriesRule(ValueOf(), (level,)), minutes(15, 22, 7, 21, 15))
    assert outside.peak == 7.0


def test_peak_is_that_of_the_samples_when_the_value_has_a_window() -> None:
    rule = SeriesRule(ValueOf("delta", 2 * M), (Level("warning", Above(3)),))
    (rise,) = found(rule, minutes(100, 105, 109, 109, 109))
    assert rise.peak == 9.0


def test_peak_leaves_out_samples_from_before_a_hole() -> None:
    rule = SeriesRule(ValueOf(), (Level("warning", Above(8), 2 * M),), max_gap_us=M)
    (episode,) = found(rule, [(0, 50.0), *((t + 9 * M, value) for t, value in minutes(9, 10, 9))])
    assert (episode.episode.started_at, episode.peak) == (9 * M, 10.0)


def test_episode_is_marked_when_readings_from_before_the_start_may_matter() -> None:
    readings = minutes(9, 7.5, 9, 9, 9, 6, 6, 9, 9, 9)
    known = Edges(LONG_AGO, has_past=True)
    # The first episode may have been open before the start: since then no value was below 7 for a minute.
    assert [each.touches for each in found(WARM, readings, M, known)] == [("start",), ()]
    assert [each.touches for each in found(WARM, readings, M, NO_EDGE)] == [(), ()]


def test_episode_is_marked_when_it_touches_the_edge_of_an_era() -> None:
    readings = minutes(5, 9, 9, 9, 6, 6, 9, 9, 9)
    touches = {
        edge: [each.touches for each in found(WARM, readings, edges=Edges(LONG_AGO, has_past=False, era_us=edge * M))]
        for edge in (-2, -1, 5, 6, 99)
    }
    assert touches == {
        # An era restarts the clocks, so an episode that starts within the two minutes of "for" after it is marked.
        -2: [(), ()],
        -1: [("era",), ()],
        5: [("era",), ("era",)],
        6: [(), ("era",)],
        99: [(), ("era",)],
    }


def test_episode_is_marked_when_readings_that_matter_may_be_deleted() -> None:
    readings = minutes(5, 9, 9, 9, 6, 6, 9, 9, 9)
    touches = [each.touches for each in found(WARM, readings, edges=Edges(-M, has_past=False))]
    assert touches == [("retention",), ()]
    averaged = SeriesRule(ValueOf("avg", 5 * M), WARM.levels)
    (episode,) = found(averaged, minutes(9, 9, 9, 9), edges=Edges(-7 * M, has_past=False))
    assert episode.touches == ("retention",)


def test_window_covers_readings_from_before_the_start() -> None:
    rule = SeriesRule(ValueOf("avg", 3 * M), (Level("warning", Above(8)),))
    readings = minutes(0, 20, 9, 0)
    assert [each.episode.fired_at for each in found(rule, readings, 2 * M)] == [2 * M]
    assert found(rule, readings[3:], 2 * M) == []


def random_readings(seed: int) -> tuple[SeriesRule, list[StoredReading]]:
    history = random_history(seed)
    arrived = (reading for action in history.actions if isinstance(action, Upload) for reading in action.readings)
    return history.rule, first_stored(arrived)


def test_episode_without_a_mark_is_one_of_the_whole_series() -> None:
    compared = 0
    for seed in range(1_000):
        rule, readings = random_readings(seed)
        start_us = readings[len(readings) // 4][0]
        marked = found(rule, readings, start_us, Edges(LONG_AGO, has_past=True))
        certain = [each.episode for each in marked if not each.touches]
        if certain:
            whole = run(rule, samples(rule.value, readings))
            # No episode of the whole series from the first certain one on is missing.
            assert certain == [each for each in whole if each.fired_at >= certain[0].fired_at], seed
            compared += len(certain)
    assert compared > 250


def test_peak_is_a_sample_of_the_episode_past_the_lowest_limit() -> None:
    for seed in range(300):
        rule, readings = random_readings(seed)
        lowest = rule.levels[0].condition
        taken = list(samples(rule.value, readings))
        for each in found(rule, readings):
            episode = each.episode
            end = taken[-1].t if episode.resolved_at is None else episode.resolved_at
            values = [sample.value for sample in taken if episode.started_at <= sample.t <= end]
            past = [value for value in values if holds(lowest, value)]
            assert each.peak in past, seed
            if isinstance(lowest, Above):
                assert each.peak == max(past), seed
            if isinstance(lowest, Below):
                assert each.peak == min(past), seed
