"""Short histories whose episodes were worked out by hand from the specification, sentence by sentence.

Each history arrives in three orders, in one part and in parts of one reading, with an evaluation after each part. The
pure machine is never asked: what is tested is the evaluator's replay. Times are minutes.
"""

from collections.abc import Sequence
from random import Random

import msgspec
import pytest

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.episodes.machine import Level, SecondMetric, SeriesRule
from app.alerting.episodes.samples import ValueOf
from app.alerting.episodes.timed import Companion
from app.clock import MINUTE_US
from app.model import SeriesId
from tests.alerting.timed_histories import MAIN, ChangeRule, Evaluate, TimedHistory, TimedRun, Upload

M = MINUTE_US
#: Time 0 of a history: late enough that no time is negative.
ZERO = 10_000
Minutes = tuple[float, float]
#: (started, fired, resolved, the levels reached with their times)
Expected = tuple[float, float, float | None, tuple[tuple[str, float], ...]]

WARM = SeriesRule(ValueOf(), (Level("warning", Above(8.0), 10 * M),))
HELD = msgspec.structs.replace(WARM, max_gap_us=60 * M, holds=True)
TWO = SeriesRule(
    ValueOf(), (Level("warning", Above(8.0), 10 * M), Level("critical", Above(12.0), 2 * M)), Below(7.0), 5 * M
)
HELD_TWO = msgspec.structs.replace(TWO, max_gap_us=60 * M, holds=True)
DOOR = SecondMetric("door", Equals(0.0), 60 * M)
WITH_DOOR = msgspec.structs.replace(WARM, when=(DOOR,))
HELD_DOOR = msgspec.structs.replace(HELD, when=(DOOR,))
AT_ONCE = SeriesRule(ValueOf(), (Level("warning", Above(8.0)),), when=(DOOR,))
INCREASE = SeriesRule(ValueOf("increase", 60 * M), (Level("warning", Above(14.0)),))
COUNTER = SeriesRule(ValueOf("rate", 60 * M, counter=True), (Level("warning", Above(14.0)),))
STUCK = SeriesRule(ValueOf("range", 60 * M), (Level("warning", Below(0.5)),))
#: One microsecond, in minutes.
US = 1 / M


def one(level: str, started: float, fired: float, resolved: float | None = None) -> Expected:
    return started, fired, resolved, ((level, fired),)


def warning(started: float, fired: float, resolved: float | None = None) -> Expected:
    return one("warning", started, fired, resolved)


class History(msgspec.Struct, frozen=True):
    """A history: what it shows, the readings of the series and of a second metric, and how far values are held."""

    shows: str
    rule: SeriesRule
    readings: tuple[Minutes, ...]
    expected: list[Expected]
    door: tuple[Minutes, ...] = ()
    horizon: float = 1_000


