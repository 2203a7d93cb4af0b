"""A TCP proxy that fails on demand, as networks and hosts do; the server behind it is not touched."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from tests.ports import free_port

#: Binary COPY begins with this.
COPY_DATA = b"PGCOPY\n"
COMMIT = b"COMMIT;"


class Trap(NamedTuple):
    """What happens when a client sends `pattern`: bytes up to `place` of it pass, then `spring` is called."""

    pattern: bytes
    place: Literal["before", "inside", "after"]
    spring: Callable[[], None]
    skip: int


class _Link:
    """A client's connection and that to the server; once lost, neither end hears of the other again."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.is_lost = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                _reset(writer)


class Proxy:
    """Passes bytes between clients and the server of a URL; `url` is the server's URL through this proxy."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._loses = False
        self._trap: Trap | None = None
        self._bytes_left: int | None = None
        #: Pause before each piece of at most 64 KiB.
        self.delay_s = 0.0
        self.sprung = asyncio.Event()
        self.port = free_port()

    @property
    def url(self) -> str:
        """Return the server's URL with the address of the proxy in it."""
        login, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    async def mend(self) -> None:
        """Accept connections and pass bytes on. Stalled bytes are delivered; bytes lost in a black hole stay lost."""
        self._loses, self.delay_s, self._trap, self._bytes_left = False, 0.0, None, None
        self._flows.set()
        if self._listening is None:
            self._listening = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=2_048)

    def stall(self) -> None:
        """Hold all bytes back until it is mended, like a route that is gone for a while."""
        self._flows.clear()

    def blackhole(self) -> None:
        """Swallow all bytes and all ends of connections, for present connections for ever; accept new ones silently."""
        self._loses = True
        for link in self._links:
            link.is_lost = True

    def reset(self) -> None:
        """Reset all connections; new ones are accepted."""
        for link in self._links:
            link.reset()

    def refuse(self) -> None:
        """Reset all connections and refuse new ones, like a host whose server does not run."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self.reset()

    def half_close(self) -> None:
        """End the stream to each client; the streams from clients continue."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.client.write_eof()

    def cut_after(self, n_bytes: int) -> None:
        """Reset the connection that sends the byte after the next `n_bytes`."""
        self._bytes_left = n_bytes

    def set_trap(
        self,
        pattern: bytes,
        spring: Callable[[], None],
        place: Literal["before", "inside", "after"] = "inside",
        skip: int = 0,
    ) -> None:
        """Call `spring` once, when a client next sends `pattern`, or after `skip` more; set `sprung` then.

        Before it, the bytes up to the pattern pass, or half of what came with it, or all that came with it.
        """
        self.sprung.clear()
        self._trap = Trap(pattern, place, spring, skip)

    async def close(self) -> None:
        """Reset everything and stop."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = _Link(writer)
        link.is_lost = self._loses
        self._links.add(link)
        try:
            await self._serve(link, reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _serve(self, link: _Link, reader: asyncio.StreamReader) -> None:
        if link.is_lost:
            await self._pump(link, reader, None)
            return
        await self._flows.wait()
        far_reader, link.server = await asyncio.open_connection(self._target.hostname, self._target.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(link, reader, link.server))
            tasks.create_task(self._pump(link, far_reader, link.client))

    async def _pump(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter | None) -> None:
        try:
            while data := await source.read(65_536):
                await self._pass_on(link, data, sink)
            if not link.is_lost and sink is not None:
                await self._flows.wait()
                sink.write_eof()
        except OSError:
            if not link.is_lost:
                link.reset()
        if link.is_lost:
            await asyncio.Event().wait()  # the other end hears nothing of it, until the proxy closes

    async def _pass_on(self, link: _Link, data: bytes, sink: asyncio.StreamWriter | None) -> None:
        if sink is None or link.is_lost:
            return
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if sink is link.server:
            data = await self._pass_to_trap(data, sink)
            self._count(link, len(data))
        await self._flows.wait()
        if not link.is_lost:
            sink.write(data)
            await sink.drain()

    async def _pass_to_trap(self, data: bytes, sink: asyncio.StreamWriter) -> bytes:
        """Return the data, or what remains of them behind the place of the trap after it was sprung."""
        if self._trap is None or (at := data.find(self._trap.pattern)) < 0:
            return data
        trap, self._trap = self._trap, None
        if trap.skip:
            self._trap = trap._replace(skip=trap.skip - 1)
            return data
        passes = {"before": at, "inside": at + (len(data) - at) // 2, "after": len(data)}[trap.place]
        sink.write(data[:passes])
        await sink.drain()
        trap.spring()
        self.sprung.set()
        return data[passes:]

    def _count(self, link: _Link, n_bytes: int) -> None:
        if self._bytes_left is not None:
            self._bytes_left -= n_bytes
            if self._bytes_left < 0:
                self._bytes_left = None
                link.reset()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once by a reset, without a proper end."""
    peer = writer.get_extra_info("socket")
    if peer is not None and peer.fileno() >= 0:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(target: str) -> AsyncIterator[Proxy]:
    """Open a proxy to the server of a URL; it passes bytes on at first, and is closed when the block ends."""
    proxy = Proxy(target)
    await proxy.mend()
    try:
        yield proxy
    finally:
        await proxy.close()
