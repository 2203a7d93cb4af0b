"""A door before the server: shut, and to its clients the server is gone without a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Door:
    """Passes TCP connections on to a server, or cuts them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_open = True
        self._passing: set[asyncio.StreamWriter] = set()

    def shut(self) -> None:
        """Cut all connections, and every new one at once."""
        self._is_open = False
        for writer in self._passing:
            writer.transport.abort()

    def open(self) -> None:
        """Let clients in again."""
        self._is_open = True

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, both ways, until either side ends it."""
        if not self._is_open:
            writer.transport.abort()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends = {writer, inner_writer}
        self._passing |= ends
        try:
            await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))
        finally:
            self._passing -= ends


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def door_before(address: str) -> AsyncIterator[tuple[Door, str]]:
    """Stand before the server at `address`; give the door and the address to come in by."""
    port = urlsplit(address).port
    assert port is not None
    door = Door(port)
    listening = await asyncio.start_server(door.welcome, "127.0.0.1", 0)
    try:
        yield door, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        door.shut()
