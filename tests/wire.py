"""A TCP proxy to a server that a test can cut, freeze and mend; the server itself is not touched."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from app.db.pool import Pool, open_pool
from tests.ports import free_port
from tests.visitors import see_visitors_off

#: A constant of Linux that Python does not name.
_SO_ATTACH_FILTER = 26


class Wire:
    """Passes bytes between clients and the server of a URL; `url` is the server's URL through this proxy."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._port = free_port()

    @property
    def url(self) -> str:
        """Return the server's URL with the address of the proxy in it."""
        login, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{login}{at}127.0.0.1:{self._port}"))

    async def mend(self) -> None:
        """Accept connections and pass bytes on, also after a cut or a freeze; the address stays the same."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Close all connections and refuse new ones, like a server that is not running."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Keep the connections but pass nothing on, like a firewall that has dropped their state."""
        self._flows.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
            try:
                await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))
            finally:
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
            sink.write_eof()


@asynccontextmanager
async def wire_to(target: str) -> AsyncIterator[Wire]:
    """Open a proxy to the server of a URL; it passes bytes on at first, and is closed when the block ends."""
    wire = Wire(target)
    await wire.mend()
    try:
        yield wire
    finally:
        await see_visitors_off()
        await wire.cut()


@asynccontextmanager
async def pool_over(wire: Wire) -> AsyncIterator[Pool]:
    """Open a pool of a few connections through a proxy; when the block ends, they are aborted."""
    pool = await open_pool(wire.url, min_size=1, max_size=2)
    try:
        yield pool
    finally:
        pool.terminate()


def let_vanish(peer: socket.socket) -> None:
    """Let the kernel drop every packet that comes to a socket: for the other side, its host has vanished."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # one instruction of BPF: keep 0 bytes
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    peer.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
