"""The live feed of two API processes on one database."""

import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect

from tests.conftest import API_KEY_WS, Database
from tests.live.clients import FeedClient
from tests.processes import ServerProcess, running

FULL = (4429, "Max connections (2) for this API Key reached.")


def serving(folder: Path, database: Database) -> AbstractAsyncContextManager[ServerProcess]:
    return running(folder, "serve", DATABASE_URL=database.dsn, MAX_WS_CONNECTIONS_PER_KEY="2")


@asynccontextmanager
async def live(process: ServerProcess) -> AsyncIterator[FeedClient]:
    headers = {"X-API-Key": API_KEY_WS}
    async with connect(f"ws://127.0.0.1:{process.port}/ws/live", additional_headers=headers) as connection:
        yield FeedClient(connection)


async def test_limit_of_connections_holds_for_two_processes_and_a_killed_one_gives_its_own_back(
    tmp_path: Path, database: Database
) -> None:
    async with serving(tmp_path / "1", database) as first, serving(tmp_path / "2", database) as second:
        async with live(first) as one, live(second) as other:
            await one.snapshot()
            await other.snapshot()
            for process in (first, second):
                async with live(process) as refused:
                    assert await refused.closed() == FULL
            await first.end(signal.SIGKILL)
            async with live(second) as refused:
                assert await refused.closed() == FULL
            # In place of 15 seconds.
            await database.pool.execute("UPDATE connection_count SET beat_at = beat_at - INTERVAL '15 seconds'")
            async with live(second) as taken:
                await taken.snapshot()
                async with live(second) as refused:
                    assert await refused.closed() == FULL
        assert await second.end(signal.SIGTERM) == 0
        assert second.complaints == []
