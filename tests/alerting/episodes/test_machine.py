from hypothesis import given, settings

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.inside import Inside
from app.alerting.episodes.machine import Episode, Level, Machine, SeriesRule, Step, run
from app.alerting.episodes.samples import StoredReading, ValueOf, samples
from app.clock import MINUTE_US
from app.model import severity
from tests.alerting import strategies
from tests.alerting.oracle import first_stored, oracle_episodes

M = MINUTE_US
LAST = ValueOf("last")
COLD_ROOM = SeriesRule(
    value=LAST,
    levels=(Level("warning", Above(8.0), 10 * M), Level("critical", Above(12.0), 2 * M)),
    clear=Below(7.0),
    clear_for_us=5 * M,
    max_gap_us=None,
)
OPEN_EPISODE = Episode(0, 10 * M, None, (Step("warning", 10 * M),))


def with_gap(rule: SeriesRule, max_gap_us: int) -> SeriesRule:
    return SeriesRule(rule.value, rule.levels, rule.clear, rule.clear_for_us, max_gap_us)


def episodes(rule: SeriesRule, by_minute: dict[float, float], inherited: Episode | None = None) -> list[Episode]:
    readings = [(round(minute * M), value) for minute, value in by_minute.items()]
    return run(rule, samples(rule.value, readings), inherited)


def episode(started: float, fired: float, resolved: float | None, **steps: float) -> Episode:
    """Make an episode; times in minutes, steps as level=minute."""
    at = [Step(level, round(minute * M)) for level, minute in steps.items()]
    return Episode(round(started * M), round(fired * M), None if resolved is None else round(resolved * M), tuple(at))


def test_level_fires_when_its_condition_has_held_for_exactly_its_for() -> None:
    assert episodes(COLD_ROOM, {0: 9, 9.999: 9, 10: 9}) == [episode(0, 10, None, warning=10)]


def test_level_does_not_fire_when_its_duration_is_short_by_a_microsecond() -> None:
    assert run(COLD_ROOM, samples(LAST, [(1, 9.0), (10 * M, 9.0)])) == []


def test_level_does_not_fire_when_the_value_equals_the_threshold() -> None:
    assert episodes(COLD_ROOM, {0: 8.0, 20: 8.0}) == []


def test_clock_restarts_when_one_sample_lacks_the_condition() -> None:
    assert episodes(COLD_ROOM, {0: 9, 5: 8, 6: 9, 15: 9, 16: 9}) == [episode(6, 16, None, warning=16)]


def test_episode_starts_with_the_lowest_clock_when_a_higher_level_fires_first() -> None:
    assert episodes(COLD_ROOM, {0: 9, 1: 13, 3: 13}) == [episode(0, 3, None, critical=3)]


def test_level_rises_when_a_higher_clock_that_ran_before_firing_has_run_long_enough() -> None:
    assert episodes(COLD_ROOM, {0: 9, 9: 13, 10: 13, 11: 13}) == [episode(0, 10, None, warning=10, critical=11)]


def test_level_stays_when_only_a_lower_one_holds_again() -> None:
    found = episodes(COLD_ROOM, {0: 13, 2: 13, 3: 9, 13: 9, 14: 6, 19: 6})

    assert found == [episode(0, 2, 19, critical=2)]


def test_level_jumps_once_when_two_levels_hold_at_the_same_sample() -> None:
    rule = SeriesRule(LAST, tuple(Level(name, Above(8.0), 10 * M) for name in ("info", "error", "disaster")))

    assert episodes(rule, {0: 9, 10: 9}) == [episode(0, 10, None, disaster=10)]


def test_episode_resolves_when_clear_has_held_for_exactly_its_for() -> None:
    assert episodes(COLD_ROOM, {0: 9, 10: 9, 11: 6, 16: 6}) == [episode(0, 10, 16, warning=10)]


def test_episode_stays_open_when_values_lie_between_clear_and_threshold() -> None:
    assert episodes(COLD_ROOM, {0: 9, 10: 9, 11: 7.5, 30: 7.0}) == [episode(0, 10, None, warning=10)]


def test_clear_hold_restarts_when_one_sample_lacks_clear() -> None:
    found = episodes(COLD_ROOM, {0: 9, 10: 9, 11: 6, 15: 7.5, 15.5: 6, 20: 6, 20.5: 6})

    assert found == [episode(0, 10, 20.5, warning=10)]


def test_episode_resolves_when_the_lowest_level_is_not_met_and_clear_is_left_out() -> None:
    rule = SeriesRule(LAST, (Level("warning", Above(8.0)), Level("critical", Above(12.0))))

    assert episodes(rule, {0: 13, 1: 9, 2: 8}) == [episode(0, 0, 2, critical=0)]


def test_clear_duration_applies_when_only_its_condition_is_left_out() -> None:
    rule = SeriesRule(LAST, (Level("warning", Above(8.0)),), clear=None, clear_for_us=5 * M)

    assert episodes(rule, {0: 9, 1: 8, 5: 8, 6: 8}) == [episode(0, 0, 6, warning=0)]


