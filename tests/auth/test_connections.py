"""Limits of WebSocket connections for each API key, in one process and over several."""

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from app.auth.connections import ConnectionCounts, TooManyConnectionsError
from app.auth.keys import ApiKey, Limits
from app.auth.sql import SQL
from app.db import shared
from app.db.pool import Pool
from app.db.shared import SharedState
from app.tasks import running
from tests.conftest import Database
from tests.notify.dispatchers import until, until_one_waits
from tests.wire import Wire

ALONE = SharedState()


def key(label: str, ws_connections: int | None = None) -> ApiKey:
    return ApiKey(label, frozenset({"live"}), Limits(ws_connections))


def process(pool: Pool, limit: int) -> ConnectionCounts:
    """Return the counts of one more process on a database."""
    return ConnectionCounts(limit, SharedState(pool))


async def refused(counts: ConnectionCounts, api_key: ApiKey) -> str:
    with pytest.raises(TooManyConnectionsError) as refusal:
        async with counts.hold(api_key):
            pass
    return str(refusal.value)


async def beaten(database: Database, seconds_ago: int) -> None:
    """Let the last beat of every process be this old."""
    await database.pool.execute("UPDATE connection_count SET beat_at = now() - $1 * INTERVAL '1 s'", seconds_ago)


async def until_taken(stack: AsyncExitStack, counts: ConnectionCounts, api_key: ApiKey) -> None:
    """Try until a connection is taken; fail after 20 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await stack.enter_async_context(counts.hold(api_key))
            except TooManyConnectionsError:
                await asyncio.sleep(0.02)


# One process


async def test_connections_are_counted_by_key_and_refused_over_the_servers_limit() -> None:
    counts = ConnectionCounts(2, ALONE)
    async with counts.hold(key("a")), counts.hold(key("a")), counts.hold(key("b")):
        assert await refused(counts, key("a")) == "Max connections (2) for this API Key reached."
        async with counts.hold(key("b")):
            pass


async def test_place_is_free_again_when_a_connection_ends_by_an_error() -> None:
    counts = ConnectionCounts(1, ALONE)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with counts.hold(key("a")):
                raise ZeroDivisionError
    async with counts.hold(key("a")):
        pass


async def test_nothing_is_kept_of_keys_when_their_connections_have_ended() -> None:
    counts = ConnectionCounts(2, ALONE)
    for number in range(100):
        async with counts.hold(key(f"key {number}")), counts.hold(key(f"key {number}")):
            pass
    assert counts._held == {}
    assert not list(counts._held)


async def test_counts_are_written_once_when_connections_have_ended(database: Database) -> None:
    counts = process(database.pool, 2)
    async with counts.hold(key("a")):
        pass
    await counts.write()
    assert await database.pool.fetchval("SELECT count(*) FROM connection_count") == 0
    # There is nothing to write any more, so the database is not asked.
    await database.pool.execute("DROP TABLE connection_count CASCADE")
    await counts.write()


async def test_refused_connection_is_not_counted() -> None:
    counts = ConnectionCounts(1, ALONE)
    async with counts.hold(key("a")):
        for _ in range(2):
            await refused(counts, key("a"))
    async with counts.hold(key("a")):
        pass


@pytest.mark.parametrize(("default_limit", "own", "held"), [(0, None, 50), (1, 0, 50), (0, 3, 3), (1, 3, 3)])
async def test_own_limit_takes_precedence_and_zero_means_no_limit(
    default_limit: int, own: int | None, held: int
) -> None:
    counts = ConnectionCounts(default_limit, ALONE)
    async with AsyncExitStack() as stack:
        for _ in range(held):
            await stack.enter_async_context(counts.hold(key("a", own)))
        if held == 3:
            await refused(counts, key("a", own))


# Several processes


async def test_limit_holds_for_all_processes_together(database: Database) -> None:
    first, second = process(database.pool, 2), process(database.pool, 2)
    async with first.hold(key("a")), second.hold(key("a")):
        assert await refused(first, key("a")) == "Max connections (2) for this API Key reached."
        assert await refused(second, key("a")) == "Max connections (2) for this API Key reached."
        async with second.hold(key("b")), second.hold(key("b")):
            assert await refused(first, key("b")) == "Max connections (2) for this API Key reached."


async def test_limit_holds_when_all_processes_take_connections_at_the_same_time(database: Database) -> None:
    processes = [process(database.pool, 7) for _ in range(3)]
    async with AsyncExitStack() as stack:
        taking = [stack.enter_async_context(counts.hold(key("a"))) for _ in range(7) for counts in processes]
        outcomes = await asyncio.gather(*taking, return_exceptions=True)
        assert len([outcome for outcome in outcomes if outcome is None]) == 7
        assert await database.pool.fetchval("SELECT sum(held) FROM connection_count") >= 7


async def test_connection_is_refused_when_another_process_is_just_taking_the_last_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TIMEOUT_S", 30.0)
    async with database.pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval(SQL["take_connection"], "a", uuid4(), 1, 1)
        taking = asyncio.create_task(refused(process(database.pool, 1), key("a")))
        await until_one_waits(database.pool)
    assert await taking == "Max connections (1) for this API Key reached."


async def test_place_is_free_for_another_process_when_a_connection_has_ended(database: Database) -> None:
    first, second = process(database.pool, 1), process(database.pool, 1)
    async with running(first.share(), "share"), AsyncExitStack() as stack:
        async with first.hold(key("a")):
            await refused(second, key("a"))
        # Long before the count of the first process would be too old.
        async with asyncio.timeout(4):
            await until_taken(stack, second, key("a"))
        await until(database.pool, "SELECT sum(held) = 1 FROM connection_count")


async def test_place_is_free_when_the_process_that_held_it_has_not_beaten_for_15_seconds(database: Database) -> None:
    killed, other = process(database.pool, 1), process(database.pool, 1)
    async with killed.hold(key("a")):
        await beaten(database, seconds_ago=5)
        await refused(other, key("a"))
        await beaten(database, seconds_ago=15)
        async with other.hold(key("a")):
            pass


async def test_row_of_a_killed_process_is_removed_when_another_process_beats(database: Database) -> None:
    killed, other = process(database.pool, 2), process(database.pool, 2)
    async with killed.hold(key("a")):
        await beaten(database, seconds_ago=60)
        async with other.hold(key("a")):
            await other.write()
            assert await database.pool.fetchval("SELECT count(*) FROM connection_count") == 1


async def test_place_is_kept_when_the_process_that_holds_it_beats(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.connections.BEAT_EVERY_S", 0.01)
    counts = process(database.pool, 1)
    async with running(counts.share(), "share"), counts.hold(key("a")):
        await beaten(database, seconds_ago=3_600)
        await until(database.pool, "SELECT beat_at > now() - INTERVAL '1 minute' FROM connection_count")
        await refused(process(database.pool, 1), key("a"))


async def test_database_is_not_asked_when_keys_have_no_limit(wire: Wire, wired_pool: Pool) -> None:
    counts = process(wired_pool, 0)
    await wire.cut()
    with capture_logs() as logs:
        async with counts.hold(key("a")), counts.hold(key("b", 0)):
            pass
    assert logs == []


async def test_connections_of_this_process_are_counted_when_the_database_is_away(wire: Wire, wired_pool: Pool) -> None:
    counts = process(wired_pool, 2)
    async with counts.hold(key("a")):
        await wire.cut()
        async with counts.hold(key("a")):
            await refused(counts, key("a"))


async def test_connections_are_shared_again_when_the_database_is_back(
    database: Database, wire: Wire, wired_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "RETRY_S", 0.0)
    monkeypatch.setattr("app.auth.connections.BEAT_EVERY_S", 0.05)
    state = SharedState(wired_pool)
    counts = ConnectionCounts(1, state)
    await wire.cut()
    async with running(state.recover(), "recover"), running(counts.share(), "share"), counts.hold(key("a")):
        await wire.mend()
        await until(database.pool, "SELECT count(*) = 1 FROM connection_count")
        await refused(process(database.pool, 1), key("a"))


async def test_count_is_corrected_when_a_connection_is_cancelled_while_it_is_taken(
    database: Database, wire: Wire, wired_pool: Pool
) -> None:
    counts = process(wired_pool, 1)
    wire.freeze()
    async with running(counts.share(), "share"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), counts.hold(key("a")):
                pass
        await wire.mend()
        async with AsyncExitStack() as stack:
            await until_taken(stack, process(database.pool, 1), key("a"))
