"""Storing the states of pairs, and skipping quiet readings without a replay."""

import pytest

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.inside import Inside
from app.alerting.episodes.machine import Level, Memory, SeriesRule
from app.alerting.episodes.replay import Known
from app.alerting.episodes.samples import Sampler, ValueOf
from app.alerting.evaluation.progress import QUIET_WRITE_US, EvaluationProgress, PairState, skip_quiet
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.clock import MINUTE_US
from app.model import SeriesId

LAST = SeriesRule(ValueOf(), (Level("warning", Above(8.0)),))
AVERAGE = SeriesRule(ValueOf("avg", 5 * MINUTE_US), (Level("warning", Above(8.0)),))
T0 = 1_000 * MINUTE_US


def quiet_state(since_us: int | None = T0 - 60 * MINUTE_US, starts: tuple[int | None, ...] = (None,)) -> PairState:
    """Make the state of a clear pair, evaluated to T0, whose readings have been quiet since `since_us`."""
    memory = Memory(T0, T0, starts, None)
    return PairState(
        1, None, "hash", known=Known((), T0, None, memory), quiet_since=since_us, written_us=T0, must_write=False
    )


def test_quiet_pair_is_due_at_another_age_for_each_series() -> None:
    state = quiet_state()
    ages_us = []
    for series_id in range(32):
        state.known = Known((), T0 + QUIET_WRITE_US // 2 + series_id * QUIET_WRITE_US // 64)
        assert not state.is_due(SeriesId(series_id))
        state.known = Known((), T0 + QUIET_WRITE_US // 2 + series_id * QUIET_WRITE_US // 64 + 1)
        assert state.is_due(SeriesId(series_id))
        ages_us.append((state.known.evaluated_to or 0) - T0)
    assert len(set(ages_us)) == 32
    assert max(ages_us) <= QUIET_WRITE_US


def test_pair_is_due_at_once_when_must_write_is_set() -> None:
    state = quiet_state()
    state.must_write = True
    assert state.is_due(SeriesId(1))


def test_progress_forgets_the_rules_of_series_when_the_rules_have_changed() -> None:
    progress, book = EvaluationProgress(), RuleBook(RuleSet())
    progress.use_rules(book)
    progress.rules_of[SeriesId(1)] = ("warm",)
    progress.states["warm", SeriesId(1)] = quiet_state()
    progress.use_rules(book)
    assert progress.rules_of
    progress.use_rules(RuleBook(RuleSet()))
    assert not progress.rules_of
    assert progress.states
    progress.forget()
    assert not progress.states


@pytest.mark.parametrize(("rule", "highest"), [(LAST, 8.0), (AVERAGE, 7.999)], ids=["last", "avg"])
def test_skip_quiet_returns_the_new_memory_when_all_readings_are_quiet(rule: SeriesRule, highest: float) -> None:
    new = [(T0 + MINUTE_US, 1.0), (T0 + 2 * MINUTE_US, highest)]
    assert skip_quiet(rule, quiet_state(), new) == Memory(T0 + 2 * MINUTE_US, T0 + 2 * MINUTE_US, (None,), None)


@pytest.mark.parametrize("rule", [LAST, AVERAGE], ids=["last", "avg"])
def test_skip_quiet_returns_none_when_a_reading_is_past_the_threshold(rule: SeriesRule) -> None:
    state = quiet_state()
    assert skip_quiet(rule, state, [(T0 + MINUTE_US, 8.1)]) is None
    assert state.quiet_since is None


@pytest.mark.parametrize("rule", [LAST, AVERAGE], ids=["last", "avg"])
def test_skip_quiet_returns_none_when_a_clock_runs(rule: SeriesRule) -> None:
    assert skip_quiet(rule, quiet_state(starts=(T0,)), [(T0 + MINUTE_US, 1.0)]) is None


@pytest.mark.parametrize("rule", [LAST, AVERAGE], ids=["last", "avg"])
def test_skip_quiet_returns_none_when_a_reading_is_not_after_the_last_evaluated_one(rule: SeriesRule) -> None:
    assert skip_quiet(rule, quiet_state(), [(T0, 1.0), (T0 + MINUTE_US, 1.0)]) is None


def test_skip_quiet_returns_none_when_the_window_began_before_the_quiet_readings() -> None:
    new = [(T0 + MINUTE_US, 1.0)]
    window_start_us = T0 + MINUTE_US - 5 * MINUTE_US
    assert skip_quiet(AVERAGE, quiet_state(since_us=window_start_us), new) is not None
    assert skip_quiet(AVERAGE, quiet_state(since_us=window_start_us + 1), new) is None


def test_skip_quiet_returns_none_when_quiet_values_lie_on_both_sides_of_the_condition() -> None:
    rule = SeriesRule(ValueOf("avg", 5 * MINUTE_US), (Level("warning", Inside(2.0, 8.0)),))
    assert skip_quiet(rule, quiet_state(), [(T0 + MINUTE_US, 1.0), (T0 + 2 * MINUTE_US, 9.0)]) is None


def test_skip_quiet_returns_none_when_the_average_of_quiet_readings_can_be_past_the_threshold_by_rounding() -> None:
    rule = SeriesRule(ValueOf("avg", 5 * MINUTE_US), (Level("warning", Below(-0.2)),))
    sampler = Sampler(rule.value)
    sums = [sampler.push(T0 + number, -0.2) for number in range(1, 4)]
    assert sums[-1] is not None
    assert sums[-1].value < -0.2
    assert skip_quiet(rule, quiet_state(), [(T0 + number, -0.2) for number in range(1, 4)]) is None
    assert skip_quiet(rule, quiet_state(), [(T0 + 1, -0.19)]) is not None


def test_skip_quiet_returns_none_when_the_value_is_a_delta() -> None:
    rule = SeriesRule(ValueOf("delta", 5 * MINUTE_US), (Level("warning", Above(8.0)),))
    assert skip_quiet(rule, quiet_state(), [(T0 + MINUTE_US, 1.0)]) is None