HISTORIES = [
    # Conditions, clocks and holes.
    History("above is strict", WARM, ((0, 8), (10, 8), (20, 8.1), (30, 8.1)), [warning(20, 30)]),
    History("`for` is reached at exactly that time", WARM, ((0, 9), (9, 9), (10, 9)), [warning(0, 10)]),
    History("a sample below stops the clock", WARM, ((0, 9), (5, 8), (10, 9), (19, 9)), []),
    History("without clear it ends at once", WARM, ((0, 9), (10, 9), (12, 8)), [warning(0, 10, 12)]),
    History(
        "a hole of exactly max_gap is none",
        msgspec.structs.replace(WARM, max_gap_us=10 * M),
        ((0, 9), (10, 9)),
        [warning(0, 10)],
    ),
    History(
        "a longer hole restarts the clock",
        msgspec.structs.replace(WARM, max_gap_us=10 * M),
        ((0, 9), (10 + US, 9), (19, 9), (20 + US, 9)),
        [warning(10 + US, 20 + US)],
    ),
    History(
        "a hole restarts the hold of clear, too, and ends nothing",
        msgspec.structs.replace(TWO, max_gap_us=4 * M),
        ((0, 13), (2, 13), (4, 6), (9, 6), (13, 6), (14, 6)),
        [one("critical", 0, 2, 14)],
    ),
    History(
        "a higher level may fire first, and the level never falls",
        TWO,
        ((0, 13), (2, 13), (3, 9), (12, 9)),
        [one("critical", 0, 2)],
    ),
    History(
        "started is the start of the first clock, also when a higher level fires",
        TWO,
        ((0, 9), (4, 13), (6, 13)),
        [one("critical", 0, 6)],
    ),
    History(
        "the level rises in a firing episode",
        TWO,
        ((0, 9), (10, 9), (11, 13), (13, 13)),
        [(0, 10, None, (("warning", 10), ("critical", 13)))],
    ),
    History(
        "between clear and the level nothing changes, but the hold of clear stops",
        TWO,
        ((0, 9), (10, 9), (12, 6), (16, 7.5), (17, 6), (21, 6), (22, 6)),
        [warning(0, 10, 22)],
    ),
    History("the first value of a time counts", WARM, ((0, 9), (0, 1), (10, 9), (10, 1)), [warning(0, 10)]),
    # Held values.
    History("a held value fires at start + for", HELD, ((0, 9),), [warning(0, 10)]),
    History("not before the horizon has reached it", HELD, ((0, 9),), [], horizon=10 - US),
    History("and with the horizon at exactly that time", HELD, ((0, 9),), [warning(0, 10)], horizon=10),
    History("at d = n the stored value counts alone", HELD, ((0, 9), (10, 8)), []),
    History("at d = n a value that is past fires itself", HELD, ((0, 9), (10, 9)), [warning(0, 10)]),
    History("a microsecond before n the held one counts", HELD, ((0, 9), (10 + US, 8)), [warning(0, 10, 10 + US)]),
    History(
        "held for exactly max_gap",
        msgspec.structs.replace(HELD, max_gap_us=10 * M),
        ((0, 9),),
        [warning(0, 10)],
    ),
    History("no longer", msgspec.structs.replace(HELD, max_gap_us=10 * M - 1), ((0, 9),), []),
    History(
        "max_gap counts from the newest stored reading, the clock from the first",
        msgspec.structs.replace(HELD, max_gap_us=6 * M),
        ((0, 9), (5, 9)),
        [warning(0, 10)],
    ),
    History(
        "after a hole the held clock starts anew",
        msgspec.structs.replace(HELD, max_gap_us=6 * M),
        ((0, 9), (7, 9), (13, 9)),
        [warning(7, 17)],
    ),
    History(
        "a held critical level at d = n gives way to the stored value, the warning goes on",
        HELD_TWO,
        ((0, 13), (2, 9)),
        [warning(0, 10)],
    ),
    History(
        "two levels by one value",
        HELD_TWO,
        ((0, 9), (5, 13)),
        [one("critical", 0, 7)],
    ),
    History("a held value clears", HELD_TWO, ((0, 13), (4, 6)), [one("critical", 0, 2, 9)]),
    History("not when a stored value comes at that time", HELD_TWO, ((0, 13), (4, 6), (9, 7)), [one("critical", 0, 2)]),
    History(
        "a held clear is no later than the horizon", HELD_TWO, ((0, 13), (4, 6)), [one("critical", 0, 2)], horizon=8
    ),
    History(
        "past max_gap nothing resolves",
        msgspec.structs.replace(HELD_TWO, max_gap_us=4 * M),
        ((0, 13), (4, 6)),
        [one("critical", 0, 2)],
    ),
    History(
        "it fires again after the end by a held value",
        HELD_TWO,
        ((0, 13), (4, 6), (20, 13)),
        [one("critical", 0, 2, 9), one("critical", 20, 22)],
    ),
    # A second metric.
    History(
        "a companion that fails stops the clock between samples",
        WITH_DOOR,
        ((0, 9), (10, 9), (20, 9)),
        [warning(10, 20)],
        door=((-5, 0), (5, 1), (6, 0)),
    ),
    History(
        "with holds the clock starts again when the companion fits",
        HELD_DOOR,
        ((0, 9), (10, 9)),
        [warning(6, 16)],
        door=((-5, 0), (5, 1), (6, 0)),
    ),
    History(
        "known for exactly max_age: at 60 the door is open, at 61 unknown, which counts as shut",
        WITH_DOOR,
        ((0, 9), (60, 9), (61, 9), (71, 9)),
        [warning(61, 71)],
        door=((0, 1),),
    ),
    History(
        "with holds it starts the microsecond after",
        HELD_DOOR,
        ((0, 9), (60, 9)),
        [warning(60 + US, 70 + US)],
        door=((0, 1),),
    ),
    History("a second metric never seen silences nothing", WITH_DOOR, ((0, 9), (10, 9)), [warning(0, 10)]),
    History(
        "without clear it ends at the next sample when the door is open then",
        AT_ONCE,
        ((4, 9), (10, 9)),
        [warning(4, 4, 10)],
        door=((0, 0), (5, 1)),
    ),
    History(
        "a door that was open between samples ends nothing",
        AT_ONCE,
        ((4, 9), (10, 9)),
        [warning(4, 4)],
        door=((0, 0), (5, 1), (7, 0)),
    ),
    History(
        "with holds it ends when the door opens, and fires again when it shuts",
        msgspec.structs.replace(AT_ONCE, holds=True, max_gap_us=60 * M),
        ((4, 9), (10, 9)),
        [warning(4, 4, 5), warning(7, 7)],
        door=((0, 0), (5, 1), (7, 0)),
    ),
    History(
        "a written clear does not look at the door",
        msgspec.structs.replace(AT_ONCE, clear=Below(7.0)),
        ((4, 9), (10, 9), (12, 6)),
        [warning(4, 4, 12)],
        door=((0, 0), (5, 1)),
    ),
    History(
        "a sample sees the second metric at its own time",
        AT_ONCE,
        ((5, 9),),
        [],
        door=((0, 0), (5, 1)),
    ),
    History(
        "held for `clear.for` without a condition: from the opening on",
        msgspec.structs.replace(AT_ONCE, holds=True, max_gap_us=60 * M, clear_for_us=5 * M),
        ((4, 9),),
        [warning(4, 4, 15)],
        door=((0, 0), (10, 1)),
    ),
    # Counters and windows.
    History(
        "a reset inside the window counts from 0: 10, then 10 + 5, then 5 + 3",
        INCREASE,
        ((0, 100), (30, 110), (60, 5), (90, 8)),
        [warning(60, 60, 90)],
    ),
    History(
        "the reading at the window's border belongs to it: 110 to 120, then a reset to 5",
        INCREASE,
        ((0, 110), (30, 120), (60, 5), (60.5, 5)),
        [warning(60, 60, 60.5)],
    ),
    History(
        "a reset before the window does not count",
        INCREASE,
        ((0, 100), (29, 20), (90, 21), (120, 22)),
        [],
    ),
    History("no value while less than half the window is covered", INCREASE, ((0, 0), (29, 90)), []),
    History("at half the window there is one", INCREASE, ((0, 0), (30, 90)), [warning(30, 30)]),
    History(
        "the rate of a counter: 20 an hour at 30, 15 at 60, 8 at 90",
        COUNTER,
        ((0, 100), (30, 110), (60, 5), (90, 8)),
        [warning(30, 30, 90)],
    ),
    History("a range needs half its window", STUCK, ((0, 5), (29, 5)), []),
    History("two equal values half a window apart are stuck", STUCK, ((0, 5), (30, 5)), [warning(30, 30)]),
    History(
        "one that differs ends it, and a single reading in the window says nothing",
        STUCK,
        ((0, 5), (30, 5), (40, 9), (100, 9), (200, 4)),
        [warning(30, 30, 40), warning(100, 100)],
    ),
    History(
        "the difference needs no neighbours: 12 above the oldest of three hours",
        SeriesRule(ValueOf("delta", 180 * M), (Level("warning", Above(10.0)),)),
        ((0, 0), (90, 10), (179, 12), (180, 12), (181, 12)),
        [warning(179, 179, 181)],
    ),
]
_ORDERS = ("in order", "backwards", "shuffled", "all at once")


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.shows)
@pytest.mark.parametrize("order", _ORDERS)
def test_episodes_are_those_worked_out_by_hand(history: History, order: str) -> None:
    assert episodes_of(history, order) == expected_us(history.expected)


