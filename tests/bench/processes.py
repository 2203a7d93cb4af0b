"""Processes that run beside a benchmark: the server, and a receiver."""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

API_KEY = "bench-key"
_START_TIMEOUT_S = 60.0


@asynccontextmanager
async def served(dsn: str, **settings: str) -> AsyncIterator[str]:
    """Run `tidegauge serve` with API_KEY and these settings until the block ends; yield its address."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DATABASE_URL": dsn,
        "API_KEY": API_KEY,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        **settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "serve", cwd=folder, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


@contextmanager
def running(function: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run a function in a process of its own until the block ends."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


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


async def _wait_until_ready(address: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_TIMEOUT_S), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"{address}/health/live"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise RuntimeError(f"the server ended with {process.returncode}; `tidegauge serve` says why")
