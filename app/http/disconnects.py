"""Cancellation of reads, and of their queries, when the client has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_READS = ("GET", "HEAD")


class CancelReads:
    """Passes connections to the application; cancels a GET whose client disconnects before the answer is complete.

    asyncpg ends the query of a cancelled task. Other methods are never cancelled, because they change data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP or scope["method"] not in _READS:
            await self._app(scope, receive, send)
            return
        reading = _Reading(receive, send)
        watching = asyncio.create_task(reading.watch(), name="disconnect_watched")
        try:
            await self._app(scope, reading.receive, reading.send)
        except asyncio.CancelledError:
            if not reading.has_left or reading.task.uncancel():
                raise  # the server stops
        finally:
            watching.cancel()


class _Reading:
    """One request without a body, the task that answers it, and whether its client has left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- ASGI applications run in tasks
        self.task: asyncio.Task[Any] = task
        self.has_left = False
        self._receive: Callable[[], Awaitable[Any]] = receive
        self._send = send
        self._is_answered = False
        self._has_body = False
        self._ended = asyncio.Event()

    async def watch(self) -> None:
        """Cancel the task when the client disconnects before the answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._ended.set()
        # A task that is being cancelled is cleaning up, and must not be interrupted again.
        if not self._is_answered and not self.task.cancelling():
            self.has_left = True
            self.task.cancel()

    async def receive(self) -> Any:
        """Return an empty body at once; a second call waits for the disconnect."""
        if not self._has_body:
            self._has_body = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_answered = True
        await self._send(message)
