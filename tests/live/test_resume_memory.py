"""The memory of the server while many slow clients resume at a time, measured at a real process."""

import asyncio
import json
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from websockets.asyncio.client import connect

from tests.conftest import API_KEY_WS, Database
from tests.processes import ServerProcess, running

CLIENTS = 20
ROWS = 60
INSERT = "INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)"


async def test_memory_stays_bounded_when_slow_clients_resume_a_feed_of_many_megabytes(
    tmp_path: Path, database: Database
) -> None:
    for number in range(ROWS):
        await database.pool.execute(INSERT, _large_payload(number))
    total: int = await database.pool.fetchval("SELECT sum(octet_length(payload)) FROM feed")
    first: int = await database.pool.fetchval("SELECT min(seq) FROM feed")
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn) as server, AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(_connected(server))
        await watcher.send('{"type":"subscribe","sensors":["none"]}')
        epoch = json.loads(await watcher.recv())["cursor"].rpartition(".")[0]
        before = _peak_bytes(server)
        clients = [await stack.enter_async_context(_connected(server)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            # Each has a filter of its own, so that each row is decoded for each of them.
            await client.send(
                json.dumps({"type": "subscribe", "sensors": [f"s{number}*"], "resume": f"{epoch}.{first}"})
            )
        await asyncio.gather(*(client.recv() for client in clients))
        assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        # A page of 200 rows for each would be all of the feed for each.
        assert CLIENTS * total > 500 * 2**20
        assert _peak_bytes(server) - before < 150 * 2**20
        for client in clients:
            client.transport.abort()


def _connected(server: ServerProcess) -> connect:
    """Connect a client that takes a message only when the test asks for it."""
    small = socket.create_connection(("127.0.0.1", server.port))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    return connect(
        f"ws://127.0.0.1:{server.port}/ws/live",
        sock=small,
        additional_headers={"X-API-Key": API_KEY_WS},
        max_size=None,
        max_queue=1,
        ping_interval=None,
    )


def _large_payload(number: int) -> bytes:
    readings = [
        {"sensor": f"s{sensor % CLIENTS}", "time": "2026-11-28T08:00:00Z", "values": {os.urandom(8).hex(): number}}
        for sensor in range(6_000)
    ]
    return msgspec.json.encode({"readings": readings})


def _peak_bytes(server: ServerProcess) -> int:
    (line,) = [
        line for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024
