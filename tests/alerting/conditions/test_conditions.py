import pytest

from app.alerting.conditions import (
    CONDITIONS,
    Condition,
    can_hold_together,
    constancy,
    farthest,
    holds,
    implies,
)
from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.conditions.inside import Inside
from app.alerting.conditions.outside import Outside
from tests.alerting.rule_pool import POOL


def test_conditions_are_found_by_their_file_name_when_imported() -> None:
    assert dict(CONDITIONS) == {
        "above": Above,
        "below": Below,
        "equals": Equals,
        "inside": Inside,
        "outside": Outside,
    }


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        (Above(8.0), Above(8.0), True),
        (Above(8.1), Above(8.0), True),
        (Above(8.0), Above(8.1), False),
        (Below(7.0), Below(7.0), True),
        (Below(7.1), Below(7.0), False),
        (Inside(2.0, 3.0), Inside(2.0, 8.0), True),
        (Outside(1.0, 9.0), Outside(2.0, 8.0), True),
        (Outside(2.0, 8.0), Outside(1.0, 9.0), False),
        (Above(8.0), Outside(2.0, 8.0), True),
        (Outside(2.0, 8.0), Above(8.0), False),
        (Equals(8.0), Above(8.0), False),
        (Equals(8.0), Inside(2.0, 8.0), True),
        (Inside(8.0, 8.0), Equals(8.0), True),
    ],
)
def test_implies_compares_accepted_values_when_kinds_differ(narrow: Condition, wide: Condition, expected: bool) -> None:
    assert implies(narrow, wide) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Below(8.0), Above(8.0), False),
        (Below(8.1), Above(8.0), True),
        (Inside(2.0, 8.0), Above(8.0), False),
        (Inside(2.0, 8.0), Outside(2.0, 8.0), False),
        (Equals(8.0), Inside(8.0, 9.0), True),
        (Equals(8.0), Below(8.0), False),
    ],
)
def test_can_hold_together_sees_shared_values_when_borders_touch(
    one: Condition, other: Condition, expected: bool
) -> None:
    assert can_hold_together(one, other) is expected
    assert can_hold_together(other, one) is expected


def test_implies_and_can_hold_together_agree_with_a_grid_of_values() -> None:
    pairs = [(one, other) for one in POOL.all for other in POOL.all]

    assert len(pairs) == 60 * 60
    assert [implies(*pair) for pair in pairs] == [one in POOL.implying(other) for one, other in pairs]
    assert [can_hold_together(*pair) for pair in pairs] == [one not in POOL.excluding(other) for one, other in pairs]


@pytest.mark.parametrize(
    ("condition", "farther"),
    [
        (Above(8.0), 12.0),
        (Below(7.0), -3.0),
        (Outside(2.0, 8.0), -3.0),
        (Outside(-2.0, 8.0), 12.0),
        (Inside(2.0, 8.0), None),
        (Equals(8.0), None),
    ],
)
def test_farthest_is_the_value_farther_past_the_threshold(condition: Condition, farther: float | None) -> None:
    assert farthest(condition, -3.0, 12.0) == farther


@pytest.mark.parametrize("condition", POOL.all)
def test_constancy_agrees_with_every_value_of_the_interval(condition: Condition) -> None:
    values = [half / 2 for half in range(-2, 13)]
    for first, low in enumerate(values):
        for last, high in enumerate(values[first:], first):
            accepted = {holds(condition, value) for value in values[first : last + 1]}
            assert constancy(condition)(low, high) is (accepted.pop() if len(accepted) == 1 else None)


def test_constancy_is_none_when_the_rejected_values_lie_within_the_interval() -> None:
    assert constancy(Outside(4.9, 5.1))(4.0, 6.0) is None
    assert constancy(Equals(5.0))(5.0, 5.0) is True
    assert constancy(Equals(5.25))(5.0, 5.5) is None
