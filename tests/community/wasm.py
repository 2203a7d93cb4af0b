"""TimescaleDB Community for tests: a WebAssembly build under Node, in memory, for one connection at a time.

It serves to test the SQL of the Community edition only: it has no COPY FROM STDIN, no background jobs and no second
session; clocks are in milliseconds, statement_timeout has no effect, CREATE INDEX CONCURRENTLY does not work, and
pg_backend_pid() is 0.
"""

import json
import selectors
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.npm import install, program

HERE = Path(__file__).parent
START_TIMEOUT_S = 60


@contextmanager
def serve() -> Iterator[str]:
    """Run an empty server on a free loopback port and yield its DSN; it ends with the block, or with this process."""
    install(HERE)
    command = [program("node"), str(HERE / "server.mjs")]
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
