"""The HTTP protocol of uvicorn, with limits for incomplete requests, and with joined writes.

uvicorn writes the head and the body of an answer separately. Two system calls and two packets take a tenth of the time
of a small upload, and the client wakes up twice. So everything written in one turn of the event loop is sent together.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.http.connections import OpenConnections
from app.problems import MEDIA_TYPE, Problem

#: Longest time from the connection, or from the first byte after the request before, to the end of a request's head.
HEAD_WITHIN_S: Final = 10.0
#: Limits of a request's head: bytes of its address and headers, and number of headers.
HEAD_LIMIT: Final = 32 * 2**10
HEADERS_LIMIT: Final = 100
#: Time for which a refused client may continue to send. If the connection were closed at once, the kernel would reset
#: it, and the client might never read the answer.
_LINGER_S = 2.0
#: Waiting bytes are written at once when they reach this number, so that a long answer still notices a slow client.
_WAITING_BYTES = 2**16


class _HeadRefusedError(Exception):
    """The head of a request exceeds a limit; raised in a callback of the parser, to stop it."""


class JoiningHttpProtocol(HttpToolsProtocol):
    """A connection that writes through a JoiningTransport; after an upgrade to WebSocket, directly."""

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
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._is_head = False
        self._is_refused = False

    @property
    def _connection(self) -> asyncio.Transport:
        return cast("JoiningTransport", self.transport).transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, then start as uvicorn does."""
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))
        self._open_connections.add(transport)
        self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._end_late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, as uvicorn does."""
        self._open_connections.remove(self._connection)
        self._meet_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. While no request is under way, they belong to the head of one, which has a deadline."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        began_before = self._in_head
        try:
            self.parser.feed_data(data)
            if began_before and self._in_head:
                # on_header counts only complete names and values.
                self._count(len(data))
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except (httptools.HttpParserError, _HeadRefusedError):
            self._refuse_head()
        else:
            if self._deadline is None and self._has_no_request:
                self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._end_late_head)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._is_head = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._is_head = self.parser.get_method() == b"HEAD"  # until now, it is that of the request before
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Answer the request."""
        self._in_head = False
        self._meet_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the client has sent a complete request; one that becomes a WebSocket must sign in first."""
        if not self.parser.should_upgrade():
            self._open_connections.prove(self._connection)
            if self._has_no_request:  # it was answered before its end
                self._open_connections.rest(self._connection)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._has_no_request:
            self._open_connections.rest(self._connection)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the protocol of WebSockets."""
        self.transport = self._connection
        super().handle_websocket_upgrade()

    @property
    def _has_no_request(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _count(self, byte_count: int) -> None:
        self._head_bytes += byte_count
        if self._head_bytes > HEAD_LIMIT or len(self.headers) >= HEADERS_LIMIT:
            raise _HeadRefusedError

    def _meet_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_late_head(self) -> None:
        self._deadline = None
        if self._in_head:
            text = f"The address and the headers of a request must arrive within {HEAD_WITHIN_S:.0f} s."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, text)
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        if self._head_bytes > HEAD_LIMIT or len(self.headers or ()) >= HEADERS_LIMIT:
            text = (
                f"The address and the headers of a request may have {HEAD_LIMIT // 2**10} KiB together, and there may "
                f"be {HEADERS_LIMIT} headers."
            )
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is not a request of HTTP/1.1.")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer and close the connection, after an answer to an earlier request that is under way."""
        self._is_refused = True
        self._meet_deadline()
        if self._has_no_request:
            self.transport.write(_refusal(status, text, has_body=not self._is_head))
            self.loop.call_later(_LINGER_S, self.transport.close)
        elif self.cycle.more_body:
            self.transport.close()
        else:
            self.cycle.keep_alive = False


def _refusal(status: HTTPStatus, text: str, *, has_body: bool) -> bytes:
    problem = Problem(f"/problems/{status.name.lower()}", status.phrase, status, text)
    body = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")


class JoiningTransport:
    """A transport that collects bytes until the next turn of the event loop, then writes them in one piece."""

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
