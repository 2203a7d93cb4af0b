"""Hypothesis strategies for rules that `check` accepts, and for readings on the boundaries of such rules."""

from collections.abc import Sequence

from hypothesis import strategies as st

from app.alerting.conditions import Condition
from app.alerting.episodes.machine import Level, SeriesRule
from app.alerting.episodes.samples import StoredReading, ValueOf
from tests.alerting.oracle import ORDER
from tests.alerting.rule_pool import KINDS, POOL, RATE_POOL, UNIT_US

FIRST_US = 1_000 * UNIT_US
units = st.integers(0, 3).map(lambda count: count * UNIT_US)


@st.composite
def rules(draw: st.DrawFn) -> SeriesRule:
    kind = draw(st.sampled_from(KINDS))
    window_us = 0 if kind == "last" else draw(st.integers(1, 3)) * UNIT_US
    pool = RATE_POOL if kind == "rate" else POOL
    conditions = [draw(st.sampled_from(pool.all))]
    for _ in range(draw(st.integers(0, 2))):
        conditions.append(draw(st.sampled_from(pool.implying(conditions[-1]))))
    excluding = pool.excluding(conditions[0])
    clear = draw(st.none() | st.sampled_from(excluding)) if excluding else None
    gap_us = draw(st.none() | st.integers(1, 3).map(lambda count: count * UNIT_US))
    value_of = ValueOf(kind, window_us, counter=kind == "rate" and draw(st.booleans()))
    return SeriesRule(value_of, draw(levels(conditions)), clear, draw(units), gap_us)


@st.composite
def levels(draw: st.DrawFn, conditions: Sequence[Condition]) -> tuple[Level, ...]:
    names = draw(st.sets(st.sampled_from(ORDER), min_size=len(conditions), max_size=len(conditions)))
    ranked = sorted(names, key=ORDER.index)
    return tuple(Level(name, each, draw(units)) for name, each in zip(ranked, conditions, strict=True))


@st.composite
def readings(draw: st.DrawFn, max_size: int = 14) -> list[StoredReading]:
    """Draw readings at multiples of half a unit, a few a microsecond off, in any order, some times more than once."""
    times = st.builds(
        lambda half, off: FIRST_US + half * UNIT_US // 2 + off,
        st.integers(0, 20),
        st.sampled_from((0, 0, 0, 0, 1, -1)),
    )
    values = st.integers(0, 10).map(lambda half: half / 2)
    return draw(st.lists(st.tuples(times, values), max_size=max_size))
