"""Programs of examples/ as processes of their own, run as a reader of the documents would run them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import project_folder, wait_until

FOLDER = project_folder() / "examples"
STOP_S = 20.0


class Example:
    """A running example and what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        #: Lines of standard output.
        self.lines: list[str] = []
        #: Lines of standard error.
        self.notes: list[str] = []
        self._process = process
        self._readers = [
            asyncio.create_task(_collect(process.stdout, self.lines)),
            asyncio.create_task(_collect(process.stderr, self.notes)),
        ]

    async def write(self, *lines: str) -> None:
        """Write lines to standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        await self._process.stdin.drain()

    async def see_note(self, text: str) -> None:
        """Wait until a line of standard error holds a text."""
        await wait_until(lambda: any(text in note for note in self.notes))

    async def end_input(self) -> int:
        """End standard input, wait for the end, and return the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self.end()

    async def end(self) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(STOP_S):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def kill(self) -> None:
        """End it as a power cut does."""
        self._process.send_signal(signal.SIGKILL)
        await self.end()

    async def close(self) -> None:
        """End what the test has left."""
        if self._process.returncode is None:
            self._process.kill()
        await self.end()


@asynccontextmanager
async def running_example(folder: Path, name: str, *arguments: str, key: str) -> AsyncIterator[Example]:
    """Run an example in a folder, with this key; kill what the test leaves of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(FOLDER / name),
        *arguments,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "API_KEY": key},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    example = Example(process)
    try:
        yield example
    finally:
        await example.close()


async def _collect(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream is not None
    async for line in stream:
        lines.append(line.decode().rstrip("\n"))  # noqa: PERF401 -- read while it grows
