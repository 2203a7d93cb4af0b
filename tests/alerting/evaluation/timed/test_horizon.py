"""Values are held up to a horizon that leaves a gateway its usual lateness."""

import pytest

from app.alerting.evaluation.timed.horizon import SHORTEST_SETTLE_US, Uploads, horizon_of
from app.clock import MINUTE_US, SECOND_US

NOW = 1_000_000 * SECOND_US
LIVE = 15 * MINUTE_US


@pytest.mark.parametrize(
    ("latenesses_s", "settle_s"),
    [
        ((), 2),
        ((0.5,), 2),
        ((10.0, 20.0, 30.0), 20),
        # An upload that was later than `live` is that of a gateway that was away.
        ((10.0, 20.0, 30.0, 7_200.0, 7_200.0), 20),
        ((900.0,), 900),
    ],
)
def test_gateway_settles_after_its_usual_lateness(latenesses_s: tuple[float, ...], settle_s: int) -> None:
    assert Uploads(NOW, latenesses_s).settle_us(LIVE) == settle_s * SECOND_US


def test_gateway_settles_within_live_when_that_is_short() -> None:
    assert Uploads(NOW).settle_us(SECOND_US) == SECOND_US


def test_horizon_is_now_but_for_the_usual_lateness() -> None:
    assert horizon_of(None, LIVE, NOW, 0) == NOW - SHORTEST_SETTLE_US
    assert horizon_of(Uploads(NOW, (60.0,)), LIVE, NOW, 0) == NOW - MINUTE_US


@pytest.mark.parametrize(("break_ended_ago_us", "is_standing"), [(MINUTE_US, True), (LIVE, False)])
def test_horizon_stands_after_a_break_of_ingest_until_the_gateway_has_uploaded(
    break_ended_ago_us: int, is_standing: bool
) -> None:
    since_us = NOW - break_ended_ago_us
    last_us = since_us - 3 * MINUTE_US
    expected = last_us if is_standing else NOW
    assert horizon_of(Uploads(last_us), LIVE, NOW, since_us) == expected - SHORTEST_SETTLE_US
    assert horizon_of(Uploads(since_us), LIVE, NOW, since_us) == NOW - SHORTEST_SETTLE_US