def test_clocks_go_on_when_the_gap_is_exactly_max_gap() -> None:
    rule = with_gap(COLD_ROOM, 5 * M)

    assert episodes(rule, {0: 9, 5: 9, 10: 9}) == [episode(0, 10, None, warning=10)]


def test_clocks_restart_when_the_gap_is_a_microsecond_longer_than_max_gap() -> None:
    rule = with_gap(COLD_ROOM, 5 * M - 1)

    assert episodes(rule, {0: 9, 5: 9, 10: 9}) == []


def test_clear_hold_restarts_when_there_is_a_hole() -> None:
    found = episodes(with_gap(COLD_ROOM, 4 * M), {0: 9, 4: 9, 8: 9, 10: 9, 11: 6, 16: 6, 20: 6, 21: 6})

    assert found == [episode(0, 10, 21, warning=10)]


def test_episode_stays_open_when_there_is_a_hole() -> None:
    found = episodes(with_gap(COLD_ROOM, 5 * M), {0: 9, 5: 9, 10: 9, 500: 9})

    assert found == [episode(0, 10, None, warning=10)]


def test_clock_starts_again_after_each_clearing_when_values_flap() -> None:
    rule = SeriesRule(LAST, (Level("warning", Above(8.0), 2 * M),))

    assert episodes(rule, {0: 9, 2: 9, 3: 5, 4: 9, 6: 9, 7: 5}) == [
        episode(0, 2, 3, warning=2),
        episode(4, 6, 7, warning=6),
    ]


def test_open_episode_goes_on_when_a_new_era_begins() -> None:
    assert episodes(COLD_ROOM, {20: 13, 22: 13, 23: 6, 28: 6}, OPEN_EPISODE) == [
        episode(0, 10, 28, warning=10, critical=22),
    ]


def test_open_episode_keeps_its_level_when_the_new_era_has_no_such_level() -> None:
    rule = SeriesRule(LAST, (Level("info", Above(8.0)), Level("critical", Above(12.0))), Below(7.0))

    assert episodes(rule, {20: 9, 21: 13}, OPEN_EPISODE) == [episode(0, 10, None, warning=10, critical=21)]


def test_machine_continues_unchanged_when_its_clocks_are_restored() -> None:
    first = Machine(COLD_ROOM)
    for sample in samples(LAST, [(0, 9.0), (9 * M, 13.0)]):
        first.step(sample)
    second = Machine(COLD_ROOM)
    second.remember(first.memory(9 * M))
    for sample in samples(LAST, [(10 * M, 13.0), (11 * M, 13.0)]):
        second.step(sample)

    assert second.episodes == [episode(0, 10, None, warning=10, critical=11)]


def test_as_of_returns_the_episode_as_it_was_at_an_earlier_time() -> None:
    whole = episode(0, 10, 20, warning=10, critical=15)

    assert whole.as_of(10 * M - 1) is None
    assert whole.as_of(14 * M) == episode(0, 10, None, warning=10)
    assert whole.as_of(20 * M) == whole
    assert (whole.level, whole.is_open, whole.span) == ("critical", False, (0, 20 * M))


def test_lookback_is_the_longest_duration_when_clear_waits_longest() -> None:
    assert COLD_ROOM.lookback_us == 10 * M
    assert SeriesRule(LAST, COLD_ROOM.levels, clear_for_us=11 * M).lookback_us == 11 * M


def test_digest_is_the_same_when_a_rule_accepts_the_same_values() -> None:
    one = SeriesRule(LAST, (Level("warning", Inside(5, 5), 60_000_000),))
    other = SeriesRule(LAST, (Level("warning", Inside(5.0, 5.0), 60_000_000),))

    assert one.digest() == other.digest()


def test_digest_has_the_value_of_earlier_versions() -> None:
    # A different digest after an upgrade would start a new era for every series.
    assert COLD_ROOM.digest() == "ff59fd1292c2145586bb2a2cba357ca8b9706341124ba1adb2ba4f8796ea0116"


def test_digest_differs_when_any_part_that_counts_differs() -> None:
    level = Level("warning", Above(8.0), M)
    variants = [
        SeriesRule(LAST, (level,)),
        SeriesRule(ValueOf("avg", M), (level,)),
        SeriesRule(LAST, (Level("error", Above(8.0), M),)),
        SeriesRule(LAST, (Level("warning", Above(8.5), M),)),
        SeriesRule(LAST, (Level("warning", Above(8.0), 2 * M),)),
        SeriesRule(LAST, (level,), clear=Below(7.0)),
        SeriesRule(LAST, (level,), clear_for_us=1),
        SeriesRule(LAST, (level,), max_gap_us=1),
    ]

    assert len({variant.digest() for variant in variants}) == 8


def test_severity_orders_the_level_names() -> None:
    assert [severity(name) for name in ("info", "warning", "error", "critical", "disaster")] == [
        0,
        1,
        2,
        3,
        4,
    ]


@settings(max_examples=400, deadline=None)
@given(strategies.rules(), strategies.readings())
def test_episodes_agree_with_the_oracle_when_rules_and_readings_are_random(
    rule: SeriesRule, arrived: list[StoredReading]
) -> None:
    found = run(rule, samples(rule.value, first_stored(arrived)))

    assert found == oracle_episodes(rule, arrived)
