"""A stop takes its time at most, and every upload that waits is answered so that its gateway sends it again."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.faults.installation import STOP_S, installed
from tests.faults.verdict import TOLERANCE_S, check_answers, check_exact, fault

#: On a machine that does much else.
pytestmark = pytest.mark.timeout(240)


async def test_uploads_are_exact_when_the_api_is_stopped_under_load(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, gateways=6) as site:
        with fault("API: SIGTERM under load, started again") as timed:
            took_s = await site.apis[0].end()
            timed.row.note = f"stopped after {took_s:.1f} s"
            await site.apis[0].restart()
            timed.is_over()
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
            assert [answer for answer in site.load.answers if answer.was_cut] == []
            assert took_s <= STOP_S


@pytest.mark.slow
async def test_stop_ends_in_time_when_the_database_hangs(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, gateways=6) as site:
        with fault("API: SIGTERM while the database is in a black hole, started again") as timed:
            api = site.apis[0]
            api.wire.blackhole()
            await asyncio.sleep(2)
            took_s = await api.end()
            timed.row.note = f"stopped after {took_s:.1f} s"
            await api.restart()
            timed.is_over()
            await site.until_steady(1)
            check_answers(site, timed)
            waited = [answer for answer in site.load.answers if timed.began < answer.at < timed.began + 2 + took_s]
            # Each upload that was under way got an answer.
            assert sum(answer.status == 503 for answer in waited) >= 6
            assert [answer for answer in waited if answer.was_cut] == []
            await check_exact(site, timed)
            assert took_s <= STOP_S + TOLERANCE_S


@pytest.mark.slow
async def test_worker_stops_in_time_when_the_database_hangs(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, workers=1) as site:
        with fault("worker: SIGTERM while the database is in a black hole") as timed:
            worker = site.workers[0]
            worker.wire.blackhole()
            await asyncio.sleep(2)
            took_s = await worker.end()
            timed.row.note = f"stopped after {took_s:.1f} s"
            assert took_s <= STOP_S + TOLERANCE_S
            timed.is_over()
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
