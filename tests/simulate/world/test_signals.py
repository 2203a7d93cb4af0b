from itertools import pairwise

import pytest

from app.clock import DAY_US, HOUR_US, MINUTE_US
from app.simulate.world.signals import Excursion, Signal, SignalShape

#: 2026-06-01T00:00:00Z
MIDNIGHT_US = 1_780_272_000_000_000
DOOR = Excursion(
    "a door is open",
    change=10,
    every_us=2 * HOUR_US,
    rise_us=4 * MINUTE_US,
    hold_us=10 * MINUTE_US,
    fall_us=6 * MINUTE_US,
    demo_offset_us=-5 * MINUTE_US,
)


def make_signal(excursion: Excursion | None = None, *, swing: float = 0, demo_start_us: int | None = None) -> Signal:
    shape = SignalShape(mean=20, daily_swing=swing, wander=0, noise=0, digits=2, excursion=excursion)
    return Signal(shape, 1, "cellar", "temperature", "cellar", demo_start_us)


def test_signal_is_highest_in_the_afternoon_when_it_has_a_daily_swing() -> None:
    signal = make_signal(swing=5)
    assert signal.value(MIDNIGHT_US + 15 * HOUR_US) == 25
    assert signal.value(MIDNIGHT_US + 3 * HOUR_US) == 15
    assert signal.value(MIDNIGHT_US + 9 * HOUR_US) == 20


@pytest.mark.parametrize(
    ("minutes", "value"),
    [(-6, 20), (-5, 20), (-3, 25), (-1, 30), (0, 30), (8.99, 30), (12, 25), (15, 20), (60, 20), (117, 25)],
)
def test_value_leaves_and_comes_back_during_an_excursion(minutes: float, value: float) -> None:
    signal = make_signal(DOOR, demo_start_us=MIDNIGHT_US)
    assert signal.value(MIDNIGHT_US + int(minutes * MINUTE_US)) == value


def test_signal_is_in_an_excursion_until_the_value_comes_back() -> None:
    signal = make_signal(DOOR, demo_start_us=MIDNIGHT_US)
    assert [signal.is_in_excursion(MIDNIGHT_US + minute * MINUTE_US) for minute in (-6, -4, 8, 9, 115)] == [
        False,
        True,
        True,
        False,
        True,
    ]


def test_excursion_happens_once_in_each_period_when_there_is_no_demo() -> None:
    signal = make_signal(DOOR)
    active = [signal.is_in_excursion(MIDNIGHT_US + minute * MINUTE_US) for minute in range(DAY_US // MINUTE_US)]
    assert sum(now and not before for before, now in pairwise(active)) == 12
    assert sum(active) == 12 * 14


def test_values_stay_the_same_when_made_again() -> None:
    shape = SignalShape(mean=20, daily_swing=2, wander=1, noise=0.5, digits=2, excursion=DOOR)
    signal = Signal(shape, 7, "cellar", "temperature", "cellar", None)
    # Literal values, because every version, machine and process must make the same ones.
    assert [signal.value(MIDNIGHT_US + second * 1_000_000) for second in (0, 5, 86_400)] == [17.86, 17.61, 18.91]
