import pytest

from app.alerting.conditions import holds
from app.alerting.conditions.below import Below


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7.0, False),
        (6.999999999999999, True),
        (-1e100, True),
        (8.0, False),
    ],
)
def test_below_is_strict_when_value_equals_threshold(value: float, expected: bool) -> None:
    assert holds(Below(7.0), value) is expected
