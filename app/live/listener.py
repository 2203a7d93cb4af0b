"""The listener, which reads new rows of the table `feed` after each NOTIFY and publishes them to the hub.

A lost notification causes a delay but no loss of data: new rows are also read without one, at least every POLL_S.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from time import monotonic

import structlog

from app.clock import now
from app.db.pool import APP_ROLE, DATABASE_ERRORS, Connection, Pool, connect
from app.live.frames import Frame
from app.live.hub import Hub
from app.live.protocol import Cursor
from app.live.sql import SQL
from app.metrics import Metrics

CHANNEL = "tidegauge"
POLL_S = 1.5
HEARTBEAT_S = 10.0
TIMEOUT_S = 5.0
#: Limits of a page of the feed. It ends with the row that reaches either: one payload may have some megabytes, and a
#: hundred clients may resume at the same time.
PAGE_ROWS = 200
PAGE_BYTES = 2**19
PAUSE_LIMIT_S = 0.1
#: Pause after each look that found a new row, while no client follows the feed.
SKIP_PAUSE_S = 0.005
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger()


class Listener:
    """A dedicated connection that listens, reads new rows and publishes them to the hub; it reconnects by itself."""

    def __init__(self, dsn: str, hub: Hub, metrics: Metrics) -> None:
        self._dsn = dsn
        self._hub = hub
        self._metrics = metrics
        self._notified = asyncio.Event()
        self._last_alive = float("-inf")
        self._failures = 0
        #: Set once the feed has been read for the first time.
        self.started = asyncio.Event()

    @property
    def is_healthy(self) -> bool:
        """Return whether the feed was read within the last HEARTBEAT_S + TIMEOUT_S."""
        return monotonic() - self._last_alive < HEARTBEAT_S + TIMEOUT_S

    async def run(self) -> None:
        """Listen for ever; replace a connection that fails or does not answer."""
        while True:
            try:
                await self._listen()
            except DATABASE_ERRORS as error:
                pause_s = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)] * random.uniform(0.5, 1.5)  # noqa: S311
                self._failures += 1
                log.warning("listener_lost", error=repr(error), retry_in_s=round(pause_s, 2))
                await asyncio.sleep(pause_s)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, role=APP_ROLE, application_name="tidegauge listener")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._begin(connection)
            while True:
                await self._drain(connection)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._notified.wait()
        finally:
            connection.terminate()

    async def _begin(self, connection: Connection) -> None:
        """Start to LISTEN, then read the head of the feed; in this order no row can be missed."""
        await connection.add_listener(CHANNEL, self._wake)
        connection.add_termination_listener(self._wake)
        row = await connection.fetchrow(SQL["get_feed_head"])
        assert row is not None  # noqa: S101 -- the migration inserts the row
        self._hub.begin(row["epoch"], row["head"], row["pruned_to"])
        if self.started.is_set():
            self._metrics.listener_reconnects.inc()

    async def _drain(self, connection: Connection) -> None:
        """Publish all rows after the head, page by page, or skip them; a query that succeeds is a heartbeat, too."""
        is_full = True
        while is_full:
            self._notified.clear()
            is_full = not await self._skip(connection) and await self._publish_page(connection)
            self._failures = 0
            self._last_alive = monotonic()
        self.started.set()

    async def _skip(self, connection: Connection) -> bool:
        """Go on to the newest row without reading any payload; return False if a client follows the feed."""
        if self._hub.is_followed():
            return False
        async with asyncio.timeout(TIMEOUT_S):
            row = await connection.fetchrow(SQL["get_newest_feed_row"], self._hub.head)
        if self._hub.is_followed():  # since a moment ago
            return False
        if row is not None:
            self._hub.skip_to(row["seq"])
            self._note_lag(row["at"])
            await asyncio.sleep(SKIP_PAUSE_S)
        return True

    async def _publish_page(self, connection: Connection) -> bool:
        """Publish the next page; return whether there may be more."""
        async with asyncio.timeout(TIMEOUT_S):
            frames = await read_frames(connection, self._hub.cursor, None)
            await self._hub.labels.read_if_unknown(connection, frames)
        await self._publish(frames)
        return len(frames) == PAGE_ROWS or sum(frame.payload_bytes for frame in frames) >= PAGE_BYTES

    async def _publish(self, frames: Sequence[Frame]) -> None:
        """Publish frames, then pause for as long as that took, PAUSE_LIMIT_S at most.

        So the fan-out takes at most half of the time of the process. With many clients, rows that arrive during the
        pause are sent together. With 1,000 clients and 50 rows a second, this took two thirds of the CPU time.
        """
        started = monotonic()
        self._hub.publish(frames)
        if frames:
            self._note_lag(frames[-1].at)
        await asyncio.sleep(0)  # uvloop writes at the end of this iteration of the loop
        await asyncio.sleep(min(monotonic() - started, PAUSE_LIMIT_S))

    def _note_lag(self, at: datetime | None) -> None:
        if at is not None:
            self._metrics.feed_lag_seconds.set((now() - at).total_seconds())

    def _wake(self, *_: object) -> None:
        self._notified.set()


async def read_frames(connection: Connection | Pool, after: Cursor, until: int | None) -> Sequence[Frame]:
    """Read the next page of frames after a cursor, up to and including the seq `until` if given."""
    last = 2**62 if until is None else until
    rows = await connection.fetch(SQL["list_feed"], after.seq, last, PAGE_ROWS, PAGE_BYTES)
    return [Frame(Cursor(after.epoch, row["seq"]), row["kind"], row["payload"], row["at"]) for row in rows]
