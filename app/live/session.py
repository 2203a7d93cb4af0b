"""One connection to /ws/live: authentication, subscriptions and the frames sent."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import structlog
from asyncpg import Record
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from app.auth.connections import ConnectionCounts, TooManyConnectionsError
from app.auth.guard import admit, key_from_headers
from app.auth.key_ring import KeyRing
from app.auth.keys import ApiKey
from app.clock import now, rfc3339, to_us
from app.db.pool import DATABASE_ERRORS, Pool
from app.errors import ForbiddenError, UnauthorizedError
from app.live.frames import Frame
from app.live.hub import Hub
from app.live.inbox import Inbox
from app.live.listener import read_frames
from app.live.protocol import (
    RESYNC,
    Auth,
    CloseCode,
    Cursor,
    Filter,
    Snapshot,
    Subscribe,
    heartbeat_message,
    snapshot_message,
)
from app.live.queues.readings import AllFrames, LatestValues, SeriesName
from app.live.queues.waiting import ClosedError
from app.live.sql import SQL
from app.live.wire import ClientWire, frame_text
from app.metrics import Metrics
from app.problems import is_database_away

#: How long a client may take to send its key.
AUTH_TIMEOUT_S = 10.0
#: How long a close may take; a slow client must first read the messages that were sent before.
CLOSE_TIMEOUT_S = 10.0
#: Between two heartbeats. A client that received nothing for two of these has a broken connection.
HEARTBEAT_S = 10.0
#: Between two reads of states, tags and gateways, while a client asked for them.
READ_SENSORS_S = 5.0
AnySocket = WebSocket[Any, Any, Any]
log = structlog.get_logger()


class LiveFeed:
    """The objects that all sessions share: the hub, the API keys, the counts of connections, and metrics."""

    def __init__(self, hub: Hub, ring: KeyRing, connections: ConnectionCounts, metrics: Metrics) -> None:
        self.hub = hub
        self.ring = ring
        self.connections = connections
        self.metrics = metrics

    async def send_heartbeats(self) -> None:
        """Send a heartbeat to every client of /ws/live, every HEARTBEAT_S, whether the database answers or not."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.hub.send_heartbeat(heartbeat_message(now()))

    async def follow_sensors(self, pool: Pool) -> None:
        """Keep up with changes that no reading brings: states, tags and gateways, every READ_SENSORS_S."""
        while True:
            await asyncio.sleep(READ_SENSORS_S)
            try:
                await self._read_sensors(pool)
            except DATABASE_ERRORS as error:
                log.warning("states_not_read", error=repr(error))

    async def _read_sensors(self, pool: Pool) -> None:
        await self.hub.labels.read(pool)
        if self.hub.wants_states:
            rows = await pool.fetch(SQL["list_states"])
            self.hub.update_states({row["name"]: (row["state"], row["level"]) for row in rows})

    async def serve(self, socket: AnySocket, pool: Pool) -> None:
        """Serve one connection until its end."""
        await socket.accept()
        try:
            inbox = Inbox(socket)
            api_key = await self._authenticate(socket, inbox)
            ClientWire.of(socket).sign_in()
            async with self.connections.hold(api_key):
                with self.metrics.websocket_clients.labels("/ws/live").track_inprogress():
                    session = _Session(self, socket, inbox, pool)
                    with self.ring.watched(api_key, session.end_revoked):
                        await session.run()
        except ClosedError as end:
            await close(socket, end.code, end.reason)
        except TooManyConnectionsError as error:
            await close(socket, CloseCode.TOO_MANY_CONNECTIONS, str(error))
        except WebSocketDisconnect:
            pass
        except Exception as error:  # noqa: BLE001 -- the connection ends here
            await close_failed(socket, error)

    async def _authenticate(self, socket: AnySocket, inbox: Inbox) -> ApiKey:
        """Return the API key from the headers or the first message; raise ClosedError when it is not accepted."""
        try:
            key = key_from_headers(socket.headers) or await self._first_message(inbox)
            api_key = await admit(self.ring, socket.scope, key, "live")
        except UnauthorizedError as error:
            raise ClosedError(CloseCode.UNAUTHORIZED, str(error)) from None
        except ForbiddenError as error:
            raise ClosedError(CloseCode.FORBIDDEN, str(error)) from None
        return api_key

    async def _first_message(self, inbox: Inbox) -> str:
        try:
            async with asyncio.timeout(AUTH_TIMEOUT_S):
                message = await inbox.receive()
        except TimeoutError:
            raise UnauthorizedError(f"no key within {AUTH_TIMEOUT_S:.0f} s") from None
        if not isinstance(message, Auth):
            raise UnauthorizedError('first send {"type":"auth","key":…}')
        return message.key


