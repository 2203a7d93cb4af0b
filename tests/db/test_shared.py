"""Shared state: what a query of it does while the database is away."""

import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from app.db.pool import Pool
from app.db.shared import RETRY_S, NotSharedError, SharedState
from tests.conftest import Database
from tests.notify.manual_clock import ManualClock
from tests.wire import Wire, pool_over, wire_to


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    async with wire_to(database.dsn) as opened:
        yield opened


@pytest.fixture
async def wired_pool(wire: Wire) -> AsyncIterator[Pool]:
    async with pool_over(wire) as pool:
        yield pool


async def failed(shared: SharedState) -> bool:
    try:
        await shared.fetch("SELECT 1")
    except NotSharedError:
        return True
    return False


async def test_nothing_is_shared_when_there_is_no_pool() -> None:
    assert await failed(SharedState())


async def test_database_is_not_asked_again_for_5_seconds_when_a_query_has_failed(wire: Wire, wired_pool: Pool) -> None:
    clock = ManualClock()
    shared = SharedState(clock)
    shared.pool = wired_pool
    await wire.cut()
    with capture_logs() as logs:
        assert await failed(shared)
        await wire.mend()
        clock.now = RETRY_S - 0.1
        assert await failed(shared)
        clock.now = RETRY_S
        assert not await failed(shared)
    assert [line["event"] for line in logs] == ["limits_not_shared"]


async def test_query_is_given_up_within_seconds_when_the_database_hangs(wire: Wire, wired_pool: Pool) -> None:
    shared = SharedState(ManualClock())
    shared.pool = wired_pool
    assert not await failed(shared)
    wire.freeze()
    started = time.monotonic()
    assert await failed(shared)
    assert time.monotonic() - started < 4
    started = time.monotonic()
    assert await failed(shared)
    assert time.monotonic() - started < 0.2
