"""TimescaleDB Community for tests: a WebAssembly build under Node, in memory, for one connection at a time.

It serves to test the SQL of the Community edition only: it has no COPY FROM STDIN, no background jobs and no second
session; clocks are in milliseconds, statement_timeout has no effect, CREATE INDEX CONCURRENTLY does not work, and
pg_backend_pid() is 0.
"""

import fcntl
import json
import selectors
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LOCKFILE = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".installed.json"
INSTALL_TIMEOUT_S = 100
START_TIMEOUT_S = 60


def install() -> None:
    """Install the pinned npm package unless it is installed; parallel test workers wait for the first one."""
    with LOCKFILE.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pinned = lock.read()
        if not INSTALLED.exists() or INSTALLED.read_text() != pinned:
            _run_npm()
            INSTALLED.write_text(pinned)


@contextmanager
def serve() -> Iterator[str]:
    """Run an empty server on a free loopback port and yield its DSN; it ends with the block, or with this process."""
    install()
    command = [_program("node"), str(HERE / "server.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            yield f"postgresql://postgres@127.0.0.1:{_port(server)}/template1"
        finally:
            server.kill()  # the data are in memory, so a clean stop is not needed


@pytest.fixture(scope="module")
def community_dsn() -> Iterator[str]:
    """The DSN of a server for one module, whose tests should be in one xdist group: each worker starts a server."""
    with serve() as dsn:
        yield dsn


def _run_npm() -> None:
    command = [_program("npm"), "ci", "--ignore-scripts", "--omit=dev"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"npm ci in {HERE} took more than {INSTALL_TIMEOUT_S} s", pytrace=False)
    if done.returncode:
        pytest.fail(f"npm ci failed in {HERE}:\n{done.stderr[-2000:]}", pytrace=False)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} not found: tests of TimescaleDB Community need Node.js 20 or newer", pytrace=False)
    return path


def _port(server: subprocess.Popen[bytes]) -> int:
    assert server.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(server.stdout, selectors.EVENT_READ)
        if not selector.select(START_TIMEOUT_S):
            pytest.fail(f"TimescaleDB Community did not start within {START_TIMEOUT_S} s", pytrace=False)
    line = server.stdout.readline()
    if not line:
        pytest.fail(f"TimescaleDB Community ended with code {server.wait()} instead of starting", pytrace=False)
    port: int = json.loads(line)["port"]
    return port