def test_readings_from_the_future_count_when_their_time_has_come() -> None:
    run = begin(HISTORIES[1])
    run.act(Upload(MAIN, in_us(((0, 9), (9, 9), (10, 9)))))
    run.act(Evaluate(-1, us(9), 0))
    assert run.episodes() == []
    run.act(Evaluate(-1, us(10), 0))
    assert [each.fired_at for each in run.episodes()] == [us(10)]


def test_held_value_ends_at_a_reading_whose_time_has_not_come() -> None:
    run = begin(History("", HELD, (), []))
    run.act(Upload(MAIN, in_us(((0, 9), (10, 8)))))
    run.act(Evaluate(-1, us(9), 0))
    run.act(Evaluate(-1, us(20), 0))
    assert run.episodes() == []


def test_late_reading_in_a_held_span_moves_splits_or_removes_the_episode() -> None:
    run = begin(History("", HELD, (), []))
    run.act(Upload(MAIN, in_us(((0, 9),))))
    run.act(Evaluate(-1, us(30), 0))
    assert spans(run) == [(0, 10, None)]
    run.act(Upload(MAIN, in_us(((20, 8), (21, 9)))))
    run.act(Evaluate(-1, us(40), 0))
    assert spans(run) == [(0, 10, 20), (21, 31, None)]
    run.act(Upload(MAIN, in_us(((4, 8), (5, 9)))))
    run.act(Evaluate(-1, us(40), 0))
    assert spans(run) == [(5, 15, 20), (21, 31, None)]
    run.act(Upload(MAIN, in_us(((14, 8),))))
    run.act(Evaluate(-1, us(40), 0))
    assert spans(run) == [(21, 31, None)]


