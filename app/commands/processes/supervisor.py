"""The supervisor: runs programs as child processes, restarts those that die, and ends all of them together.

The standard input of a child is a pipe from the supervisor. The child ends when the pipe closes, so it does not outlive
a supervisor that was killed.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic
from types import MappingProxyType

import msgspec
import structlog
from prometheus_client import multiprocess

from app.commands.processes.server import GRACE_S, signals_handled
from app.metrics import SHARED_FOLDER_VARIABLE

# The pause before a dead child starts again doubles from the first to the longest.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
#: A child that lived at least this long is started again after the first pause.
STEADY_S = 60.0
#: A child that takes longer to end is killed. Its requests get GRACE_S, then it writes its last counts.
END_WITHIN_S = GRACE_S + 8
log = structlog.get_logger()


class Program(msgspec.Struct, frozen=True):
    """A command of `tidegauge` to run as a child."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = MappingProxyType({})
    #: Listening sockets that the child inherits.
    listening: Sequence[socket.socket] = ()


async def supervise(programs: Sequence[Program]) -> None:
    """Run programs until SIGINT or SIGTERM, then end them; SIGHUP goes to all of them. A dead one is started again."""
    with tempfile.TemporaryDirectory(prefix="tidegauge-metrics-") as folder:
        children = [_Child(program, folder) for program in programs]
        stopping = asyncio.Event()

        def hang_up() -> None:
            for child in children:
                child.send(signal.SIGHUP)

        with signals_handled(lambda _number: stopping.set(), hang_up):
            keeping = [asyncio.create_task(child.keep(), name=child.program.name) for child in children]
            try:
                await stopping.wait()
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, return_exceptions=True)
                await asyncio.gather(*(child.end() for child in children))


class _Child:
    """One child process, which is replaced when it dies."""

    def __init__(self, program: Program, metrics_folder: str) -> None:
        self.program = program
        self._metrics_folder = metrics_folder
        self._process: Process | None = None

    async def keep(self) -> None:
        """Run the program for ever; a pause comes before each new start."""
        pause_s = FIRST_PAUSE_S
        while True:
            started = monotonic()
            self._process = await self._start()
            code = await self._process.wait()
            multiprocess.mark_process_dead(self._process.pid, self._metrics_folder)  # type: ignore[no-untyped-call]
            if monotonic() - started > STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error("process_ended", process=self.program.name, exit_code=code, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self) -> None:
        """End the process; kill it if it does not end within END_WITHIN_S."""
        if self._process is None:
            return
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            log.warning("process_killed", process=self.program.name, ended_not_within_s=END_WITHIN_S)
            self.send(signal.SIGKILL)
            await self._process.wait()

    async def _start(self) -> Process:
        numbers = [one.fileno() for one in self.program.listening]
        inherited = [f"--listening={number}" for number in numbers]
        # A session of its own keeps the terminal's Ctrl-C from the child, so that the supervisor ends it in order.
        return await asyncio.create_subprocess_exec(
            *_command(),
            *self.program.arguments,
            *inherited,
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, SHARED_FOLDER_VARIABLE: self._metrics_folder, **self.program.environment},
            pass_fds=numbers,
            start_new_session=True,
        )


@contextmanager
def end_with_supervisor() -> Iterator[None]:
    """Until the block ends, end this process when standard input closes: the supervisor is gone."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_WITHIN_S)
        os._exit(1)

    # A signal to read the rules again must not end a process that only starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Thread(target=watch, name="supervisor watch", daemon=True).start()
    yield


def _command() -> list[str]:
    """Return the command line of `tidegauge`, so that a list of processes shows the name."""
    script = Path(sys.executable).with_name("tidegauge")
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "app"]
