"""Follows the feed: NOTIFY says when to look, the `feed` table says what there is.

A lost notification costs latency, never data: the table is read past the last seq anyway, at least every POLL_S.
"""

import asyncio
import random
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import structlog

from app.db.pool import Connection, Pool, connect
from app.db.queries import load_queries
from app.live.frames import Frame
from app.live.hub import Hub
from app.live.protocol import Cursor
from app.metrics import Metrics

CHANNEL = "tidegauge"
POLL_S = 1.5
HEARTBEAT_S = 10.0
TIMEOUT_S = 5.0
PAGE_ROWS = 200
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)

SQL = load_queries(Path(__file__).with_name("queries.sql"))
log = structlog.get_logger()


class Listener:
    """One connection of its own that listens, drains and feeds the hub; it comes back by itself."""

    def __init__(self, dsn: str, hub: Hub, metrics: Metrics) -> None:
        self._dsn = dsn
        self._hub = hub
        self._metrics = metrics
        self._notified = asyncio.Event()
        self._last_alive = float("-inf")
        #: Set once the feed has been read for the first time.
        self.started = asyncio.Event()

    @property
    def is_healthy(self) -> bool:
        """Whether the feed was read within the last heartbeat."""
        return monotonic() - self._last_alive < HEARTBEAT_S + TIMEOUT_S

    async def run(self) -> None:
        """Listen for ever; a connection that fails or falls silent is replaced."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    connection = await self._open()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.5)  # noqa: S311
                failures += 1
                log.warning("listener_not_connected", error=repr(error), retry_in_s=round(pause_s, 2))
                await asyncio.sleep(pause_s)
                continue
            failures = 0
            try:
                await self._follow(connection)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("listener_lost", error=repr(error))
                self._metrics.listener_reconnects.inc()
            finally:
                connection.terminate()

    async def _open(self) -> Connection:
        """Connect and LISTEN before anything is read, so that nothing falls between."""
        connection = await connect(self._dsn, application_name="tidegauge listener")
        _keep_alive(connection)
        await connection.add_listener(CHANNEL, self._on_notify)
        connection.add_termination_listener(self._on_end)
        row = await connection.fetchrow(SQL["get_feed_head"])
        assert row is not None  # noqa: S101 -- the migration inserts the row
        self._hub.begin(row["epoch"], row["head"])
        return connection

    async def _follow(self, connection: Connection) -> None:
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                await self._drain(connection)
            self._last_alive = monotonic()
            self.started.set()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._notified.wait()
            except TimeoutError:
                continue

    async def _drain(self, connection: Connection) -> None:
        """Publish all rows past the head; this query is the heartbeat, too."""
        while True:
            self._notified.clear()
            frames = await read_frames(connection, self._hub.cursor, None)
            if not frames:
                return
            self._hub.publish(frames)
            if (at := frames[-1].at) is not None:
                self._metrics.feed_lag_seconds.set((datetime.now(UTC) - at).total_seconds())

    def _on_notify(self, *_: object) -> None:
        self._notified.set()

    def _on_end(self, *_: object) -> None:
        self._notified.set()


async def read_frames(connection: Connection | Pool, after: Cursor, until: int | None) -> Sequence[Frame]:
    """Read the next page of frames after a cursor, up to and including `until`."""
    rows = await connection.fetch(SQL["list_feed"], after.seq, 2**62 if until is None else until, PAGE_ROWS)
    return [Frame(Cursor(after.epoch, row["seq"]), row["kind"], row["payload"], row["at"]) for row in rows]


def _keep_alive(connection: Any) -> None:
    """Let the kernel find a peer that vanished without a word; asyncpg has no public way to its socket."""
    peer = connection._transport.get_extra_info("socket")
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
