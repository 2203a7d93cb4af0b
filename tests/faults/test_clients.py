"""Clients that read or connect without end, or lose connections: others do not feel them."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

import aiohttp
import asyncpg
import pytest

from app.auth.keys import create_key
from tests.conftest import API_KEY, Database
from tests.faults.gateways import Gateway, Load
from tests.faults.installation import Installation, Process, installed
from tests.faults.proxy import proxy_to
from tests.faults.verdict import TOLERANCE_S, check_alerts, check_answers, check_exact, check_health, fault

#: On a machine that does much else.
pytestmark = pytest.mark.timeout(240)

#: The first byte of a read comes within this time.
READ_S = 10.0
#: A revoked key is refused within this time.
REVOKED_S = 5.0


@pytest.mark.slow
async def test_uploads_and_keys_go_on_when_reads_hang(tmp_path: Path, database: Database) -> None:
    key = await create_key(database.pool, "lost", frozenset({"ingest"}), {})
    async with installed(tmp_path, database.dsn) as site, _locked(database.dsn, "silence"):
        with fault("clients: 60 reads at a time that hang on a lock, for 20 s") as timed:
            async with _readers(site, "/api/v1/silences", 60) as took_s:
                await asyncio.sleep(5)
                revoked_at = monotonic()
                await database.pool.execute("UPDATE api_key SET revoked_at = now() WHERE label = 'lost'")
                refused_s = await _until_refused(site.apis[0], key, revoked_at)
                await asyncio.sleep(15)
            timed.is_over()
            timed.row.note = f"slowest read {max(took_s):.1f} s; a revoked key refused after {refused_s:.1f} s"
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
            check_health(site, timed, becomes_unready=False)
            assert max(took_s) <= READ_S + TOLERANCE_S
            assert refused_s <= REVOKED_S


@asynccontextmanager
async def _locked(dsn: str, table: str) -> AsyncIterator[None]:
    """Lock a table, so that every read of it hangs."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        connection.terminate()


@asynccontextmanager
async def _readers(site: Installation, path: str, count: int) -> AsyncIterator[list[float]]:
    """Read a path with a number of clients, repeatedly; yield the time to each first byte."""
    took_s: list[float] = []
    timeout, many = aiohttp.ClientTimeout(60), aiohttp.TCPConnector(limit=0)

    async def read(http: aiohttp.ClientSession) -> None:
        while True:
            began = monotonic()
            async with http.get(site.apis[0].address + path) as response:
                took_s.append(monotonic() - began)
                assert response.status in (200, 429, 503), await response.text()
            await asyncio.sleep(0.2)

    async with aiohttp.ClientSession(headers={"X-API-Key": API_KEY}, timeout=timeout, connector=many) as http:
        tasks = [asyncio.create_task(read(http)) for _ in range(count)]
        try:
            yield took_s
            failed = [task.exception() for task in tasks if task.done()]
            assert failed == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _until_refused(api: Process, key: str, since: float) -> float:
    """Send readings under a key until it is refused with 401; return how long after `since` that was."""
    async with asyncio.timeout(40), aiohttp.ClientSession(headers={"X-API-Key": key}) as http:
        while True:
            async with http.post(f"{api.address}/api/v1/readings", data=b"[]") as response:
                if response.status == 401:
                    return monotonic() - since
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_uploads_and_probes_go_on_when_connections_without_a_key_flood_the_api(
    tmp_path: Path, database: Database
) -> None:
    async with AsyncExitStack() as stack:
        with _files_limited(1_024):  # what most machines give a process
            site = await stack.enter_async_context(installed(tmp_path, database.dsn))
        with fault("clients: 2,000 connections without a key that send half a request, for 20 s") as timed:
            writers = []
            for _ in range(2_000):
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", site.apis[0].port)
                except OSError:
                    break
                writer.write(b"POST /api/v1/readings HTTP/1.1\r\nHost: x\r\nX-")
                writers.append(writer)
            assert len(writers) == 2_000
            await asyncio.sleep(20)
            timed.is_over()
            for writer in writers:
                writer.transport.abort()
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
            check_health(site, timed, becomes_unready=False)


@contextmanager
def _files_limited(count: int) -> Iterator[None]:
    """Limit the open files of processes that are started in the block, until they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_uploads_are_exact_when_clients_lose_their_connections(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site, proxy_to(site.apis[0].address) as door:
        with fault("network to gateways: connections reset at random places, answers lost") as timed:
            unlucky = Load([Gateway(f"u{number}", [f"http://127.0.0.1:{door.port}"], 5) for number in range(3)])
            site.load.gateways = [*site.load.gateways, *unlucky.gateways]
            try:
                for number in range(20):
                    door.cut_after(1_000 + 997 * number)
                    if number % 3 == 0:
                        door.half_close()
                    await asyncio.sleep(0.1)
                await door.mend()
                timed.is_over()
                await site.until_steady(1)
                check_answers(site, timed)
                await unlucky.finish()
            finally:
                await unlucky.cancel()
            await check_exact(site, timed)
            await check_alerts(site, timed)
            check_health(site, timed, becomes_unready=False)
            assert timed.row.statuses.get("none", 0) > 0
