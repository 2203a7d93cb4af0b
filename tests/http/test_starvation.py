"""Reads that hang in the API: all other work continues, and refused reads get a reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import aiohttp
import pytest

from app import services
from app.auth.key_ring import REVOKED_WITHIN_S
from app.auth.keys import create_key, revoke_key
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api, wait_until

WAITING_READS = """
SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@asynccontextmanager
async def alerts_locked(database: Database) -> AsyncIterator[None]:
    """Until the block ends, every read of alerts waits in the database."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute("LOCK TABLE alert_episode IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Server]:
    """The API without a worker, which would wait for the lock, too."""
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_api(settings, Worker(settings)) as server:
        yield server


async def test_uploads_and_revocation_go_on_when_reads_of_two_keys_hang(api: Server, database: Database) -> None:
    keys = {label: await create_key(database.pool, label, frozenset({"read", "ingest"}), {}) for label in ("a", "b")}
    assert (await api.post_readings([{"sensor": "s", "values": {"m": 0}}])).status == 200
    async with alerts_locked(database), asyncio.TaskGroup() as group:
        hanging = [group.create_task(_get_alerts(api, key)) for key in keys.values() for _ in range(16)]
        await _until_waiting(database, services.READ_CONNECTIONS)
        started = monotonic()
        for number in range(10):
            headers = {"X-API-Key": keys["a"], "Idempotency-Key": f"upload {number}"}
            answer = await api.post_readings([{"sensor": "s", "values": {"m": number}}], headers=headers)
            assert answer.status == 200
        assert monotonic() - started < 2
        await revoke_key(database.pool, "a")
        revoked = monotonic()
        while (await api.post_readings([], headers={"X-API-Key": keys["a"]})).status == 200:
            assert monotonic() - revoked < REVOKED_WITHIN_S
        assert monotonic() - revoked < REVOKED_WITHIN_S
        for task in hanging:
            task.cancel()


async def test_read_is_refused_with_429_when_32_of_the_key_are_under_way(api: Server, database: Database) -> None:
    async with alerts_locked(database), asyncio.TaskGroup() as group:
        hanging = [group.create_task(_get_alerts(api, API_KEY)) for _ in range(32)]
        await wait_until(lambda: sum(slots.taken for slots in api.services.reads._keys.values()) == 32)
        async with api.http.get("/api/v1/alerts") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            problem = await response.json()
        assert problem["type"] == "/problems/too_many_requests"
        assert problem["detail"].startswith("32 reads of this key are under way")
        for task in hanging:
            task.cancel()


async def test_read_is_refused_with_503_when_the_database_takes_too_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "READ_TIMEOUT_S", 1.0)
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    async with (
        running_api(settings, Worker(settings)) as api,
        alerts_locked(database),
        api.http.get("/api/v1/alerts") as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await response.json())["type"] == "/problems/slow_read"


async def test_read_is_refused_with_503_when_no_connection_becomes_free(
    api: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.pool.ACQUIRE_TIMEOUT_S", 0.2)
    keys = [await create_key(database.pool, str(number), frozenset({"read"}), {}) for number in range(2)]
    async with alerts_locked(database), asyncio.TaskGroup() as group:
        hanging = [group.create_task(_get_alerts(api, key)) for key in keys for _ in range(3)]
        await _until_waiting(database, services.READ_CONNECTIONS)
        async with api.http.get("/api/v1/sensors") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            problem = await response.json()
        assert (problem["type"], problem["detail"]) == (
            "/problems/overloaded",
            "The database is busy with other requests. Try again.",
        )
        for task in hanging:
            task.cancel()


async def test_query_of_a_read_ends_when_its_client_leaves(api: Server, database: Database) -> None:
    async with alerts_locked(database):
        reading = asyncio.create_task(_get_alerts(api, API_KEY))
        await _until_waiting(database, 1)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await _until_waiting(database, 0)
        await wait_until(lambda: api.services.reads._keys == {})
        assert api.services.read_pool.get_idle_size() >= 1
    assert (await api.get("/api/v1/alerts"))["items"] == []


async def _get_alerts(api: Server, key: str) -> int:
    async with (
        aiohttp.ClientSession(api.address) as http,
        http.get("/api/v1/alerts", headers={"X-API-Key": key}) as response,
    ):
        return response.status


async def _until_waiting(database: Database, count: int) -> None:
    async with asyncio.timeout(10):
        while await database.pool.fetchval(WAITING_READS) != count:  # noqa: ASYNC110 -- a query has no event
            await asyncio.sleep(0.01)
