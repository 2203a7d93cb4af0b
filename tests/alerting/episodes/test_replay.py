from collections.abc import Mapping
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.episodes.machine import Episode, Level, Memory, SeriesRule, Step
from app.alerting.episodes.replay import Known, Replay, Want, replay, replaying
from app.alerting.episodes.samples import StoredReading, ValueOf
from app.clock import DAY_US, MINUTE_US, SECOND_US
from tests.alerting import strategies
from tests.alerting.histories import check_history
from tests.alerting.oracle import first_stored, oracle_episodes

M = MINUTE_US
RULE = SeriesRule(
    value=ValueOf("last"),
    levels=(Level("warning", Above(8.0), 10 * M),),
    clear=Below(7.0),
    clear_for_us=5 * M,
)
QUIET = Memory(evaluated_to=10 * M, sample_at=10 * M, starts=(None,), hold=None)


class Store:
    """Stored readings with a record of the wants and the number of readings read."""

    def __init__(self, by_minute: Mapping[int, float]) -> None:
        self.readings = [(minute * M, value) for minute, value in by_minute.items()]
        self.wants: list[Want] = []
        self.read_count = 0

    def __call__(self, want: Want) -> list[StoredReading]:
        low, high = want.from_us or 0, 10**18 if want.to_us is None else want.to_us
        found = [reading for reading in sorted(self.readings) if low <= reading[0] < high]
        found = found[-want.limit :] if want.newest else found[: want.limit]
        self.wants.append(want)
        self.read_count += len(found)
        return found


def minutes(*times: float) -> list[tuple[int, int]]:
    return [(round(time * M), round(time * M)) for time in times]


def episode(started: float, fired: float, resolved: float | None, **steps: float) -> Episode:
    at = tuple(Step(level, round(minute * M)) for level, minute in steps.items())
    return Episode(round(started * M), round(fired * M), None if resolved is None else round(resolved * M), at)


def after(result: Replay) -> Known:
    return Known(result.episodes, result.evaluated_to)


