import pytest

from app.alerting.conditions import holds
from app.alerting.conditions.equals import Equals


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, True),
        (0.9999999999999999, False),
        (1.0000000000000002, False),
        (0.0, False),
    ],
)
def test_equals_accepts_one_float_when_neighbours_are_tried(value: float, expected: bool) -> None:
    assert holds(Equals(1.0), value) is expected
