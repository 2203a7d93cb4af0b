import asyncio
import os
import sys
from datetime import UTC, datetime

import pytest

from app.auth.keys import ApiKey, KeyRing, Limits
from app.broker import pacing as broker_pacing
from app.broker.format import BrokerNotification
from app.broker.pacing import DEFAULT_RATE, Rate, RateLimitedError, RateLimiter, RetryAfterPacing
from app.broker.request import Target, make_target
from app.notify.transport import Endpoints, TransientError
from tests.conftest import Database
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


async def refused(pacing: RetryAfterPacing, target: Target, within_s: float) -> str:
    with pytest.raises(TransientError) as caught:
        await pacing.wait_turn(target, within_s)
    return caught.value.reason


async def test_turn_comes_at_once_when_the_destination_has_not_asked_to_wait() -> None:
    pacing = RetryAfterPacing(ManualClock())
    for _number in range(1_000):
        await pacing.wait_turn(webhook("a"), 0.0)


async def test_turn_is_refused_at_once_when_it_would_come_too_late() -> None:
    clock = ManualClock()
    pacing = RetryAfterPacing(clock)
    pacing.hold(webhook("a"), 5.0)
    assert await refused(pacing, webhook("a"), 4.0) == "Slack has asked to wait, 5 s from now on"
    clock.now = 5.0
    await pacing.wait_turn(webhook("a"), 0.0)
    assert await refused(pacing, webhook("a"), 0.5) == "Slack has asked to wait, 1 s from now on"


async def test_turn_is_refused_at_once_when_others_that_wait_would_make_it_too_late() -> None:
    pacing = RetryAfterPacing()
    pacing.hold(webhook("a"), 1.0)
    waiting = [asyncio.create_task(pacing.wait_turn(webhook("a"), 10.0)) for _number in range(3)]
    await asyncio.sleep(0)
    assert await refused(pacing, webhook("a"), 3.5) == "Slack has asked to wait, 4 s from now on"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_turn_comes_at_once_when_another_destination_has_asked_to_wait() -> None:
    pacing = RetryAfterPacing(ManualClock())
    pacing.hold(webhook("a"), 5.0)
    await pacing.wait_turn(webhook("b"), 0.0)


async def test_hold_is_cut_to_a_minute_when_the_service_asks_for_longer() -> None:
    pacing = RetryAfterPacing(ManualClock())
    pacing.hold(webhook("a"), 86_400.0)
    assert await refused(pacing, webhook("a"), 10.0) == "Slack has asked to wait, 60 s from now on"


async def test_pacing_ends_when_the_destination_has_not_asked_to_wait_for_a_minute() -> None:
    clock = ManualClock()
    pacing = RetryAfterPacing(clock)
    pacing.hold(webhook("a"), 5.0)
    clock.now = 5.0 + broker_pacing.PACED_FOR_S + 0.1
    for _number in range(100):
        await pacing.wait_turn(webhook("a"), 0.0)


async def test_pacing_drops_destinations_when_they_no_longer_ask_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_pacing, "_DESTINATIONS_KEPT", 10)
    clock = ManualClock()
    pacing = RetryAfterPacing(clock)
    for number in range(100):
        clock.now += 100.0
        pacing.hold(webhook(str(number)), 1.0)
    assert pacing.known_destinations <= 10


KEY = ApiKey("shop", frozenset({"notify"}))


def limited(per_minute: int, label: str = "shop") -> ApiKey:
    return ApiKey(label, frozenset({"notify"}), Limits(notifications_per_minute=per_minute))


def count(limiter: RateLimiter, api_key: ApiKey, times: int) -> None:
    for _time in range(times):
        limiter.count(api_key)


def test_key_may_send_its_limit_for_a_minute_at_once_and_then_evenly() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    count(limiter, limited(30), 30)
    with pytest.raises(RateLimitedError) as caught:
        limiter.count(limited(30))
    assert caught.value.wait_s == 2
    assert str(caught.value) == (
        "Rate limit exceeded: this key may send 30 notifications a minute, 30 at once; try again in 2 s"
    )
    clock.now = 2.0
    limiter.count(limited(30))
    with pytest.raises(RateLimitedError):
        limiter.count(limited(30))


def test_key_may_send_its_whole_burst_again_after_a_minute() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    count(limiter, limited(30), 30)
    clock.now = 60.0
    count(limiter, limited(30), 30)


def test_keys_are_counted_separately() -> None:
    limiter = RateLimiter(clock=ManualClock())
    limiter.count(limited(1))
    limiter.count(limited(1, "other"))
    with pytest.raises(RateLimitedError):
        limiter.count(limited(1))


def test_key_has_the_default_limit_when_it_has_none_of_its_own() -> None:
    limiter = RateLimiter(Rate(per_minute=60, burst=2), ManualClock())
    count(limiter, KEY, 2)
    with pytest.raises(RateLimitedError) as caught:
        limiter.count(KEY)
    assert caught.value.wait_s == 1


def test_key_has_no_limit_when_its_limit_is_zero() -> None:
    count(RateLimiter(Rate(per_minute=1, burst=1), ManualClock()), limited(0), 1_000)


def test_default_allows_1500_notifications_a_second_for_a_minute() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    for _second in range(60):
        count(limiter, KEY, 1_500)
        clock.now += 1.0
    assert (DEFAULT_RATE.per_minute, DEFAULT_RATE.burst) == (120_000, 4_000)


async def test_limit_is_stored_when_a_key_is_created_with_it(database: Database) -> None:
    command = ("key", "create", "shop", "--scope", "notify", "--notifications-per-minute", "60")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        *command,
        env={**os.environ, "DATABASE_URL": database.dsn},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _errors = await process.communicate()
    ring = KeyRing({})
    await ring.open(database.pool)
    assert await ring.authenticate(output.decode().strip()) == limited(60)
