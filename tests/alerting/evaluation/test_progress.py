"""States of pairs: what a skip and a replay change, and when they are stored."""

import msgspec
import pytest

from app.alerting.conditions.above import Above
from app.alerting.episodes.machine import Episode, Level, Memory, SeriesRule, Step
from app.alerting.episodes.replay import Replay
from app.alerting.episodes.samples import ValueOf
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.progress import QUIET_WRITE_US, EvaluationProgress, PairState
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.clock import MINUTE_US
from app.model import SeriesId
from app.summaries import Summary
from tests.alerting.rule_pool import as_match

M = MINUTE_US
RULE = SeriesRule(ValueOf(), (Level("warning", Above(8.0), 10 * M),))
T0 = 1_000 * M


def quiet_state(rule: SeriesRule = RULE, **changes: object) -> PairState:
    """Return the state of a clear pair that this process evaluated to T0 and stored."""
    state = PairState.begin(as_match(rule))
    state.stored.evaluated_to, state.stored.memory = T0, Memory(T0, T0, (None,), None)
    state.written_us, state.must_write, state.is_current = T0, False, True
    return msgspec.structs.replace(state, **changes)


def single(us: int, value: float) -> Summary:
    return Summary(1, us, us, value, value, 0)


def test_quiet_pair_is_due_at_another_age_for_each_series() -> None:
    state = quiet_state()
    ages_us = []
    for series_id in range(32):
        state.stored.evaluated_to = T0 + QUIET_WRITE_US // 2 + series_id * QUIET_WRITE_US // 64
        assert not state.is_due(SeriesId(series_id))
        state.stored.evaluated_to += 1
        assert state.is_due(SeriesId(series_id))
        ages_us.append(state.stored.evaluated_to - T0)
    assert len(set(ages_us)) == 32
    assert max(ages_us) <= QUIET_WRITE_US


def test_skip_of_calm_readings_moves_the_state_without_storing_it() -> None:
    state = quiet_state()
    assert state.skip(single(T0 + M, 8.0))
    assert (state.stored.evaluated_to, state.stored.memory) == (T0 + M, Memory(T0 + M, T0 + M, (None,), None))
    assert not state.is_due(SeriesId(1))


def test_skip_makes_the_state_due_while_a_clock_runs_and_when_it_stops() -> None:
    state = quiet_state()
    for minute, value in ((1, 9.0), (2, 9.0), (3, 1.0)):
        assert state.skip(single(T0 + minute * M, value))
        assert state.is_due(SeriesId(1))
        state.must_write = False
    assert state.skip(single(T0 + 4 * M, 1.0))
    assert not state.is_due(SeriesId(1))


@pytest.mark.parametrize(
    ("state", "first_us"),
    [
        (quiet_state(), T0),
        (quiet_state(is_current=False), T0 + M),
        (PairState.begin(as_match(RULE)), T0 + M),
    ],
    ids=["not after the last evaluated one", "loaded from the database", "never evaluated"],
)
def test_readings_are_not_skipped(state: PairState, first_us: int) -> None:
    assert not state.skip(single(first_us, 1.0))


def test_readings_before_the_era_are_not_skipped() -> None:
    state = quiet_state()
    state.stored.era_from = T0 + 2 * M
    assert not state.skip(single(T0 + M, 1.0))


def test_replay_that_stops_early_does_not_make_a_loaded_state_current() -> None:
    for to_us, is_current in ((T0 - 5 * M, False), (None, True)):
        state = quiet_state(is_current=False)
        state.take(Replay(T0 - 10 * M, to_us, (), T0, state.stored.memory), changed=False)
        assert state.is_current is is_current
        assert state.is_due(SeriesId(1))


def test_state_is_due_after_a_replay_in_which_a_clock_started_and_stopped() -> None:
    for ran in (True, False):
        state = quiet_state()
        state.take(
            Replay(T0 + M, None, (), T0 + 3 * M, Memory(T0 + 3 * M, T0 + 3 * M, (None,), None), ran), changed=False
        )
        assert state.is_due(SeriesId(1)) is ran


def test_rank_is_that_of_the_open_episode_after_a_replay() -> None:
    state = quiet_state()
    episode = Episode(T0, T0 + 10 * M, None, (Step("warning", T0 + 10 * M),))
    memory = Memory(T0 + 10 * M, T0 + 10 * M, (T0,), None)
    state.take(Replay(T0 + 10 * M, None, (episode,), T0 + 10 * M, memory, ran=True), changed=True)
    assert state.rank == 1
    assert state.skip(single(T0 + 11 * M, 9.0))
    state.take(Replay(T0 + 12 * M, None, (), T0 + 12 * M, memory, ran=True), changed=True)
    assert state.rank is None


def test_new_terms_let_a_pair_begin_at_the_last_evaluated_reading() -> None:
    state = quiet_state()
    state.begin_era(T0)
    assert state.ranges(News()) == [(T0, T0)]
    assert state.ranges(News(single(T0 + 5 * M, 1.0))) == [(T0 + 5 * M, T0 + 5 * M), (T0, T0 + 5 * M)]


def test_replay_begins_with_the_era_while_the_episode_that_was_open_then_may_be_older_than_the_news() -> None:
    state = quiet_state()
    state.begin_era(T0, Episode(T0 - M, T0 + 2 * M, None, (Step("warning", T0 + 2 * M),)))
    state.is_beginning = False
    assert state.ranges(News(single(T0 + 2 * M, 1.0))) == [(T0 + 2 * M, T0 + 2 * M), (T0, T0)]
    assert state.ranges(News(single(T0 + 3 * M, 1.0))) == [(T0 + 3 * M, T0 + 3 * M)]


def test_reading_before_a_held_sample_that_resolved_is_not_skipped() -> None:
    holding = msgspec.structs.replace(RULE, holds=True, max_gap_us=60 * M)
    state = quiet_state(holding)
    over = Episode(T0 - 20 * M, T0 - 10 * M, T0 + 5 * M, (Step("warning", T0 - 10 * M),))
    state.take(Replay(T0, None, (over,), T0, Memory(T0, T0, (None,), None)), changed=True, horizon_us=T0 + 9 * M)
    assert not state.skip(single(T0 + M, 4.0))
    state.take(Replay(T0, None, (), T0, Memory(T0, T0, (None,), None)), changed=True, horizon_us=T0 + 9 * M)
    assert state.skip(single(T0 + M, 4.0))


def test_progress_loads_series_again_when_the_rules_have_changed() -> None:
    progress, book = EvaluationProgress(), RuleBook(RuleSet())
    progress.use_rules(book)
    progress.series[SeriesId(1)] = (quiet_state(),)
    progress.use_rules(book)
    assert progress.doubted == set()
    progress.use_rules(RuleBook(RuleSet()))
    assert progress.doubted == {1}
    progress.forget()
    assert (progress.series, progress.doubted) == ({}, set())