@pytest.mark.parametrize("hundred", range(20))
def test_replay_and_revision_agree_with_the_oracle_when_histories_are_random(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        check_history(seed)


@settings(max_examples=300, deadline=None)
@given(strategies.rules(), strategies.readings(), st.lists(st.integers(1, 4), min_size=14, max_size=14))
def test_replay_agrees_with_the_oracle_when_uploads_come_in_any_order(
    rule: SeriesRule, arrived: list[StoredReading], sizes: list[int]
) -> None:
    store, known, rest = Store({}), Known(), arrived
    for size in sizes:
        batch, rest = rest[:size], rest[size:]
        stored = dict(store.readings)
        new = [reading for reading in first_stored(batch) if reading[0] not in stored]
        store.readings += new
        known = after(replay(rule, known, [(t, t) for t, _ in new], store, first_page=2))

        assert list(known.episodes) == oracle_episodes(rule, store.readings)


def test_clock_is_recovered_from_samples_when_it_started_before_the_new_readings() -> None:
    store = Store({0: 9, 6: 9, 10: 9})

    result = replay(RULE, Known((), 6 * M), minutes(10), store)

    assert result.episodes == (episode(0, 10, None, warning=10),)
    assert result.evaluated_to == 10 * M


def test_clear_hold_is_recovered_when_an_episode_is_open() -> None:
    store = Store({0: 9, 10: 9, 11: 6, 16: 6})

    result = replay(RULE, Known((episode(0, 10, None, warning=10),), 11 * M), minutes(16), store)

    assert result.episodes == (episode(0, 10, 16, warning=10),)


def test_start_is_kept_when_the_episode_began_before_the_readings_looked_at() -> None:
    store = Store(dict.fromkeys(range(101), 9) | {101: 6, 106: 6})

    result = replay(RULE, Known((episode(0, 10, None, warning=10),), 101 * M), minutes(106), store, first_page=1)

    assert result.episodes == (episode(0, 10, 106, warning=10),)


def test_late_reading_removes_an_episode_when_it_stops_the_clock() -> None:
    store = Store({0: 9, 5: 5, 10: 9, 20: 6, 25: 6})

    result = replay(RULE, Known((episode(0, 10, 25, warning=10),), 25 * M), minutes(5), store)

    assert result.episodes == ()
    assert result.to_us == 25 * M


def test_steps_before_a_late_reading_stay_when_the_episode_covers_it() -> None:
    rule = SeriesRule(RULE.value, (*RULE.levels, Level("critical", Above(12.0))), RULE.clear, 5 * M)
    store = Store({0: 9, 10: 13, 12: 9, 13: 6, 17: 9, 20: 6, 25: 6})
    stored = episode(0, 10, 25, critical=10)

    result = replay(rule, Known((stored,), 25 * M), minutes(12), store)

    assert result.episodes == (stored,)


def test_replay_stops_early_when_a_late_reading_changes_nothing_after_it() -> None:
    store = Store(dict.fromkeys(range(1_000), 5))
    store.readings.append((500 * M + 1, 9.0))

    result = replay(RULE, Known((), 999 * M), [(500 * M + 1, 500 * M + 1)], store, first_page=8)

    assert (result.from_us, result.to_us) == (500 * M + 1, 511 * M)
    assert result.episodes == ()
    assert store.read_count == 48


def test_replay_goes_on_past_the_reach_when_the_level_is_not_what_is_stored() -> None:
    # The late reading stops the clock, so the episode fires 20 minutes later, at the next sample past 8.
    store = Store({0: 9, 5: 5, 10: 9, 30: 9, 40: 6, 45: 6, 60: 5, 80: 5})

    result = replay(RULE, Known((episode(0, 10, 45, warning=10),), 80 * M), minutes(5), store)

    assert result.episodes == (episode(10, 30, 45, warning=30),)
    assert result.to_us == 30 * M


def test_replay_goes_to_the_end_when_later_readings_were_never_evaluated() -> None:
    # The readings after minute 10 are stored, but their range has not been given yet.
    store = Store({0: 5, 10: 5, 30: 5, 40: 9})

    result = replay(RULE, Known((), 0), minutes(10), store)

    assert result == Replay(10 * M, None, (), 40 * M, Memory(40 * M, 40 * M, (40 * M,), None), ran=True)


def test_later_episodes_are_kept_when_replay_stops_before_them() -> None:
    later = episode(200, 210, 220, warning=210)
    store = Store({0: 5, 1: 5, 30: 5, 200: 9, 210: 9, 215: 6, 220: 6})

    result = replay(RULE, Known((later,), 220 * M), minutes(1), store)

    assert (result.to_us, result.episodes) == (30 * M, (later,))


def test_ranges_are_replayed_separately_when_they_lie_far_apart() -> None:
    store = Store(dict.fromkeys(range(10_001), 5))

    result = replay(RULE, Known((), 9_999 * M), minutes(10_000, 3, 5_000), store, first_page=8)

    assert (result.from_us, result.to_us, result.evaluated_to) == (3 * M, None, 10_000 * M)
    assert store.read_count == 100


def test_ranges_are_replayed_in_one_pass_when_one_begins_within_the_reach_of_another() -> None:
    store = Store(dict.fromkeys(range(100), 5))

    result = replay(RULE, Known((), 99 * M), minutes(20, 30, 25), store)

    assert (result.from_us, result.to_us) == (20 * M, 41 * M)
    assert len(store.wants) == 2


def test_late_reading_costs_the_same_when_the_history_is_a_hundred_times_longer() -> None:
    counts = []
    for total in (1_000, 100_000):
        store = Store(dict.fromkeys(range(total), 5))
        replay(RULE, Known((), (total - 1) * M), minutes(500), store)
        counts.append(store.read_count)

    assert counts == [256, 256]


def test_new_reading_costs_one_page_when_the_memory_is_current() -> None:
    store = Store(dict.fromkeys(range(12), 5))

    result = replay(RULE, Known((), 10 * M, memory=QUIET), minutes(11), store)

    assert store.wants == [Want(11 * M, None, 128)]
    assert result.memory == Memory(11 * M, 11 * M, (None,), None)


@pytest.mark.parametrize(
    ("values", "ran"),
    [((5, 8, 5), False), ((5, 9, 5), True)],
    ids=["calm", "clock starts and stops"],
)
def test_replay_tells_whether_a_clock_ran_when_none_runs_at_the_end(values: tuple[float, ...], ran: bool) -> None:
    store = Store(dict(enumerate(values, 11)))

    result = replay(RULE, Known((), 10 * M, memory=QUIET), [(11 * M, 13 * M)], store)

    assert result.memory == Memory(13 * M, 13 * M, (None,), None)
    assert result.ran is ran


def test_memory_is_ignored_when_something_was_evaluated_since() -> None:
    store = Store({0: 9, 6: 9, 10: 9})
    stale = Memory(evaluated_to=5 * M, sample_at=5 * M, starts=(None,), hold=None)

    result = replay(RULE, Known((), 6 * M, memory=stale), minutes(10), store)

    assert result.episodes == (episode(0, 10, None, warning=10),)


def test_window_is_read_again_when_the_clocks_come_from_memory() -> None:
    rule = SeriesRule(ValueOf("avg", 5 * M), RULE.levels)
    store = Store({6: 90, 7: 0, 10: 3, 11: 15})
    memory = Memory(10 * M, 10 * M, (None,), None)

    result = replay(rule, Known((), 10 * M, memory=memory), minutes(11), store)

    # The average of 0, 3 and 15 is not past 8. The reading at minute 6 has just left the window.
    assert result.memory == Memory(11 * M, 11 * M, (None,), None)


@pytest.mark.parametrize("kind", ["delta", "rate"])
def test_new_readings_cost_as_many_old_ones_when_the_value_is_a_delta_or_rate(kind: Literal["delta", "rate"]) -> None:
    rule = SeriesRule(ValueOf(kind, 180 * M), (Level("warning", Above(8.0)),))
    store = Store(dict.fromkeys(range(1_003), 5))
    memory = Memory(999 * M, 999 * M, (None,), None)

    result = replay(rule, Known((), 999 * M, memory=memory), [(1_000 * M, 1_002 * M)], store)

    assert store.wants == [Want(1_000 * M, None, 128), Want(820 * M, 1_000 * M, 4)]
    assert store.read_count == 3 + 4
    assert result.memory == Memory(1_002 * M, 1_002 * M, (None,), None)


def test_older_readings_are_read_on_when_the_past_is_denser_than_the_new_readings() -> None:
    rule = SeriesRule(ValueOf("delta", 10 * M), (Level("warning", Above(8.0)),))
    store = Store({0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 10: 12.5, 12: 2, 14: 12.5})
    memory = Memory(4 * M, None, (None,), None)

    result = replay(rule, Known((), 4 * M, memory=memory), [(10 * M, 14 * M)], store, first_page=2)

    # 12.5 at minute 10 is measured from 0 at minute 0, and 12.5 at minute 14 from 4 at minute 4.
    assert result.episodes == (episode(10, 10, 12, warning=10), episode(14, 14, None, warning=14))


def test_clock_is_recovered_when_the_readings_between_give_no_sample() -> None:
    # The reading at minute 60 is alone in its window and gives no sample, so the last sample before 66 is at 6.
    rule = SeriesRule(ValueOf("delta", 10 * M), (Level("warning", Above(1.0), 10 * M),))
    store = Store({0: 0, 6: 2, 60: 0, 66: 2})

    result = replay(rule, Known((), 60 * M), minutes(66), store, first_page=1)

    assert result.episodes == (episode(6, 66, None, warning=66),)


def test_look_back_is_bounded_when_there_is_a_max_gap() -> None:
    rule = SeriesRule(ValueOf("delta", 10 * M), RULE.levels, max_gap_us=20 * M)
    store = Store(dict.fromkeys(range(0, 30_000, 30), 0))

    replay(rule, Known((), 29_940 * M), minutes(29_970), store)

    assert store.wants[0] == Want((29_970 - 20 - 10 - 10) * M, 29_970 * M, 128, newest=True)


def test_readings_before_the_era_are_ignored_when_a_range_begins_before_it() -> None:
    store = Store({0: 9, 9: 9, 10: 9, 15: 9})

    result = replay(RULE, Known((), None, era_from=10 * M), [(0, 15 * M)], store)

    assert result.episodes == ()
    assert result.from_us == 10 * M


def test_open_episode_from_an_earlier_era_goes_on_when_its_range_begins_before() -> None:
    store = Store({0: 9, 11: 6, 16: 6})
    inherited = episode(0, 10, None, warning=10)

    result = replay(RULE, Known((inherited,), None, era_from=11 * M), [(0, 16 * M)], store)

    assert result.episodes == (episode(0, 10, 16, warning=10),)


def test_replay_changes_nothing_when_all_new_readings_are_before_the_era() -> None:
    store = Store({0: 9})
    known = Known((episode(0, 10, None, warning=10),), 20 * M, era_from=11 * M)

    result = replay(RULE, known, minutes(5), store)

    assert result == Replay(None, None, tuple(known.episodes), 20 * M, None)
    assert store.wants == []


def test_replaying_doubles_the_limit_when_a_page_was_full() -> None:
    steps = replaying(RULE, Known(), minutes(0), first_page=1)
    wants = [next(steps), steps.send([]), steps.send([(0, 9.0)]), steps.send([(1, 9.0), (2, 9.0)])]

    assert wants == [
        Want(None, 0, 1, newest=True),
        Want(0, None, 1),
        Want(1, None, 2),
        Want(3, None, 4),
    ]


def test_replay_reads_several_pages_when_a_day_of_readings_comes_at_once() -> None:
    store = Store({})
    store.readings = [(t * SECOND_US, 9.0) for t in range(0, 86_400, 20)]

    result = replay(RULE, Known(), [(0, DAY_US)], store)

    assert result.episodes == (episode(0, 10, None, warning=10),)
    assert len(store.wants) == 7
