"""The HTTP protocol of the server: uvicorn's, but what one turn of the event loop writes goes out together.

uvicorn writes the head and the body of an answer apart. Two calls of the system and two packets take a tenth of the
time of a small upload, and the client wakes up twice.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: What waits is written at once from this number of bytes on, so that a long answer still notices a slow client.
_WAITING_BYTES = 2**16


class JoiningHttpProtocol(HttpToolsProtocol):
    """A connection that writes through a JoiningTransport; after an upgrade to WebSocket, directly."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start, as uvicorn does."""
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the protocol of WebSockets."""
        self.transport = cast("JoiningTransport", self.transport).transport
        super().handle_websocket_upgrade()


class JoiningTransport:
    """A transport that keeps what is written until the event loop's next turn, then writes it in one piece."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _WAITING_BYTES:
            self._flush()

    def close(self) -> None:
        """Close the connection once everything is written."""
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self._waiting:
            self.transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0
