"""A way to a server that can be cut and mended: what a database that goes away looks like from here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Severable:
    """Passes connections on from a port of its own."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Severable"]:
        """Listen until the block ends; `url` is the server's, by way of here."""
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        credentials = self._address.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._address._replace(netloc=f"{credentials}@127.0.0.1:{port}"))
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through."""
        self._cut = False

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        onward_reader, onward = await asyncio.open_connection(self._address.hostname, self._address.port)
        both = {writer, onward}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
        self._writers -= both
        for end in both:
            end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
