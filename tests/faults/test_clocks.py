"""The wall clock of processes is set forward and back while gateways go on: nothing stops, nothing is late."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.faults.installation import installed
from tests.faults.verdict import check_alerts, check_answers, check_exact, check_health, check_leaders, fault

HOUR_S = 3_600.0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_uploads_and_alerts_go_on_when_the_clocks_of_processes_are_set(
    tmp_path: Path, database: Database, ahead_s: float
) -> None:
    async with installed(tmp_path, database.dsn, workers=2, stepped=True) as site:
        with fault(f"clocks of the API and a worker: set by {ahead_s / HOUR_S:+.0f} h for 20 s") as timed:
            stepped = (site.apis[0], site.workers[0])
            for process in stepped:
                process.set_clock(ahead_s)
            # Each job of every few seconds comes due meanwhile.
            await asyncio.sleep(20)
            assert await site.pool.fetchval("SELECT count(*) FROM dirty") < 20
            for process in stepped:
                process.set_clock(0.0)
            timed.is_over()
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
            await check_alerts(site, timed)
            check_leaders(site)
            check_health(site, timed, becomes_unready=False)