class _Session:
    """An authenticated connection: reads the client's messages and runs a task that sends frames."""

    def __init__(self, feed: LiveFeed, socket: AnySocket, inbox: Inbox, pool: Pool) -> None:
        self._feed = feed
        self._inbox = inbox
        self._wire = ClientWire.of(socket)
        self._pool = pool
        self._closed: asyncio.Future[ClosedError] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the newest subscription until the client disconnects; raise ClosedError when the server must end it."""
        sending: asyncio.Task[None] | None = None
        receiving = asyncio.create_task(self._inbox.receive())
        try:
            while True:
                waits = {task for task in (receiving, sending, self._closed) if task is not None}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if self._closed.done():
                    raise self._closed.result()
                if sending is not None and sending.done():
                    sending.result()
                if receiving.done():
                    message = receiving.result()
                    if isinstance(message, Subscribe):
                        await cancel(sending)
                        sending = asyncio.create_task(self._stream(message), name="live_stream")
                    receiving = asyncio.create_task(self._inbox.receive())
        finally:
            await cancel(sending)
            await cancel(receiving)
            self._closed.cancel()

    def end_revoked(self) -> None:
        """Close the connection, because its key was revoked."""
        self._close(ClosedError(CloseCode.UNAUTHORIZED, "this API key was revoked"))

    def _close(self, end: ClosedError) -> None:
        if not self._closed.done():
            self._closed.set_result(end)

    async def _stream(self, subscription: Subscribe) -> None:
        """Send a snapshot or the frames that the client missed, then new frames."""
        make = AllFrames if subscription.mode == "all" else LatestValues
        asked = (subscription.sensors, subscription.metrics, subscription.tags, subscription.gateway)
        wanted = await asyncio.to_thread(Filter, *asked)  # hundreds of patterns take a while
        hub = self._feed.hub
        subscriber = make(
            wanted, subscription, hub.cursor, self._wire, hub.backlog, self._close, metrics=self._feed.metrics
        )
        try:
            await hub.labels.add(wanted, self._pool)
            await self._start(subscription.resume, wanted, subscriber)
            await self._catch_up(subscriber)
            await subscriber.flush_forever()
        finally:
            hub.remove(subscriber)
            hub.labels.remove(wanted)
            subscriber.discard()

    async def _start(self, resume: str | None, wanted: Filter, subscriber: AllFrames | LatestValues) -> None:
        """Resume at a cursor that the feed holds; otherwise send a snapshot, after a resync if a cursor was given."""
        if resume is not None:
            cursor = Cursor.parse(resume)
            if cursor is not None and await self._is_kept(cursor):
                subscriber.sent = cursor
                if isinstance(subscriber, LatestValues):
                    subscriber.begin(_times(await self._pool.fetch(SQL["list_latest"])))
                return
            await self._send(RESYNC)
        subscriber.sent = self._feed.hub.cursor
        snapshot = await self._load_snapshot()
        if isinstance(subscriber, LatestValues):
            subscriber.begin(_times(snapshot.latest))
        await self._send(snapshot_message(subscriber.sent, snapshot, wanted))

    async def _load_snapshot(self) -> Snapshot:
        """Read all parts of a snapshot as of one moment."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            return Snapshot(
                await connection.fetch(SQL["list_latest"]),
                await connection.fetch(SQL["list_open_alerts"]),
                await connection.fetch(SQL["list_sensor_facts"]),
                [row["message"] for row in await connection.fetch(SQL["list_rule_problems"])],
            )

    async def _is_kept(self, cursor: Cursor) -> bool:
        """Return whether the feed still holds all rows after a cursor.

        The answer comes from the database, because the client may come from a process whose hub is ahead of this one.
        """
        row = await self._pool.fetchrow(SQL["get_feed_head"])
        assert row is not None  # noqa: S101 -- the migration inserts the row
        in_epoch = cursor.epoch == row["epoch"] == self._feed.hub.epoch
        in_range: bool = row["pruned_to"] <= cursor.seq <= row["head"]
        return in_epoch and in_range

    async def _catch_up(self, subscriber: AllFrames | LatestValues) -> None:
        """Send the feed up to the head, page by page as fast as the client reads, then subscribe to the hub there."""
        hub = self._feed.hub
        position = subscriber.sent
        while position.seq < hub.head:
            head = hub.head
            frames = deque(await read_frames(self._pool, position, head))
            if not await self._is_kept(position):
                subscriber.drop()  # the client read so slowly that rows after its position were pruned
                return
            position = frames[-1].cursor if frames else Cursor(position.epoch, head)
            while frames:
                await self._send_missed(frames.popleft(), subscriber)
        if position.epoch != hub.epoch:
            subscriber.drop()  # the feed started over meanwhile
            return
        subscriber.sent = position
        hub.add(subscriber)

    async def _send_missed(self, frame: Frame, subscriber: AllFrames | LatestValues) -> None:
        """Send a frame of a page. While a slow client reads it, only the message is kept, not the decoded frame."""
        await self._feed.hub.labels.read_if_unknown(self._pool, [frame])
        subscriber.offer(frame)
        del frame
        await subscriber.drain()

    async def _send(self, text: bytes) -> None:
        await self._wire.drained()
        self._wire.write([frame_text(text)])
        self._feed.metrics.frames_sent.inc()


async def close(socket: AnySocket, code: int, reason: str) -> None:
    """Close the connection, even if the client does not read, within CLOSE_TIMEOUT_S; cut the reason to 123 bytes."""
    with suppress(WebSocketDisconnect, OSError, TimeoutError, RuntimeError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await socket.close(code=code, reason=reason.encode()[:123].decode(errors="ignore"))


async def close_failed(socket: AnySocket, error: Exception) -> None:
    """Close a connection after an unexpected error, with a code after which the client should reconnect."""
    if is_database_away(error):
        await close(socket, CloseCode.TRY_AGAIN_LATER, "the database is away")
    else:
        log.error("live_session_failed", path=socket.url.path, exc_info=error)
        await close(socket, CloseCode.INTERNAL_ERROR, "something went wrong; the server's log has the cause")


async def cancel(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _times(rows: Iterable[Record]) -> Iterator[tuple[SeriesName, str]]:
    """Yield the newest time of each series, in the format of frames."""
    for row in rows:
        yield (row["name"], row["metric"]), rfc3339(to_us(row["last_time"]))
