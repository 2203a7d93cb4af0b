"""A gate between a server and its database, for taking the database away without touching it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Gate:
    """Passes TCP on while open; shut, it cuts and refuses connections; frozen, it keeps them and passes nothing."""

    def __init__(self, dsn: str) -> None:
        self._address = urlsplit(dsn)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def dsn(self) -> str:
        """The database as seen through the gate."""
        credentials = self._address.netloc.rpartition("@")[0]
        return urlunsplit(self._address._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    async def open(self) -> None:
        """Let connections through, at the same address as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut every connection and refuse new ones."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def freeze(self) -> None:
        """Stop passing bytes on, as a network does that lost the other end."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on again what was held back."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = str(self._address.hostname), self._address.port or 5432
        far_reader, far_writer = await asyncio.open_connection(host, port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def open_gate(dsn: str) -> AsyncIterator[Gate]:
    """Put a gate in front of a database; shut when the block ends."""
    gate = Gate(dsn)
    await gate.open()
    try:
        yield gate
    finally:
        gate.thaw()
        await gate.shut()
