import pytest

from app.alerting.conditions import holds
from app.alerting.conditions.above import Above


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8.0, False),
        (8.000000000000002, True),
        (1e100, True),
        (-1.0, False),
    ],
)
def test_above_is_strict_when_value_equals_threshold(value: float, expected: bool) -> None:
    assert holds(Above(8.0), value) is expected
