"""The WebSocket routes: the live feed, and the feed of the replaced sensor server."""

import asyncio
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect

from app.auth.connections import TooManyConnectionsError
from app.auth.guard import admit
from app.auth.keys import ApiKey
from app.db.pool import Pool
from app.errors import ForbiddenError, UnauthorizedError
from app.live.hub import Hub
from app.live.queues.legacy import LegacyRecords
from app.live.queues.waiting import ClosedError
from app.live.session import LiveFeed, cancel, close, close_failed
from app.live.wire import ClientWire
from app.settings import Settings

AnySocket = WebSocket[Any, Any, Any]
#: The close code of the replaced server, whatever the cause.
_POLICY_VIOLATION = 1008
_LEGACY_PATH = "/ws/sensor_updates"


@websocket("/ws/live")
async def live(socket: AnySocket, feed: NamedDependency[LiveFeed], feed_pool: NamedDependency[Pool]) -> None:
    """Serve snapshot, readings and alerts; see app/live/protocol.py for messages and close codes."""
    await feed.serve(socket, feed_pool)


@websocket(_LEGACY_PATH)
async def sensor_updates(
    socket: AnySocket,
    feed: NamedDependency[LiveFeed],
    feed_pool: NamedDependency[Pool],
    settings: NamedDependency[Settings],
) -> None:
    """Send the last record, then each new record, as the replaced sensor server did."""
    await socket.accept()
    try:
        api_key = await admit(feed.ring, socket.scope, socket.query_params.get("api-key"), "live")
        ClientWire.of(socket).sign_in()
        async with feed.connections.hold(api_key):
            with feed.metrics.websocket_clients.labels(_LEGACY_PATH).track_inprogress():
                await _send_records(socket, feed, feed_pool, ZoneInfo(settings.legacy_timezone), api_key)
    except (UnauthorizedError, ForbiddenError):
        await close(socket, _POLICY_VIOLATION, "Invalid or missing API Key.")
    except TooManyConnectionsError as error:
        await close(socket, _POLICY_VIOLATION, str(error))
    except ClosedError as end:
        await close(socket, end.code, end.reason)
    except WebSocketDisconnect:
        pass
    except Exception as error:  # noqa: BLE001 -- the connection ends here
        await close_failed(socket, error)


async def _send_records(socket: AnySocket, feed: LiveFeed, pool: Pool, timezone: ZoneInfo, api_key: ApiKey) -> None:
    """Send records until the client disconnects; raise ClosedError or UnauthorizedError when the server must end it."""
    closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    records = LegacyRecords(timezone, ClientWire.of(socket), feed.hub.backlog, partial(_fail, closed), feed.metrics)
    tasks = [asyncio.create_task(_stream(feed.hub, records, pool)), asyncio.create_task(_ignore(socket))]
    waits: set[asyncio.Future[Any]] = {closed, *tasks}
    revoked = UnauthorizedError("this API key was revoked")
    try:
        with feed.ring.watched(api_key, partial(_fail, closed, revoked)):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            raise closed.result()
        for task in tasks:
            if task.done():
                task.result()
    finally:
        feed.hub.remove(records)
        records.discard()
        for task in tasks:
            await cancel(task)
        closed.cancel()


def _fail(closed: "asyncio.Future[Exception]", end: Exception) -> None:
    if not closed.done():
        closed.set_result(end)


async def _stream(hub: Hub, records: LegacyRecords, pool: Pool) -> None:
    hub.add(records)  # first, so that no record is missed between the last stored one and the first new one
    await records.begin(pool)
    await records.flush_forever()


async def _ignore(socket: AnySocket) -> None:
    """Read and ignore the client's messages until the client disconnects."""
    while socket.connection_state != "disconnect":
        await socket.receive()
    raise WebSocketDisconnect(detail="the client disconnected")


handlers = [live, sensor_updates]
