"""The way to a WebSocket client past ASGI: frames that were framed once for all clients, several in one write.

Through ASGI each message passes six layers and is framed anew for each client; that took twice as long as the kernel
takes to send it. The server must run with WireProtocol, and the connections without compression.
"""

from collections.abc import Sequence
from typing import Any, Self, cast

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_EXTENSION = "tidegauge.wire"
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
    """uvicorn's protocol, which gives the application the connection's Wire as an extension of ASGI."""

    def handle_connect(self, event: Request) -> None:
        """Start the application for a valid handshake."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            # The application has not started yet: its task runs first in the next iteration of the loop.
            cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = Wire(self)


class Wire:
    """Writes frames to one client without waiting; at most about 128 KiB wait here, the rest is for the caller."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    @classmethod
    def of(cls, socket: WebSocket[Any, Any, Any]) -> Self:
        """Return the wire of an accepted connection."""
        return cast("Self", cast("dict[str, Any]", socket.scope["extensions"])[_EXTENSION])

    @property
    def is_writable(self) -> bool:
        """Whether the client is connected and has taken most of what was written before."""
        protocol = self._protocol
        return protocol.writable.is_set() and not self._has_ended

    def write(self, frames: Sequence[bytes]) -> None:
        """Write whole frames, in one system call where the kernel takes them; only while `is_writable`."""
        self._protocol.transport.writelines(frames)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written; raise WebSocketDisconnect when it has gone."""
        await self._protocol.writable.wait()
        if self._has_ended:
            raise WebSocketDisconnect(detail="the connection has ended")

    @property
    def _has_ended(self) -> bool:
        protocol = self._protocol
        return protocol.disconnected or protocol.close_sent or protocol.transport.is_closing()
