import asyncio
import os
import sys

import pytest

from app.auth.key_ring import KeyRing
from app.auth.keys import ApiKey, Limits
from app.auth.rates import Rate, RateLimitedError
from app.broker.rates import DEFAULT_RATE, RateLimiter
from app.db.pool import Pool
from app.db.shared import SharedState
from tests.conftest import Database
from tests.notify.manual_clock import ManualClock
from tests.wire import pool_over, wire_to

KEY = ApiKey("shop", frozenset({"notify"}))


def limited(per_minute: int, label: str = "shop") -> ApiKey:
    return ApiKey(label, frozenset({"notify"}), Limits(notifications_per_minute=per_minute))


async def count(limiter: RateLimiter, api_key: ApiKey, times: int) -> None:
    for _time in range(times):
        await limiter.count(api_key)


async def test_key_may_send_its_limit_for_a_minute_at_once_and_then_evenly() -> None:
    clock = ManualClock()
    limiter = RateLimiter(SharedState(), clock=clock)
    await count(limiter, limited(30), 30)
    with pytest.raises(RateLimitedError) as caught:
        await limiter.count(limited(30))
    assert caught.value.retry_after_s == 2
    assert str(caught.value) == (
        "Rate limit exceeded: this key may send 30 notifications a minute, 30 at once; try again in 2 s"
    )
    clock.now = 2.0
    await limiter.count(limited(30))
    with pytest.raises(RateLimitedError):
        await limiter.count(limited(30))


async def test_key_may_send_its_whole_burst_again_after_a_minute() -> None:
    clock = ManualClock()
    limiter = RateLimiter(SharedState(), clock=clock)
    await count(limiter, limited(30), 30)
    clock.now = 60.0
    await count(limiter, limited(30), 30)


async def test_key_may_send_no_more_than_its_burst_at_once_after_an_hour_of_rest() -> None:
    clock = ManualClock()
    limiter = RateLimiter(SharedState(), clock=clock)
    await limiter.count(limited(30))
    clock.now = 3_600.0
    await count(limiter, limited(30), 30)
    with pytest.raises(RateLimitedError):
        await limiter.count(limited(30))


async def test_keys_are_counted_separately() -> None:
    limiter = RateLimiter(SharedState(), clock=ManualClock())
    await limiter.count(limited(1))
    await limiter.count(limited(1, "other"))
    with pytest.raises(RateLimitedError):
        await limiter.count(limited(1))


async def test_key_has_the_default_limit_when_it_has_none_of_its_own() -> None:
    limiter = RateLimiter(SharedState(), Rate(per_minute=60, burst=2), ManualClock())
    await count(limiter, KEY, 2)
    with pytest.raises(RateLimitedError) as caught:
        await limiter.count(KEY)
    assert caught.value.retry_after_s == 1


async def test_key_has_no_limit_when_its_limit_is_zero() -> None:
    await count(RateLimiter(SharedState(), Rate(per_minute=1, burst=1), ManualClock()), limited(0), 1_000)


async def test_default_allows_1500_notifications_a_second_for_a_minute() -> None:
    clock = ManualClock()
    limiter = RateLimiter(SharedState(), clock=clock)
    for _second in range(60):
        await count(limiter, KEY, 1_500)
        clock.now += 1.0
    assert (DEFAULT_RATE.per_minute, DEFAULT_RATE.burst) == (120_000, 4_000)


# Several processes


def process(pool: Pool, clock: ManualClock | None = None) -> RateLimiter:
    """Return the limiter of one more process on a database."""
    return RateLimiter(SharedState(pool), clock=clock or ManualClock())


async def let_pass(database: Database, minutes: int) -> None:
    """Let time pass in the database."""
    await database.pool.execute("UPDATE notification_rate SET due_at = due_at - $1 * INTERVAL '1 minute'", minutes)


async def test_own_limit_of_a_key_holds_for_all_processes_together(database: Database) -> None:
    first, second = process(database.pool), process(database.pool)
    await count(first, limited(7), 4)
    await count(second, limited(7), 3)
    for limiter in (first, second):
        with pytest.raises(RateLimitedError) as caught:
            await limiter.count(limited(7))
        assert caught.value.retry_after_s == 9
    await count(first, limited(7, "other"), 7)


async def test_own_limit_of_a_key_holds_when_all_processes_count_at_the_same_time(database: Database) -> None:
    processes = [process(database.pool) for _number in range(3)]
    counting = [limiter.count(limited(10)) for _number in range(8) for limiter in processes]
    outcomes = await asyncio.gather(*counting, return_exceptions=True)
    assert len([outcome for outcome in outcomes if outcome is None]) == 10
    assert len([outcome for outcome in outcomes if isinstance(outcome, RateLimitedError)]) == 14


async def test_key_may_send_again_in_any_process_when_a_minute_has_passed(database: Database) -> None:
    clock = ManualClock()
    first, second = process(database.pool, clock), process(database.pool, clock)
    await count(first, limited(5), 5)
    with pytest.raises(RateLimitedError):
        await second.count(limited(5))
    await let_pass(database, 1)
    clock.now = 60.0
    await count(second, limited(5), 5)
    with pytest.raises(RateLimitedError):
        await first.count(limited(5))


async def test_database_is_not_asked_when_the_key_was_refused_and_must_still_wait(database: Database) -> None:
    clock = ManualClock()
    first, second = process(database.pool, clock), process(database.pool, clock)
    await count(first, limited(5), 5)
    for _number in range(2):
        # The second refusal is the process's own: for the database, the time has come.
        with pytest.raises(RateLimitedError) as caught:
            await second.count(limited(5))
        assert caught.value.retry_after_s == 12
        await let_pass(database, 1)


async def test_database_is_not_asked_when_the_key_has_no_limit_of_its_own(database: Database) -> None:
    limiter = process(database.pool)
    await count(limiter, KEY, 3)
    await count(limiter, limited(0), 3)
    assert await database.pool.fetchval("SELECT count(*) FROM notification_rate") == 0


async def test_process_counts_for_itself_when_the_database_is_away(database: Database) -> None:
    async with wire_to(database.dsn) as wire, pool_over(wire) as pool:
        limiter = process(pool)
        await count(limiter, limited(5), 2)
        await wire.cut()
        await count(limiter, limited(5), 3)
        with pytest.raises(RateLimitedError):
            await limiter.count(limited(5))


# Stored keys


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


@pytest.mark.parametrize(("wait_s", "whole_s"), [(-0.5, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (59.2, 60)])
def test_wait_is_told_in_whole_seconds_of_which_there_is_at_least_one(wait_s: float, whole_s: int) -> None:
    error = RateLimitedError(Rate(60, 1), wait_s)
    assert error.retry_after_s == whole_s
    assert str(error).endswith(f"try again in {whole_s} s")
