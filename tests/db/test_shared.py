"""Shared state: what a query of it does while the database is away."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from app.db import shared
from app.db.pool import Pool
from app.db.shared import NotSharedError, SharedState
from app.tasks import running
from tests.conftest import wait_until
from tests.wire import Wire


async def failed(state: SharedState) -> bool:
    try:
        await state.fetch("SELECT 1")
    except NotSharedError:
        return True
    return False


async def test_nothing_is_shared_when_there_is_no_pool() -> None:
    assert await failed(SharedState())


async def test_database_is_asked_again_when_it_has_answered_after_a_failure(
    wire: Wire, wired_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "RETRY_S", 0.05)
    state = SharedState(wired_pool)
    await wire.cut()
    with capture_logs() as logs:
        assert await failed(state)
        await wire.mend()
        assert await failed(state)
        async with running(state.recover(), "recover"):
            await wait_until(lambda: len(logs) == 2)
        assert not await failed(state)
    assert [line["event"] for line in logs] == ["limits_not_shared", "limits_shared_again"]


async def test_query_is_given_up_within_seconds_when_the_database_hangs(wire: Wire, wired_pool: Pool) -> None:
    state = SharedState(wired_pool)
    assert not await failed(state)
    wire.freeze()
    started = time.monotonic()
    assert await failed(state)
    assert time.monotonic() - started < 4
    started = time.monotonic()
    assert await failed(state)
    assert time.monotonic() - started < 0.9


async def test_query_ends_as_cancelled_when_it_is_cancelled_while_the_database_hangs(
    wire: Wire, wired_pool: Pool
) -> None:
    state = SharedState(wired_pool)
    assert not await failed(state)
    wire.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await state.fetch("SELECT 1")
