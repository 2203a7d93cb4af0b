"""The server for databases, and the size of the loads, which all benchmarks of one run share."""

import os
import platform
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from app.db.edition import detect_edition
from app.db.pool import connect
from tests.bench.database import fresh_database
from tests.bench.report.rows import Machine


class Run(msgspec.Struct, frozen=True):
    """A run of benchmarks."""

    #: The address of the PostgreSQL server on which each benchmark makes a database of its own.
    server: str
    #: The part of the usual counts and times, for a quick test of the benchmarks themselves.
    share: float = 1.0

    def count(self, usual: int, least: int = 1) -> int:
        """Return how many things to send of those that are usual."""
        return max(round(usual * self.share), least)

    def seconds(self, usual: float) -> float:
        """Return how long to measure of what is usual."""
        return max(usual * self.share, 0.5)

    def database(self) -> AbstractAsyncContextManager[str]:
        """Make a migrated database; yield its address."""
        return fresh_database(self.server)


async def describe_machine(server: str, load_before: float) -> Machine:
    """Return what the figures depend on."""
    async with fresh_database(server) as dsn:
        connection = await connect(dsn)
        edition = await detect_edition(connection)
        version = await connection.fetchval("SELECT current_setting('server_version')")
        extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        await connection.close()
    return Machine(
        cpu=_after("/proc/cpuinfo", "model name"),
        cores=os.cpu_count() or 0,
        memory_gb=int(_after("/proc/meminfo", "MemTotal").split()[0]) / 1e6,
        load=(load_before, os.getloadavg()[0]),
        edition=edition,
        postgresql=version.split()[0],
        timescaledb=extension,
        python=platform.python_version(),
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _after(path: str, name: str) -> str:
    """Return what a file of the kernel says after a name and a colon."""
    found = (line for line in Path(path).read_text().splitlines() if line.startswith(name))
    return next(found, ":unknown").partition(":")[2].strip()
