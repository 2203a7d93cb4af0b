"""Soaks: `python -m tests.soak [NAME …]` runs those named, or all, and prints what all runs so far have shown.

Totals are kept in the folder `.soak`. A soak that is started again continues with the next seed.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import traceback
from collections.abc import Callable

from app import log
from tests.conftest import project_folder
from tests.soak import day, fault_table, kills, random_requests
from tests.soak.totals import Totals

#: Random histories of plain rules, and as many of rules that hold values or look at second metrics: about half an hour.
HISTORIES = 20_000


def main() -> int:
    """Run the parts one after another; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run long, random tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of kill -9")
    parser.add_argument("--requests", type=int, default=100_000, help="generated requests")
    asked = parser.parse_args()
    if unknown := set(asked.names) - PARTS.keys():
        parser.error(f"there is no soak {', '.join(unknown)}; there are {', '.join(PARTS)}")
    log.configure("error")
    totals = Totals()
    failed = []
    for name in asked.names or list(PARTS):
        print(f"== {name}", flush=True)
        try:
            PARTS[name](asked, totals)
        except Exception:  # noqa: BLE001 -- the other parts run nevertheless
            traceback.print_exc()
            failed.append(name)
    print(totals.summary())
    return 1 if failed else 0


def _run_histories(_: argparse.Namespace, totals: Totals) -> None:
    seed = totals.next_seed("histories")
    _run_program("tests.alerting.soak", "--histories", str(HISTORIES), "--first", str(seed * HISTORIES))
    totals.add("histories", seed, f"up to {HISTORIES:,} histories of each kind")


def _run_mutants(_: argparse.Namespace, totals: Totals) -> None:
    _run_program("tests.alerting.mutants")
    totals.add("mutants", totals.next_seed("mutants"), "all mutants")


def _run_faults(_: argparse.Namespace, totals: Totals) -> None:
    fault_table.FILE.unlink(missing_ok=True)
    try:
        _run_program("pytest", "tests/faults", "--slow", "-q", "--timeout=240", FAULTS_TABLE=str(fault_table.FILE))
    finally:
        print(fault_table.render())
    totals.add("faults", totals.next_seed("faults"), "all faults")


def _run_slow(_: argparse.Namespace, totals: Totals) -> None:
    _run_program("pytest", "tests", "--ignore=tests/faults", "--slow", "-m", "slow", "-q", "--timeout=240")
    totals.add("slow", totals.next_seed("slow"), "all slow tests outside tests/faults")


def _run_program(*arguments: str, **environ: str) -> None:
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, cwd=project_folder(), env={**os.environ, **environ}, check=True)


PARTS: dict[str, Callable[[argparse.Namespace, Totals], None]] = {
    "histories": _run_histories,
    "mutants": _run_mutants,
    "faults": _run_faults,
    "slow": _run_slow,
    "kills": lambda asked, totals: asyncio.run(kills.run(asked.rounds, totals)),
    "requests": lambda asked, totals: asyncio.run(random_requests.run(asked.requests, totals)),
    "day": lambda _, totals: asyncio.run(day.run(totals)),
}

if __name__ == "__main__":
    sys.exit(main())
