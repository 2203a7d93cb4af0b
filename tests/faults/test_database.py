"""The database goes away, hangs or refuses: what gateways, probes and followers see meanwhile and afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import asyncpg
import pytest

from tests.conftest import Database
from tests.faults.gateways import Answer
from tests.faults.installation import Installation, installed
from tests.faults.proxy import COMMIT, COPY_DATA
from tests.faults.verdict import Fault, check_alerts, check_answers, check_exact, check_health, fault, until_ready
from tests.faults.victim import VictimServer

#: On a machine that does much else.
pytestmark = pytest.mark.timeout(240)

#: What another session may lock: a table that every flush writes to.
LOCK_TABLE = "LOCK TABLE series_state IN EXCLUSIVE MODE"


async def check_all(site: Installation, timed: Fault, *, becomes_unready: bool | None = True) -> None:
    """Wait until uploads succeed again, then check everything that is promised."""
    await site.until_steady(1)
    await until_ready(site, timed.ended)
    check_answers(site, timed)
    await check_exact(site, timed)
    await check_alerts(site, timed)
    check_health(site, timed, becomes_unready=becomes_unready)


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Any]:
    """Open a session of somebody else."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def test_uploads_and_alerts_are_exact_when_the_database_is_killed(
    tmp_path: Path, victim: VictimServer, victim_dsn: str
) -> None:
    async with installed(tmp_path, victim_dsn, workers=1) as site:
        with fault("PostgreSQL: kill -9, up again after 3 s") as timed:
            victim.kill()
            await asyncio.sleep(3)
            await victim.start_again()
            timed.is_over()
            await check_all(site, timed)


async def test_uploads_are_exact_when_the_answer_to_a_commit_is_lost(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        with fault("network to the database: connections reset, the answer to COMMIT lost") as timed:
            wire = site.apis[0].wire
            wire.set_trap(COMMIT, wire.reset, "after")
            await asyncio.wait_for(wire.sprung.wait(), 20)
            timed.is_over()
            await check_all(site, timed, becomes_unready=None)
            refused = [answer for answer in site.load.answers if answer.status == 503]
            # An upload in another flush, before its COMMIT, gets the certain answer that nothing was stored.
            assert [answer for answer in refused if not _says_nothing_was_stored(answer)]


def _says_nothing_was_stored(answer: Answer) -> bool:
    return "othing was stored" in json.loads(answer.body)["detail"]


async def test_uploads_and_alerts_are_exact_when_the_database_is_refused(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        with fault("network to the database: connections reset, new ones refused for 3 s") as timed:
            wires = [process.wire for process in (*site.apis, *site.workers)]
            for wire in wires:
                wire.refuse()
            await asyncio.sleep(3)
            for wire in wires:
                await wire.mend()
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "place"), [(COPY_DATA, "inside"), (COMMIT, "before"), (COMMIT, "after")])
async def test_uploads_and_alerts_are_exact_when_the_database_is_in_a_black_hole(
    tmp_path: Path, database: Database, pattern: bytes, place: Literal["before", "inside", "after"]
) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        name = "COMMIT" if pattern == COMMIT else "COPY"
        with fault(f"network to the database: black hole for 20 s, begun {place} {name}") as timed:
            wires = [process.wire for process in (*site.apis, *site.workers)]

            def swallow() -> None:
                for wire in wires:
                    wire.blackhole()

            wires[0].set_trap(pattern, swallow, place)
            await asyncio.wait_for(wires[0].sprung.wait(), 20)
            await asyncio.sleep(20)
            for wire in wires:
                await wire.mend()
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_and_alerts_are_exact_when_the_network_stalls(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        with fault("network to the database: stalls for 15 s, then delivers") as timed:
            wires = [process.wire for process in (*site.apis, *site.workers)]
            for wire in wires:
                wire.stall()
            await asyncio.sleep(15)
            for wire in wires:
                await wire.mend()
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_and_alerts_are_exact_when_the_database_is_far_away(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        with fault("network to the database: 50 ms for each round trip, for 10 s") as timed:
            wires = [process.wire for process in (*site.apis, *site.workers)]
            for wire in wires:
                wire.delay_s = 0.025
            await asyncio.sleep(10)
            for wire in wires:
                await wire.mend()
            timed.is_over()
            await check_all(site, timed, becomes_unready=False)


@pytest.mark.slow
async def test_uploads_and_alerts_are_exact_when_the_database_is_frozen(
    tmp_path: Path, victim: VictimServer, victim_dsn: str
) -> None:
    async with installed(tmp_path, victim_dsn, workers=1) as site:
        with fault("PostgreSQL: SIGSTOP for 15 s") as timed:
            with victim.frozen():
                await asyncio.sleep(15)
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_succeed_again_when_sessions_have_met_a_read_only_server(
    tmp_path: Path, victim: VictimServer, victim_dsn: str
) -> None:
    async with installed(tmp_path, victim_dsn, workers=1) as site, session(victim.server.dsn) as owner:
        with fault("failover: lands on a server that only reads for 8 s, then on the primary") as timed:
            name = victim_dsn.rpartition("/")[2]
            await owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            processes = (*site.apis, *site.workers)
            for process in processes:
                process.wire.reset()
            await asyncio.sleep(8)
            # Sessions that were opened meanwhile stay read-only, as those on a standby would.
            await owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_and_alerts_are_exact_when_the_database_takes_no_connections(
    tmp_path: Path, victim: VictimServer, victim_dsn: str
) -> None:
    async with installed(tmp_path, victim_dsn, workers=1) as site, session(victim.server.dsn) as owner:
        with fault("maintenance: the database ends all sessions and takes no new ones for 5 s") as timed:
            name = victim_dsn.rpartition("/")[2]
            await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            for process in (*site.apis, *site.workers):
                process.wire.reset()
            await asyncio.sleep(5)
            await owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_are_answered_when_somebody_locks_a_table(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site, session(database.dsn) as owner:
        with fault("operator: locks a table that uploads write to, for 40 s") as timed:
            async with owner.transaction():
                await owner.execute(LOCK_TABLE)
                await asyncio.sleep(40)
            timed.is_over()
            await check_all(site, timed)


async def test_uploads_succeed_when_the_reader_takes_every_lock_that_it_can(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site, session(database.reader_dsn) as reader:
        with fault("dashboards' role: takes all advisory locks that it can") as timed:
            await reader.execute(
                "SELECT pg_advisory_lock(a, b) FROM generate_series(7415, 7430) AS a, generate_series(0, 9) AS b"
                " WHERE NOT (a = 7421 AND b = 1)"
            )
            async with reader.transaction():
                await reader.fetch("SELECT count(*) FROM reading, series, sensor")
                await site.until_steady(3, timeout_s=20)
            timed.is_over()
            await check_all(site, timed, becomes_unready=False)
