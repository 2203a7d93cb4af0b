"""Direct writes to WebSocket clients, without ASGI: each frame is made once for all clients, several go in one write.

Through ASGI, each message passes six layers and is framed again for each client. That took twice as long as the kernel
takes to send it. The server must use WireProtocol, and connections must not be compressed.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, Self, cast

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode
from websockets.http11 import Request

from app.http.connections import OpenConnections

#: Limits of a client before it has signed in: bytes of one message, and number of frames, pings included.
STRANGER_MESSAGE_BYTES: Final = 4 * 2**10
STRANGER_FRAMES: Final = 20
#: Limits of the frames of a client within FRAMES_PERIOD_S, pings included, and of the frames of one message.
FRAMES_LIMIT: Final = 500
FRAMES_PERIOD_S: Final = 10.0
#: Bytes that are parsed before the limits are checked: at most 700 frames.
_PIECE_BYTES = 4 * 2**10
_EXTENSION = "tidegauge.wire"
_REFUSED_HANDSHAKE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
#: A final frame with a text.
_FINAL_TEXT = b"\x81"


def frame_text(text: bytes) -> bytes:
    """Return a WebSocket frame (RFC 6455, 5.2) with a whole text message of the server."""
    size = len(text)
    if size < 126:
        return _FINAL_TEXT + bytes([size]) + text
    if size < 2**16:
        return _FINAL_TEXT + b"\x7e" + size.to_bytes(2, "big") + text
    return _FINAL_TEXT + b"\x7f" + size.to_bytes(8, "big") + text


class WireProtocol(WebSocketsSansIOProtocol):
    """The WebSocket protocol of uvicorn with a ClientWire as an extension of ASGI, and with limits for clients."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        open_connections: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._open_connections = open_connections
        self._message_limit = self.conn.max_message_size
        self._is_signed_in = False
        self._frames = 0
        self._counted_since = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, as uvicorn does."""
        self._open_connections.remove(self.transport)
        super().connection_lost(exc)

    def sign_in(self) -> None:
        """Allow the client larger messages and more frames, and protect its connection when there are too many."""
        self._is_signed_in = True
        self._frames = 0
        self.conn.max_message_size = self._message_limit
        self._open_connections.prove(self.transport)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes in pieces, so that a client that floods the connection is closed early."""
        for start in range(0, len(data), _PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _PIECE_BYTES])
        if not self.handshake_initiated:
            # The HTTP protocol accepted the request, but a line of it is too long for this protocol.
            self.transport.write(_REFUSED_HANDSHAKE)
            self.transport.close()

    def handle_events(self) -> None:
        """Handle the frames of a piece, unless they are too many."""
        self._frames += len(self.conn.events)
        now = monotonic()
        if self._is_signed_in and now - self._counted_since > FRAMES_PERIOD_S:
            self._frames, self._counted_since = 0, now
        limit = FRAMES_LIMIT if self._is_signed_in else STRANGER_FRAMES
        if max(self._frames, len(self.frames)) <= limit:
            super().handle_events()
            return
        if self.close_sent:
            self.transport.abort()
            return
        self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames")
        self.handle_parser_exception()
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Start the application for a valid handshake."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.conn.max_message_size = STRANGER_MESSAGE_BYTES
            # The application has not started yet: its task runs first in the next iteration of the loop.
            cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = ClientWire(self)


class ClientWire:
    """Writes frames to one client without waiting. At most about 128 KiB wait here; the caller keeps the rest."""

    def __init__(self, protocol: WireProtocol) -> None:
        self._protocol = protocol

    @classmethod
    def of(cls, socket: WebSocket[Any, Any, Any]) -> Self:
        """Return the wire of an accepted connection."""
        return cast("Self", cast("dict[str, Any]", socket.scope["extensions"])[_EXTENSION])

    def sign_in(self) -> None:
        """Set the limits of a client that has signed in."""
        self._protocol.sign_in()

    @property
    def is_writable(self) -> bool:
        """Whether the client is connected and has taken most of the bytes written before."""
        protocol = self._protocol
        return protocol.writable.is_set() and not self._has_ended

    def write(self, frames: Sequence[bytes]) -> None:
        """Write whole frames, in one system call if the kernel takes them. Call this only while `is_writable`."""
        self._protocol.transport.writelines(frames)

    async def drained(self) -> None:
        """Wait until the client has taken most of the written bytes; raise WebSocketDisconnect when it has gone."""
        await self._protocol.writable.wait()
        if self._has_ended:
            raise WebSocketDisconnect(detail="the connection has ended")

    @property
    def _has_ended(self) -> bool:
        protocol = self._protocol
        return protocol.disconnected or protocol.close_sent or protocol.transport.is_closing()
