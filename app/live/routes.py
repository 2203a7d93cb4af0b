"""The two feeds: ours, and that of the replaced sensor server."""

import asyncio
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect

from app.auth.connections import TooManyConnectionsError
from app.auth.guard import check_scope
from app.db.pool import Pool
from app.errors import ForbiddenError, UnauthorizedError
from app.live.hub import ClosedError
from app.live.legacy import LegacyRecords, last_record
from app.live.session import LiveFeed, cancel, close
from app.settings import Settings

AnySocket = WebSocket[Any, Any, Any]
#: What the replaced server closed with, whatever the cause.
_POLICY_VIOLATION = 1008


@websocket("/ws/live")
async def live(socket: AnySocket, feed: NamedDependency[LiveFeed], pool: NamedDependency[Pool]) -> None:
    """Serve snapshot, readings and alerts; see app/live/protocol.py for messages and close codes."""
    await feed.serve(socket, pool)


@websocket("/ws/sensor_updates")
async def sensor_updates(
    socket: AnySocket, feed: NamedDependency[LiveFeed], pool: NamedDependency[Pool], settings: NamedDependency[Settings]
) -> None:
    """Send the last record, then each new one, as the replaced sensor server did."""
    await socket.accept()
    try:
        api_key = await feed.ring.authenticate(socket.query_params.get("api-key"))
        check_scope(api_key, "live")
        with feed.connections.hold(api_key), feed.metrics.websocket_clients.labels(socket.url.path).track_inprogress():
            await _send_records(socket, feed, pool, ZoneInfo(settings.legacy_timezone))
    except (UnauthorizedError, ForbiddenError):
        await close(socket, _POLICY_VIOLATION, "Invalid or missing API Key.")
    except TooManyConnectionsError as error:
        await close(socket, _POLICY_VIOLATION, str(error))
    except ClosedError as end:
        await close(socket, end.code, end.reason)
    except WebSocketDisconnect:
        pass


async def _send_records(socket: AnySocket, feed: LiveFeed, pool: Pool, timezone: ZoneInfo) -> None:
    """Send until the client goes, or has to."""
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    records = LegacyRecords(timezone, partial(_fail, closed), feed.metrics)
    feed.hub.add(records)
    tasks = [asyncio.create_task(_stream(socket, records, pool, timezone)), asyncio.create_task(_ignore(socket))]
    try:
        done, _ = await asyncio.wait([*tasks, closed], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        feed.hub.remove(records)
        for task in tasks:
            await cancel(task)
        closed.cancel()


def _fail(closed: "asyncio.Future[None]", end: ClosedError) -> None:
    if not closed.done():
        closed.set_exception(end)


async def _stream(socket: AnySocket, records: LegacyRecords, pool: Pool, timezone: ZoneInfo) -> None:
    send = partial(socket.send_data, mode="text")
    if (last := await last_record(pool, timezone)) is not None:
        await send(last)
    while True:
        await records.send_next(send)


async def _ignore(socket: AnySocket) -> None:
    """Read what the client sends, to no effect, until it goes."""
    while socket.connection_state != "disconnect":
        await socket.receive()
    raise WebSocketDisconnect(detail="the client went")


handlers = [live, sensor_updates]
