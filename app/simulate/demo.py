"""The gateways of `make demo`: they run in the process of `tidegauge up` and make alerts fire within minutes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import structlog

from app.clock import HOUR_US, SECOND_US, now_us
from app.settings import Settings
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation
from app.simulate.world.timeline import EventTimeline
from app.tasks import running
from app.uplink import server_url

#: The example rule about falling pressure compares with readings from three hours before.
HISTORY_US = 4 * HOUR_US
_READY_WITHIN_S = 60.0
_CHECK_EVERY_S = 0.25
log = structlog.get_logger()


@asynccontextmanager
async def demo_gateways(settings: Settings, key: str) -> AsyncIterator[None]:
    """Run simulated gateways against the server of these settings until the block ends."""
    async with running(_run_demo(settings, key), "demo gateways"):
        yield


def demo_plan(settings: Settings, key: str, start_us: int) -> Plan:
    """Return the plan of a demo that starts at `start_us`, in microseconds since 1970."""
    return Plan(
        url=server_url(settings),
        key=key,
        batch_us=10 * SECOND_US,
        history_us=HISTORY_US,
        demo_start_us=start_us,
    )


async def _run_demo(settings: Settings, key: str) -> None:
    try:
        await _wait_until_ready(server_url(settings))
        start_us = now_us()
        plan = demo_plan(settings, key, start_us)
        log.info("demo_started", gateways=plan.gateways, sensors=plan.gateways * plan.sensors)
        simulation = Simulation(plan, EventTimeline.of(plan, start_us), log.info)
        async with asyncio.TaskGroup() as group:
            group.create_task(simulation.run())
            group.create_task(_log_address_after_replay(simulation))
    except TimeoutError:
        log.warning("demo_not_started", reason=f"the server was not ready within {_READY_WITHIN_S:g} s")
    except Exception as error:
        log.error("demo_failed", exc_info=error)


async def _log_address_after_replay(simulation: Simulation) -> None:
    """Log the page's address again once the history is replayed, because the replay writes many log lines."""
    for gateway in simulation.gateways:
        await gateway.replayed.wait()
    log.info("demo_history_replayed", values=simulation.summarize().total.made, page=f"{simulation.plan.url}/")


async def _wait_until_ready(url: str) -> None:
    """Wait until the server is ready; raise TimeoutError after _READY_WITHIN_S."""
    async with asyncio.timeout(_READY_WITHIN_S), aiohttp.ClientSession() as http:
        while True:
            if await _is_ready(http, f"{url}/health/ready"):
                return
            await asyncio.sleep(_CHECK_EVERY_S)


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
