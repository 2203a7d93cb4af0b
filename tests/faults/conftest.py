"""Fixtures: a server that tests may kill and stop, and a migrated database on it for each test."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from tests.conftest import copied, make_template
from tests.faults.installation import signal_all
from tests.processes import postgres_processes

#: A killed process loses nothing that it has handed to the operating system, so fsync may be off; the rest is on.
_OPTIONS = {"fsync": "off", "max_connections": "200", "timescaledb.max_background_workers": "0"}


class VictimServer:
    """A PostgreSQL server that a test may kill and stop."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.template = f"tidegauge_template_{os.getpid()}"

    def kill(self) -> None:
        """Kill the server's first process by kill -9, as when memory runs out; the others end with it."""
        signal_all(self._postmaster(), signal.SIGKILL)

    async def start_again(self) -> None:
        """Start the server again after its death, as a supervisor does."""
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(self.server.restart_if_dead):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.02)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes of the server until the block ends; connections stay."""
        pids = postgres_processes(self.server.data_dir)
        signal_all(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(pids, signal.SIGCONT)

    def _postmaster(self) -> list[int]:
        file = cluster_folder(self.server.data_dir) / "data" / "postmaster.pid"
        return [int(file.read_text().splitlines()[0])]


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[VictimServer]:
    """An embedded server for the tests of this folder alone, with a template; DATABASE_URL does not count."""
    folder = tmp_path_factory.mktemp(f"victim-{worker_id}")
    try:
        with EmbeddedServer.start(folder, say=lambda line: None, options=_OPTIONS) as server:
            victim = VictimServer(server)
            asyncio.run(make_template(server.dsn, victim.template))
            yield victim
    finally:
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)


@pytest.fixture
async def victim_dsn(victim: VictimServer) -> AsyncIterator[str]:
    """The address of a migrated database on that server."""
    victim.server.restart_if_dead()
    async with copied(victim.server.dsn, victim.template) as dsn:
        yield dsn


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the faults that last long to `make soak`."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="lasts long: runs in make soak, or with --slow"))
