import pytest

from app.alerting.conditions import holds
from app.alerting.conditions.inside import Inside


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.0, True),
        (8.0, True),
        (1.9999999999999998, False),
        (8.000000000000002, False),
    ],
)
def test_inside_includes_both_borders_when_value_equals_one(value: float, expected: bool) -> None:
    assert holds(Inside(2.0, 8.0), value) is expected
