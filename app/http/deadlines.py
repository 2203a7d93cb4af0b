"""ASGI middleware that ends requests which take too long.

It answers 503 when an answer does not begin in time or the server stops, and 408 when a body does not come.
"""

import asyncio
from contextvars import copy_context
from time import monotonic
from typing import Final

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send

from app.errors import AppError, SlowBodyError, TooLateError
from app.problems import MEDIA_TYPE, describe

#: Longest time until the first byte of the answer to a request that only reads.
READ_WITHIN_S: Final = 9.0
#: The same for other requests, from the end of their body. Uploads are answered earlier, see app/ingest/writer.py.
CHANGE_WITHIN_S: Final = 29.0
#: How long the next piece of a body may take. A client that has vanished sends none, and its body takes room.
PIECE_WITHIN_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SLOW = "The server could not answer in time"
_STOPPING = "The server stops"
_TRY_AGAIN = "Ask again."
_LOOK_FIRST = (
    "The request may have been carried out. Readings with a time can be sent again safely; before you repeat anything "
    "else, look whether it was."
)
log = structlog.get_logger()


class Deadlines:
    """Follows the requests under way; `watch` must run beside them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests: set[_Request] = set()
        self._stop_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application until it is late."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send)
        self._requests.add(request)
        try:
            await self._app(scope, request.receive, request.send)
        except asyncio.CancelledError:
            if not request.is_late:
                raise
        finally:
            self._requests.discard(request)
            if request.answering is not None:
                await request.answering

    def stop_within(self, seconds: float) -> None:
        """Answer all requests that have no answer after this time with 503, because the server stops."""
        self._stop_at = monotonic() + seconds

    async def watch(self) -> None:
        """Answer requests that are late, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = monotonic()
            for request in [*self._requests]:
                if self._stop_at is not None and now > self._stop_at:
                    request.give_up(request.too_late(_STOPPING))
                elif now > request.until:
                    request.give_up(request.too_late(_SLOW) if request.is_complete else _no_body())


class _Request:
    """A request under way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._task = asyncio.current_task()
        self._context = copy_context()  # has the request's id
        self._receive = receive
        self._send = send
        self._is_reading = scope["method"] in _READING  # type: ignore[typeddict-item]
        self._path = scope["path"]
        self._has_begun = False
        self.is_late = False
        #: Whether the body has come; what only reads has none.
        self.is_complete = self._is_reading
        self.until = monotonic() + (READ_WITHIN_S if self._is_reading else PIECE_WITHIN_S)
        #: The answer in place of the application's.
        self.answering: asyncio.Task[None] | None = None

    async def receive(self) -> ReceiveMessage:
        """Receive for the application. The deadline of a request with a body counts from the end of that body."""
        message = await self._receive()
        if not self._is_reading and message["type"] == "http.request":
            self.is_complete = not message.get("more_body")
            self.until = monotonic() + (CHANGE_WITHIN_S if self.is_complete else PIECE_WITHIN_S)
        return message

    async def send(self, message: Message) -> None:
        """Send what the application answers, unless it is late."""
        if not self.is_late:
            self._has_begun = True
            await self._send(message)

    def too_late(self, reason: str) -> TooLateError:
        """Return the answer to a request that waits for the server."""
        return TooLateError(f"{reason}. {_TRY_AGAIN if self._is_reading else _LOOK_FIRST}")

    def give_up(self, error: AppError) -> None:
        """Answer at once and cancel the application, which may end later. Do nothing if its answer has begun."""
        if self._has_begun or self.is_late or self._task is None:
            return
        self.is_late = True
        log.warning("request_late", path=self._path, reason=str(error))
        self.answering = asyncio.create_task(self._answer(error), name="late answer", context=self._context)
        self._task.cancel()

    async def _answer(self, error: AppError) -> None:
        problem, headers = describe(error)
        raw = {**headers, "Content-Type": MEDIA_TYPE}
        body = msgspec.json.encode(problem)
        fields = [(name.lower().encode(), value.encode()) for name, value in raw.items()]
        length = (b"content-length", str(len(body)).encode())
        await self._send({"type": "http.response.start", "status": problem.status, "headers": [*fields, length]})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _no_body() -> SlowBodyError:
    return SlowBodyError(f"Nothing of the body came for {PIECE_WITHIN_S:.0f} s. Send it again.")
