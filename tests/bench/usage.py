"""CPU time and memory of processes on this machine, as the kernel counts them; Linux only."""

import os
from collections.abc import Iterable
from pathlib import Path

from app.db.pool import Connection

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time of processes, of their living children and of the children that they have waited for."""
    return sum(_own_cpu_s(pid) for root in pids for pid in (root, *descendants(root)))


def descendants(pid: int) -> list[int]:
    """Return the ids of all living descendants of a process."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [each for child in children for each in (child, *descendants(child))]


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has held since its start or since `forget_peak`, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1_000


def held_mb(pid: int) -> float:
    """Return the memory that a process holds now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1_000


def forget_peak(pid: int) -> None:
    """Reset the peak of a process to its present memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def database_cpu_s(connection: Connection) -> float | None:
    """Return the CPU time of this database's connections, or None when the server is on another machine.

    A measured session must stay open from the first call to the last: the time of ended ones is not known.
    """
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        return sum(_own_cpu_s(row["pid"]) for row in rows)
    except FileNotFoundError:
        return None


def _own_cpu_s(pid: int) -> float:
    # The name of the program, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS
