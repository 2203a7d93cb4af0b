"""The messages from one client of /ws/live. Pings and bad messages are answered here, others go to the session."""

from collections import deque
from time import monotonic
from typing import Any

from litestar import WebSocket

from app.errors import InvalidRequestError
from app.live.protocol import (
    BAD_MESSAGES_LIMIT,
    PONG,
    Auth,
    CloseCode,
    Ping,
    Subscribe,
    error_message,
    parse_message,
)
from app.live.queues.waiting import ClosedError
from app.live.wire import ClientWire, frame_text

_WITHIN_S = 60.0


class Inbox:
    """Receives messages. A ping gets a pong, and a bad message gets an error with the reason."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        self._wire = ClientWire.of(socket)
        #: When the last bad messages came.
        self._bad_at: deque[float] = deque(maxlen=BAD_MESSAGES_LIMIT)

    async def receive(self) -> Auth | Subscribe:
        """Wait for the client's next message; raise WebSocketDisconnect, or ClosedError after too many bad ones."""
        while True:
            try:
                message = parse_message(await self._socket.receive_data(mode="text"))
            except InvalidRequestError as error:
                await self._answer(error_message(str(error)))
                self._count_bad()
                continue
            if not isinstance(message, Ping):
                return message
            await self._answer(PONG)

    async def _answer(self, text: bytes) -> None:
        await self._wire.drained()
        self._wire.write([frame_text(text)])

    def _count_bad(self) -> None:
        self._bad_at.append(monotonic())
        if len(self._bad_at) == BAD_MESSAGES_LIMIT and self._bad_at[-1] - self._bad_at[0] < _WITHIN_S:
            raise ClosedError(CloseCode.BAD_MESSAGE, f"{BAD_MESSAGES_LIMIT} messages could not be understood")
