"""The limit of the live feed: a server that does nothing but write one prepared frame to all its clients."""

import asyncio
import base64
import hashlib
import time
from typing import cast

import uvloop

_END = b"\r\n\r\n"
_ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: As long as a frame of the live feed with one reading.
_MESSAGE = (
    '{{"type":"readings","cursor":"20c86ddfa4e8.{number}","readings":[{{"sensor":"bench","time":'
    '"2026-01-31T08:01:00.000000Z","values":{{"sent":{sent}}}}}]}}'
)


def broadcast(port: int, clients: int, per_second: int, seconds: float) -> None:
    """Serve until ended: wait for all clients, then send them frames at a rate for a number of seconds."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        subscribed: list[asyncio.Transport] = []
        complete = asyncio.Event()
        server = await loop.create_server(lambda: _ClientProtocol(subscribed, complete, clients), "127.0.0.1", port)
        await complete.wait()
        started = loop.time()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(started + number / per_second - loop.time())
            frame = _frame(_MESSAGE.format(number=number, sent=time.monotonic_ns() // 1_000))
            for transport in subscribed:
                transport.write(frame)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _frame(text: str) -> bytes:
    data = text.encode()
    assert 126 <= len(data) < 2**16
    return b"\x81\x7e" + len(data).to_bytes(2, "big") + data


class _ClientProtocol(asyncio.Protocol):
    """Accepts a WebSocket, answers the subscription with an empty snapshot, and counts the client as subscribed."""

    def __init__(self, subscribed: list[asyncio.Transport], complete: asyncio.Event, clients: int) -> None:
        self._subscribed = subscribed
        self._complete = complete
        self._clients = clients
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the same methods but is no subclass.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._head.endswith(_END):
            self._transport.write(_frame('{"type":"snapshot"' + " " * 200 + "}"))
            self._subscribed.append(self._transport)
            if len(self._subscribed) == self._clients:
                self._complete.set()
            return
        self._head += data
        if self._head.endswith(_END):
            _before, _name, after = self._head.partition(b"Sec-WebSocket-Key: ")
            accept = base64.b64encode(hashlib.sha1(after.partition(b"\r\n")[0] + _GUID).digest())  # noqa: S324
            self._transport.write(_ACCEPT + accept + _END)
