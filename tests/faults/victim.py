"""A PostgreSQL server that a test may kill and stop."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from tests.faults.installation import signal_all
from tests.processes import postgres_processes

#: A killed process loses nothing that it has handed to the operating system, so fsync may be off; the rest is on.
_OPTIONS = {"fsync": "off", "max_connections": "200", "timescaledb.max_background_workers": "0"}


class VictimServer:
    """An embedded server and the name of a migrated template on it."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.template = f"tidegauge_template_{os.getpid()}"

    def kill(self) -> None:
        """Kill the server's first process by kill -9, as when memory runs out; the others end with it."""
        file = cluster_folder(self.server.data_dir) / "data" / "postmaster.pid"
        signal_all([int(file.read_text().splitlines()[0])], signal.SIGKILL)

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


@contextmanager
def victim_server(folder: Path) -> Iterator[VictimServer]:
    """Run a server, with its data in a folder that is removed when the block ends."""
    try:
        with EmbeddedServer.start(folder, say=lambda line: None, options=_OPTIONS) as server:
            yield VictimServer(server)
    finally:
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)
