"""The wall clock of processes is set forward and back while gateways go on: nothing stops, nothing is late."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.faults.installation import Installation, installed
from tests.faults.verdict import check_alerts, check_answers, check_exact, check_health, check_leaders, fault

#: On a machine that does much else.
pytestmark = pytest.mark.timeout(240)

HOUR_S = 3_600.0


@pytest.mark.slow
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
            await _check_evaluation_goes_on(site)
            for process in stepped:
                process.set_clock(0.0)
            timed.is_over()
            await site.until_steady(1)
            check_answers(site, timed)
            await check_exact(site, timed)
            await check_alerts(site, timed)
            check_leaders(site)
            check_health(site, timed, becomes_unready=False)


async def _check_evaluation_goes_on(site: Installation) -> None:
    """Check that what is new now has soon been evaluated."""
    newest = await site.pool.fetchval("SELECT coalesce(max(id), 0) FROM dirty")
    async with asyncio.timeout(10):
        while await site.pool.fetchval("SELECT EXISTS (SELECT FROM dirty WHERE id <= $1)", newest):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