def test_changed_rule_judges_the_newest_evaluated_sample_at_once_and_starts_its_clocks_there() -> None:
    run = begin(History("", WARM, (), []))
    run.act(Upload(MAIN, in_us(((0, 9), (5, 9)))))
    run.act(Evaluate(-1, us(5), 0))
    run.act(ChangeRule(SeriesRule(ValueOf(), (Level("warning", Above(8.0), 3 * M),)), ()))
    assert spans(run) == []  # by the clock of the earlier era it would fire
    run.act(Upload(MAIN, in_us(((8, 9),))))
    run.act(Evaluate(-1, us(8), 0))
    assert spans(run) == [(5, 8, None)]


def test_open_episode_stays_open_under_a_changed_rule_and_may_rise_or_resolve_at_its_first_sample() -> None:
    for changed, expected in (
        (SeriesRule(ValueOf(), (Level("warning", Above(20.0)),)), [(0, 10, 10, ("warning",))]),
        (SeriesRule(ValueOf(), (Level("warning", Above(5.0), 60 * M),)), [(0, 10, None, ("warning",))]),
        (SeriesRule(ValueOf(), (Level("critical", Above(5.0)),)), [(0, 10, None, ("warning", "critical"))]),
    ):
        run = begin(History("", WARM, (), []))
        run.act(Upload(MAIN, in_us(((0, 9), (10, 9)))))
        run.act(Evaluate(-1, us(10), 0))
        run.act(ChangeRule(changed, ()))
        assert [
            (*span, tuple(step.level for step in each.steps))
            for span, each in zip(spans(run), run.episodes(), strict=True)
        ] == expected


def us(minute: float) -> int:
    return ZERO * M + round(minute * M)


def in_us(readings: Sequence[Minutes]) -> tuple[tuple[int, float], ...]:
    return tuple((us(minute), float(value)) for minute, value in readings)


def spans(run: TimedRun) -> list[tuple[float, float, float | None]]:
    def minute(at: int | None) -> float | None:
        return None if at is None else at / M - ZERO

    return [(minute(each.started_at), minute(each.fired_at), minute(each.resolved_at)) for each in run.episodes()]  # type: ignore[misc]


def expected_us(expected: Sequence[Expected]) -> list[tuple[object, ...]]:
    return [
        (
            us(started),
            us(fired),
            None if resolved is None else us(resolved),
            tuple((name, us(at)) for name, at in steps),
        )
        for started, fired, resolved, steps in expected
    ]


def begin(history: History) -> TimedRun:
    companions = tuple(Companion(SeriesId(2), each.condition, each.max_age_us) for each in history.rule.when)
    return TimedRun(TimedHistory(history.rule, companions, None, 2, ()), with_shortcut=True)


def episodes_of(history: History, order: str) -> list[tuple[object, ...]]:
    run = begin(history)
    arrivals = [(MAIN, reading) for reading in in_us(history.readings)]
    arrivals += [(SeriesId(2), reading) for reading in in_us(history.door)]
    arrivals.sort(key=lambda arrival: arrival[1][0])  # stable: the first of equal times stays the first
    if order == "backwards":
        arrivals.sort(key=lambda arrival: -arrival[1][0])
    if order == "shuffled":
        arrivals.sort(key=lambda arrival: Random(arrival[1][0]).random())
    now = us(history.horizon)
    for series_id, reading in arrivals:
        run.act(Upload(series_id, (reading,)))
        if order != "all at once":
            run.act(Evaluate(-1, now, 0))
    run.act(Evaluate(-1, now, 0))
    return [
        (each.started_at, each.fired_at, each.resolved_at, tuple((step.level, step.t) for step in each.steps))
        for each in run.episodes()
    ]
