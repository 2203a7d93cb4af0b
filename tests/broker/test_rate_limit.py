import asyncio
import os
import sys

import pytest

from app.auth.keys import ApiKey, KeyRing, Limits
from app.broker.rate_limit import DEFAULT_RATE, Rate, RateLimitedError, RateLimiter
from tests.conftest import Database
from tests.notify.manual_clock import ManualClock

KEY = ApiKey("shop", frozenset({"notify"}))


def limited(per_minute: int, label: str = "shop") -> ApiKey:
    return ApiKey(label, frozenset({"notify"}), Limits(notifications_per_minute=per_minute))


def count(limiter: RateLimiter, api_key: ApiKey, times: int) -> None:
    for _time in range(times):
        limiter.count(api_key)


def test_key_may_send_a_minute_s_worth_at_once_and_then_evenly() -> None:
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


def test_key_may_send_all_at_once_again_after_a_pause() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    count(limiter, limited(30), 30)
    clock.now = 60.0
    count(limiter, limited(30), 30)


def test_keys_are_counted_apart() -> None:
    limiter = RateLimiter(clock=ManualClock())
    limiter.count(limited(1))
    limiter.count(limited(1, "other"))
    with pytest.raises(RateLimitedError):
        limiter.count(limited(1))


def test_key_without_a_limit_of_its_own_has_the_default() -> None:
    limiter = RateLimiter(Rate(per_minute=60, burst=2), ManualClock())
    count(limiter, KEY, 2)
    with pytest.raises(RateLimitedError) as caught:
        limiter.count(KEY)
    assert caught.value.wait_s == 1


def test_key_has_no_limit_when_its_limit_is_zero() -> None:
    count(RateLimiter(Rate(per_minute=1, burst=1), ManualClock()), limited(0), 1_000)


def test_default_lets_the_promised_rate_pass_for_ever() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    for _second in range(60):
        count(limiter, KEY, 1_500)
        clock.now += 1.0
    assert (DEFAULT_RATE.per_minute, DEFAULT_RATE.burst) == (120_000, 4_000)


async def test_limit_is_given_when_a_key_is_created(database: Database) -> None:
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
