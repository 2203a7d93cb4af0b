"""APIs and workers are killed, frozen, cut off and replaced while gateways go on: others take over in time."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.conftest import API_KEY, Database
from tests.faults.gateways import Answer, post
from tests.faults.installation import STOP_S, Installation, Process, installed
from tests.faults.proxy import COPY_DATA
from tests.faults.verdict import (
    TOLERANCE_S,
    Fault,
    check_alerts,
    check_answer,
    check_answers,
    check_exact,
    check_leaders,
    fault,
    load_published,
    load_stored,
)

#: On a machine that does much else.
pytestmark = pytest.mark.timeout(240)

#: Another worker takes over, and other gateways go on, within this time.
TAKEOVER_S = 15.0


async def check_all(site: Installation, timed: Fault) -> None:
    """Wait until uploads succeed again, then check everything that is promised of them and of alerts."""
    await site.until_steady(1)
    check_answers(site, timed)
    await check_exact(site, timed)
    await check_alerts(site, timed)
    check_leaders(site)


async def test_uploads_are_exact_when_an_api_is_killed(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, apis=2, workers=1) as site:
        with fault("one of two APIs: kill -9, up again after 2 s") as timed:
            site.apis[0].kill()
            await asyncio.sleep(2)
            timed.is_over()
            await site.apis[0].restart()
            await check_all(site, timed)


@pytest.mark.slow
async def test_uploads_are_exact_when_an_api_is_frozen_inside_copy(tmp_path: Path, database: Database) -> None:
    async with installed(tmp_path, database.dsn, apis=2, workers=1) as site:
        with fault("one of two APIs: SIGSTOP inside COPY for 15 s") as timed:
            frozen = site.apis[0]
            frozen.wire.set_trap(COPY_DATA, frozen.freeze)
            await asyncio.wait_for(frozen.wire.sprung.wait(), 20)
            frozen.wire.stall()
            await asyncio.sleep(15)
            await frozen.wire.mend()
            frozen.thaw()
            timed.is_over()
            await check_all(site, timed)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["its host vanishes", "SIGSTOP"])
async def test_other_gateways_go_on_when_an_api_stays_inside_copy(tmp_path: Path, database: Database, end: str) -> None:
    """A flush that makes the chunks of new days holds a lock that every other flush of new days needs."""
    async with installed(tmp_path, database.dsn, apis=2, gateways=0) as site:
        with fault(f"one of two APIs: {end} inside COPY, its locks stay") as timed:
            stuck, other = site.apis
            stuck.wire.set_trap(COPY_DATA, lambda: _cut_off(stuck, end), "inside", skip=1)
            first = asyncio.create_task(_send(stuck, _readings_of_days("first", 6, 5)))
            await asyncio.wait_for(stuck.wire.sprung.wait(), 20)
            timed.began = monotonic()
            # The same days, and the same readings, as when the gateway turns to the other API.
            answers = [
                await _until_stored(other, _readings_of_days("other", 6, 5)),
                await _until_stored(other, _readings_of_days("first", 6, 5)),
            ]
            timed.is_over()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await _count(site, timed, 600)
            timed.row.gap_s = round(timed.ended - timed.began, 1)
            timed.row.note = f"gateways of the other go on after {timed.row.gap_s} s"
            timed.row.slowest_answer_s = round(max(answer.took_s for given in answers for answer in given), 1)
            assert timed.row.gap_s <= TAKEOVER_S + TOLERANCE_S
            for given in answers:
                for answer in given:
                    check_answer(answer)


async def _count(site: Installation, timed: Fault, acknowledged: int) -> None:
    """Check that this many readings were stored and published once."""
    stored, published = await load_stored(site), await load_published(site)
    timed.row.lost = acknowledged - len(stored)
    timed.row.doubled = published.total() - len(published)
    assert len(stored) == acknowledged
    assert published == Counter(stored.keys())


def _cut_off(process: Process, end: str) -> None:
    if end == "SIGSTOP":
        process.freeze()
        process.wire.stall()
    else:
        process.wire.blackhole()


def _readings_of_days(sensor: str, *days_ago: int) -> list[dict[str, Any]]:
    """Return enough readings of each of these days for COPY."""
    starts = [
        datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0) - timedelta(days=n) for n in days_ago
    ]
    return [
        {"sensor": sensor, "time": (start + timedelta(seconds=n)).isoformat(), "values": {"level": n}}
        for start in starts
        for n in range(300)
    ]


async def _send(api: Process, readings: list[dict[str, Any]]) -> Answer:
    timeout = aiohttp.ClientTimeout(60)
    async with aiohttp.ClientSession(headers={"X-API-Key": API_KEY}, timeout=timeout) as http:
        return await post(http, api.address, msgspec.json.encode(readings))


async def _until_stored(api: Process, readings: list[dict[str, Any]]) -> list[Answer]:
    """Send readings until they are acknowledged; return all answers."""
    answers = [await _send(api, readings)]
    while answers[-1].status != 200:
        await asyncio.sleep(0.5)
        answers.append(await _send(api, readings))
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill -9", "SIGSTOP", "black hole"])
async def test_another_worker_takes_over_when_the_leader_is_gone(tmp_path: Path, database: Database, end: str) -> None:
    async with installed(tmp_path, database.dsn, workers=2) as site:
        await site.leaders.until(lambda leaders: len(leaders) == 1)
        leader = site.workers[site.leaders.latest()[0]]
        (other,) = [number for number, worker in enumerate(site.workers) if worker is not leader]
        with fault(f"the worker that leads: {end}") as timed:
            {"kill -9": leader.kill, "SIGSTOP": leader.freeze, "black hole": leader.wire.blackhole}[end]()
            taken_at = await site.leaders.until(lambda leaders: other in leaders)
            timed.row.note = f"another leads after {taken_at - timed.began:.1f} s"
            assert taken_at - timed.began <= TAKEOVER_S + TOLERANCE_S
            await _bring_back(leader, end)
            timed.is_over()
            # The first one is back, looks for the lease a few times, and does not lead beside the other.
            seen = len(site.leaders.rounds)
            await site.leaders.until(lambda _: len(site.leaders.rounds) > seen + 20)
            await check_all(site, timed)


async def _bring_back(worker: Process, end: str) -> None:
    if end == "kill -9":
        await worker.restart()
    elif end == "SIGSTOP":
        worker.thaw()
    else:
        await worker.wire.mend()


@pytest.mark.slow
async def test_uploads_and_alerts_are_exact_when_all_processes_are_replaced_in_turn(
    tmp_path: Path, database: Database
) -> None:
    async with installed(tmp_path, database.dsn, apis=3, workers=2) as site:
        with fault("rolling restart of three APIs and two workers") as timed:
            stops_s = []
            for process in (*site.apis, *site.workers):
                stops_s.append(await process.end())
                await process.restart()
                await site.until_steady(1)
            timed.is_over()
            timed.row.note = f"stops took {', '.join(f'{took_s:.1f}' for took_s in stops_s)} s"
            assert max(stops_s) <= STOP_S + TOLERANCE_S
            await check_all(site, timed)
            assert [answer for answer in site.load.answers if answer.was_cut] == []
