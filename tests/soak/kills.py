"""Rounds of kill -9 at random moments: of an API, a worker or PostgreSQL, while gateways, a follower and alerts go on.

An era is some rounds on one database. At its end everything is compared: nothing acknowledged was lost or doubled, the
episodes equal those computed anew from all readings, and each was told once, twice only where an answer was lost.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests import processes
from tests.conftest import copied, make_template
from tests.faults.installation import Installation, Process, installed
from tests.faults.proxy import COMMIT, COPY_DATA
from tests.faults.verdict import Fault, Row, check_alerts, check_answer, check_exact, check_leaders, load_stored
from tests.faults.victim import VictimServer, victim_server
from tests.soak.totals import Totals

PART = "kills"
ERA_ROUNDS = 20
#: How often each kind of process is killed.
_KINDS = ("API", "API", "worker", "worker", "PostgreSQL")
_LONGEST_WAIT_S = 1.0
_LONGEST_DOWN_S = 1.0


async def run(rounds: int, totals: Totals) -> None:
    """Run rounds, in eras, and keep each in the totals once its era has passed; raise what a check raises."""
    processes.START_S = 600.0  # on a machine that does much else, nobody waits for a soak
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        victim = stack.enter_context(victim_server(folder / "server"))
        await make_template(victim.server.dsn, victim.template)
        first = totals.next_seed(PART)
        for number, seeds in enumerate(_eras(range(first, first + rounds))):
            era = folder / f"era-{number}"
            era.mkdir()
            try:
                killed = await _era(era, victim, seeds)
            except Exception:  # an interruption is no failure
                print(f"era of seeds {seeds.start} to {seeds.stop - 1} failed; logs are in {_kept(era)}", flush=True)
                totals.add(PART, seeds.start, "an era", passed=False)
                raise
            for seed, what in zip(seeds, killed, strict=True):
                totals.add(PART, seed, what)
            print(f"kills: seeds {seeds.start} to {seeds.stop - 1} passed", flush=True)


def _eras(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, ERA_ROUNDS):
        yield range(start, min(start + ERA_ROUNDS, seeds.stop))


async def _era(folder: Path, victim: VictimServer, seeds: range) -> list[str]:
    """Run some rounds on a new database and check everything; return the kinds of killed processes."""
    victim.server.restart_if_dead()
    async with (
        copied(victim.server.dsn, victim.template) as dsn,
        installed(folder, dsn, apis=2, workers=2, seed=seeds.start) as site,
    ):
        killed = [await _round(site, victim, seed) for seed in seeds]
        timed = Fault(Row("kills"))
        await _start_what_has_ended(site)
        for process in (*site.apis, *site.workers):
            await process.server.until_ready()
        await check_exact(site, timed)
        await check_alerts(site, timed)
        check_leaders(site)
        for answer in site.load.answers:
            check_answer(answer)
        return killed


async def _round(site: Installation, victim: VictimServer, seed: int) -> str:
    """Kill one process at a random moment, start it again, and wait until all gateways are acknowledged again."""
    rng = Random(f"kills {seed}")
    kind = rng.choice(_KINDS)
    process = rng.choice(site.apis if kind == "API" else site.workers)
    moment = await _wait_for_moment(rng.choice(site.apis) if kind == "PostgreSQL" else process, rng)
    if kind == "PostgreSQL":
        victim.kill()
        await asyncio.sleep(rng.uniform(0, _LONGEST_DOWN_S))
        await victim.start_again()
    else:
        await _kill(process, rng)
    await _start_what_has_ended(site)
    await site.until_steady(1)
    await _check_nothing_is_lost(site)
    return f"{kind} {moment}"


async def _wait_for_moment(process: Process, rng: Random) -> str:
    """Wait for some time, or until a process is inside COPY or sends COMMIT, if it soon does."""
    pattern = rng.choice((None, None, COPY_DATA, COMMIT))
    if pattern is None:
        await asyncio.sleep(rng.uniform(0, _LONGEST_WAIT_S))
        return "at any time"
    process.wire.set_trap(pattern, lambda: None, rng.choice(("before", "inside", "after")))
    try:
        await asyncio.wait_for(process.wire.sprung.wait(), 2)
    except TimeoutError:
        return "at any time"
    return f"at {pattern.decode().strip(chr(10) + ';')}"


async def _kill(process: Process, rng: Random) -> None:
    process.kill()
    await asyncio.sleep(rng.uniform(0, _LONGEST_DOWN_S))
    await process.clear()
    # The next round may find it while it starts.
    await process.start()


async def _start_what_has_ended(site: Installation) -> None:
    """Start processes again, as a supervisor does, whose start failed because PostgreSQL was killed meanwhile."""
    for process in (*site.apis, *site.workers):
        if process.server.process.poll() is not None:
            assert "The server did not start" in process.server.err
            await process.clear()
            await process.start()


async def _check_nothing_is_lost(site: Installation) -> None:
    acknowledged = site.load.acknowledged
    stored = await load_stored(site)
    assert acknowledged.items() <= stored.items()


def _kept(folder: Path) -> Path:
    """Copy the logs of an era to a place that lasts; return it."""
    kept = Path(tempfile.mkdtemp(prefix="tidegauge-soak-"))
    for log in folder.glob("*/err"):
        (kept / f"{log.parent.name}.log").write_bytes(log.read_bytes())
    return kept
