import pytest

from app.alerting.conditions import holds
from app.alerting.conditions.outside import Outside


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.0, False),
        (8.0, False),
        (1.9999999999999998, True),
        (8.000000000000002, True),
    ],
)
def test_outside_excludes_both_borders_when_value_equals_one(value: float, expected: bool) -> None:
    assert holds(Outside(2.0, 8.0), value) is expected
