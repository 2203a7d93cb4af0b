import asyncio
from datetime import UTC, datetime

import pytest

from app.broker import pacing as broker_pacing
from app.broker.format import BrokerNotification
from app.broker.pacing import AskedPacing
from app.broker.targets import Target, make_target
from app.notify.transport import Endpoints, TransientError
from tests.notify.manual_clock import ManualClock

NOTIFICATION = BrokerNotification(
    id="123e4567-e89b-12d3-a456-426614174000",
    title="Title",
    message="Message",
    level="info",
    at=datetime(2024, 6, 11, 14, 30, tzinfo=UTC),
)


def webhook(name: str) -> Target:
    settings = {"webhook_url": f"https://hooks.slack.com/services/{name}"}
    return make_target("slack", settings, NOTIFICATION, Endpoints())


async def refused(pacing: AskedPacing, target: Target, within_s: float) -> str:
    with pytest.raises(TransientError) as caught:
        await pacing.turn(target, within_s)
    return caught.value.reason


async def test_turn_comes_at_once_when_nobody_asked_to_be_spared() -> None:
    pacing = AskedPacing(ManualClock())
    for _number in range(1_000):
        await pacing.turn(webhook("a"), 0.0)


async def test_turn_is_refused_at_once_when_it_would_come_too_late() -> None:
    clock = ManualClock()
    pacing = AskedPacing(clock)
    pacing.hold(webhook("a"), 5.0)
    assert await refused(pacing, webhook("a"), 4.0) == "Slack has asked to wait, 5 s from now on"
    clock.now = 5.0
    await pacing.turn(webhook("a"), 0.0)
    assert await refused(pacing, webhook("a"), 0.5) == "Slack has asked to wait, 1 s from now on"


async def test_turn_is_refused_at_once_when_enough_others_wait_already() -> None:
    pacing = AskedPacing()
    pacing.hold(webhook("a"), 1.0)
    waiting = [asyncio.create_task(pacing.turn(webhook("a"), 10.0)) for _number in range(3)]
    await asyncio.sleep(0)
    assert await refused(pacing, webhook("a"), 3.5) == "Slack has asked to wait, 4 s from now on"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_turn_is_of_a_destination_alone() -> None:
    pacing = AskedPacing(ManualClock())
    pacing.hold(webhook("a"), 5.0)
    await pacing.turn(webhook("b"), 0.0)


async def test_hold_is_no_longer_than_a_minute_whatever_the_service_says() -> None:
    pacing = AskedPacing(ManualClock())
    pacing.hold(webhook("a"), 86_400.0)
    assert await refused(pacing, webhook("a"), 10.0) == "Slack has asked to wait, 60 s from now on"


async def test_pacing_ends_when_the_destination_has_not_asked_for_a_while() -> None:
    clock = ManualClock()
    pacing = AskedPacing(clock)
    pacing.hold(webhook("a"), 5.0)
    clock.now = 5.0 + broker_pacing.PACED_FOR_S + 0.1
    for _number in range(100):
        await pacing.turn(webhook("a"), 0.0)


async def test_pacing_forgets_destinations_that_no_longer_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_pacing, "_LANES_KEPT", 10)
    clock = ManualClock()
    pacing = AskedPacing(clock)
    for number in range(100):
        clock.now += 100.0
        pacing.hold(webhook(str(number)), 1.0)
    assert pacing.known_destinations <= 10
