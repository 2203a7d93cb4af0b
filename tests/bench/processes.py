"""Processes that run beside a benchmark: the API, the worker, and a receiver."""

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.bench.usage import cpu_s, peak_mb
from tests.ports import free_port

API_KEY = "bench-key"
_START_TIMEOUT_S = 60.0


class Served(NamedTuple):
    """A running installation: the address of its API, and the ids of its processes, the API's first."""

    address: str
    pids: list[int]

    def api_cpu_s(self) -> float:
        """Return the CPU time of the API so far."""
        return cpu_s(self.pids[:1])

    def worker_cpu_s(self) -> float:
        """Return the CPU time of the worker so far."""
        return cpu_s(self.pids[1:])

    def peak_mb(self) -> float:
        """Return the most memory that the processes have held, added up."""
        return sum(peak_mb(pid) for pid in self.pids)


@asynccontextmanager
async def served(dsn: str, **settings: str) -> AsyncIterator[Served]:
    """Run an installation with API_KEY and these settings until the block ends."""
    port, worker_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DATABASE_URL": dsn,
        "API_KEY": API_KEY,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        **settings,
    }
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        processes = [
            await stack.enter_async_context(program(sys.executable, "-m", "app", *command, cwd=folder, env=environment))
            for command in (("serve",), ("work", f"--port={worker_port}"))
        ]
        await wait_until_answered(f"http://127.0.0.1:{port}/health/live", processes[0])
        await wait_until_answered(f"http://127.0.0.1:{worker_port}/health/live", processes[1])
        yield Served(f"http://127.0.0.1:{port}", [process.pid for process in processes])


@asynccontextmanager
async def program(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program without its output; end it when the block ends."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*arguments, stdout=quiet, stderr=quiet, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@contextmanager
def running(function: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """Run a function in a process of its own until the block ends."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments, daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield process.pid
    finally:
        process.terminate()
        process.join()


async def wait_for_port(port: int) -> None:
    """Wait until a process listens on the port."""
    async with asyncio.timeout(_START_TIMEOUT_S):
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def wait_until_answered(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until a server answers; raise RuntimeError when its process ends first."""
    async with asyncio.timeout(_START_TIMEOUT_S), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise RuntimeError(f"the server ended with {process.returncode}; started by hand, it says why")
