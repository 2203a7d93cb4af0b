"""A revoked key stops working in every process within 2 seconds, also while they are busy with uploads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from app.auth.key_ring import REVOKED_WITHIN_S
from app.auth.keys import create_key, revoke_key
from tests.conftest import Database
from tests.processes import ServerProcess, running

#: Uploads under way at each process, each of so many values.
LOADERS, VALUES = 4, 2_000


@pytest.fixture
async def servers(database: Database, tmp_path: Path) -> AsyncIterator[list[ServerProcess]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(running(tmp_path / name, "serve", DATABASE_URL=database.dsn))
            for name in ("one", "two")
        ]


async def test_revoked_key_is_refused_by_every_process_within_2_seconds_under_load(
    database: Database, servers: list[ServerProcess]
) -> None:
    key = await create_key(database.pool, "roof", frozenset({"ingest"}), {})
    async with under_load(servers):
        for server in servers:
            assert await server.post([], **{"X-API-Key": key}) == 200
        await revoke_key(database.pool, "roof")
        revoked_at = monotonic()
        refused = [asyncio.create_task(until_refused(server, key)) for server in servers]
        for task in refused:
            assert await task - revoked_at < REVOKED_WITHIN_S
        # Its successor has the same label, and works at once.
        successor = await create_key(database.pool, "roof", frozenset({"ingest"}), {})
        for server in servers:
            assert await server.post([], **{"X-API-Key": successor}) == 200
            assert await server.post([], **{"X-API-Key": key}) == 401


async def until_refused(server: ServerProcess, key: str) -> float:
    """Upload with a key until it is refused; return when the last upload that was accepted began."""
    accepted_at = 0.0
    async with asyncio.timeout(20):
        while True:
            began = monotonic()
            if await server.post([], **{"X-API-Key": key}) == 401:
                return accepted_at
            accepted_at = began


@asynccontextmanager
async def under_load(servers: list[ServerProcess]) -> AsyncIterator[None]:
    """Keep processes busy with uploads until the block ends; it begins once each has stored some."""
    stored = [asyncio.Event() for _ in servers]
    loaders = [
        asyncio.create_task(load(server, number, event))
        for server, event in zip(servers, stored, strict=True)
        for number in range(LOADERS)
    ]
    try:
        async with asyncio.timeout(30):
            for event in stored:
                await event.wait()
        yield
    finally:
        for loader in loaders:
            loader.cancel()
        await asyncio.gather(*loaders, return_exceptions=True)


async def load(server: ServerProcess, number: int, stored: asyncio.Event) -> None:
    """Upload batch after batch of readings without times, which are always new."""
    batch = [{"sensor": f"s{number}-{each % 50}", "values": {"t": each}} for each in range(VALUES)]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", headers=server.http.headers) as http:
        while True:
            async with http.post("/api/v1/readings", json=batch) as response:
                assert response.status == 200
                await response.read()
            stored.set()
