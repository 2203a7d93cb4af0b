"""The `tidegauge` command in separate processes: commands that end by themselves, and servers that a test ends."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from app.db.embedded.cluster import cluster_folder
from tests.conftest import API_KEY, API_KEY_WS, project_folder
from tests.ports import free_port

#: A start with a new database takes a few seconds, and longer while other tests run.
START_S = 60.0
STOP_S = 30.0
#: Importing the package takes longer than most commands, so one process imports it, and each command is a fork of it.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["app.main", "app.worker", "app.commands.cli", "app.commands.rules", "app.commands.transfer"]
)


class Ran(NamedTuple):
    """The exit code and the output of a command."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, decoded from JSON."""
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The line that a command wrote before it ended with exit code 1; fails when there is other output."""
        assert self.code == 1, self
        assert self.out == ""
        (line,) = self.err.splitlines()
        return line


def tidegauge(folder: Path, *arguments: str, answers: str = "", **environ: str) -> Ran:
    """Run a command in a folder, with these environment variables only, and answers on standard input."""
    given, out, err = folder / "stdin", folder / "stdout", folder / "stderr"
    given.write_text(answers)
    process = _forks.Process(target=_run, args=(folder, arguments, environ, given, out, err))
    process.start()
    process.join(60)
    assert process.exitcode is not None, f"{arguments} did not end"
    return Ran(process.exitcode, out.read_text(), err.read_text())


def _run(
    folder: Path, arguments: tuple[str, ...], environ: Mapping[str, str], given: Path, out: Path, err: Path
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.stdin = given.open()
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    from app.commands.cli import main

    main(arguments, prog_name="tidegauge")


class ServerProcess:
    """A running `tidegauge up` or `tidegauge serve`, its port and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        #: A client of the server that sends API_KEY; its requests take paths only.
        self.http = http

    @property
    def out(self) -> str:
        """Standard output so far."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """Standard error, the log, so far."""
        return (self.folder / "err").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the JSON log so far."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """The warnings and errors of the log so far; not what a server of tests lacks, such as a worker or `fsync`."""
        levels = ("warning", "error")
        return [line for line in self.log if line["level"] in levels and line["event"] != "health_warning_began"]

    async def post(self, readings: object, **headers: str) -> int | None:
        """Post readings and return the status, or None when there was no answer."""
        try:
            async with self.http.post("/api/v1/readings", json=readings, headers=headers) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def until_ready(self) -> None:
        """Wait until the server is ready; fail with its log when it ends or is not ready in time."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.err
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self.http.get("/health/ready", timeout=aiohttp.ClientTimeout(5)) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the server did not become ready: {self.err}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, wait until the process ends, and return its exit code."""
        self.process.send_signal(number)
        return await self.wait()

    def kill(self) -> None:
        """Kill the process and its children at once, as when the machine loses its power."""
        killed = children(self.process.pid)
        self.process.kill()
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until the process ends and return its exit code."""
        return await asyncio.to_thread(self.process.wait, STOP_S)


@asynccontextmanager
async def started(
    folder: Path, *arguments: str, port: int | None = None, module: str = "app", **environ: str
) -> AsyncIterator[ServerProcess]:
    """Start a server without waiting until it is ready; kill it at the end of the block if it still runs."""
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", module, *arguments]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project_folder()), "HOME": str(folder), **keys()}
    variables["RULES_DIR"] = str(project_folder() / "rules")
    with (folder / "out").open("ab") as out, (folder / "err").open("ab") as err:
        process = subprocess.Popen(
            command, cwd=folder, env={**variables, "PORT": str(port), **environ}, stdout=out, stderr=err
        )
    try:
        timeout = aiohttp.ClientTimeout(60)
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"X-API-Key": environ.get("API_KEY", API_KEY)}, timeout=timeout
        ) as http:
            yield ServerProcess(process, port, folder, http)
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait)


@asynccontextmanager
async def running(
    folder: Path, *arguments: str, port: int | None = None, **environ: str
) -> AsyncIterator[ServerProcess]:
    """Start a server and wait until it is ready; kill it at the end of the block if it still runs."""
    async with started(folder, *arguments, port=port, **environ) as server:
        await server.until_ready()
        yield server


def keys() -> dict[str, str]:
    """Return the keys as environment variables."""
    return {"API_KEY": API_KEY, "API_KEY_WS": API_KEY_WS}


def postgres_processes(data_dir: Path) -> list[int]:
    """Return the ids of the processes whose working folder is the database of a DATA_DIR."""
    data = (cluster_folder(data_dir) / "data").resolve()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.joinpath("cwd").readlink() == data:
                found.append(int(entry.name))
    return found


def children(pid: int) -> list[int]:
    """Return the ids of the child processes of a process that still run."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


@contextlib.contextmanager
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a DATA_DIR; afterwards remove the cluster folder, which for root lies elsewhere."""
    folder = tmp_path / ".data"
    try:
        yield folder
    finally:
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)
