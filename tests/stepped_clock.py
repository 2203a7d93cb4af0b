"""`python -m tests.stepped_clock serve …`: the `tidegauge` command with a wall clock that a test can set.

The file of CLOCK_STEP_FILE holds by how many seconds the clock is ahead, as a float of 8 bytes; a test writes it while
the process runs. The monotonic clock is left alone, as when an operator or NTP sets the time of a machine. Every name
by which the program and APScheduler read the wall clock is replaced; what must not be forgotten is checked below.
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.processes import ServerProcess, started

_VARIABLE = "CLOCK_STEP_FILE"
_FORMAT = "d"


class SteppedProcess:
    """A process of the program with a wall clock of its own."""

    def __init__(self, server: ServerProcess, path: Path) -> None:
        self.server = server
        self._path = path

    def step(self, ahead_s: float) -> None:
        """Set the wall clock of the process ahead of the true time, by a negative number behind it."""
        with self._path.open("r+b") as file:
            file.write(struct.pack(_FORMAT, ahead_s))


@asynccontextmanager
async def stepped(
    folder: Path, *arguments: str, ahead_s: float = 0.0, port: int | None = None, **environ: str
) -> AsyncIterator[SteppedProcess]:
    """Start a server with a clock that is ahead by this much, and wait until it is ready; kill it at the end."""
    folder.mkdir(exist_ok=True)
    path = folder / "clock_step"
    path.write_bytes(struct.pack(_FORMAT, ahead_s))
    variables = {**environ, _VARIABLE: str(path)}
    async with started(folder, *arguments, port=port, module="tests.stepped_clock", **variables) as server:
        await server.until_ready()
        yield SteppedProcess(server, path)


def _replace_clocks(path: Path) -> None:
    """Let every name for the wall clock read it with the step that the file holds."""
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), struct.calcsize(_FORMAT))
    true_time, true_time_ns = time.time, time.time_ns

    def ahead_s() -> float:
        (step_s,) = struct.unpack_from(_FORMAT, shared)
        return float(step_s)

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class SteppedDatetime(datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead_s())

    def stepped_time() -> float:
        return true_time() + ahead_s()

    def stepped_time_ns() -> int:
        return true_time_ns() + round(ahead_s() * 1e9)

    time.time, time.time_ns = stepped_time, stepped_time_ns
    replacements = {true_time: stepped_time, true_time_ns: stepped_time_ns, datetime: SteppedDatetime}
    for name, module in list(sys.modules.items()):
        # Formats decode into the type, and read no clock.
        if name.partition(".")[0] in ("app", "apscheduler") and not name.startswith("app.ingest.formats"):
            for attribute, value in list(vars(module).items()):
                if callable(value) and value in (true_time, true_time_ns, datetime):
                    setattr(module, attribute, replacements[value])


def _check_clocks() -> None:
    """Fail if APScheduler or the program would read the true clock."""
    import apscheduler.schedulers.base

    from app import jobs

    for module in (apscheduler.schedulers.base, jobs):
        for name in ("datetime", "time"):
            clock = getattr(module, name, None)
            assert clock is None or "_replace_clocks" in clock.__qualname__, (module, name)


if __name__ == "__main__":
    # APScheduler imports these when the first job is added.
    import apscheduler.executors.asyncio
    import apscheduler.executors.base
    import apscheduler.triggers.interval  # noqa: F401

    from app.commands.cli import main
    from app.commands.processes import serve, work  # noqa: F401

    _replace_clocks(Path(os.environ[_VARIABLE]))
    _check_clocks()
    main()
