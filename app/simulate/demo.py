"""The gateways of `make demo`: they run beside the server, and soon give it something to alert about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import structlog

from app.clock import HOUR_US, SECOND_US, now_us
from app.settings import Settings
from app.simulate.plan import Plan
from app.simulate.simulation import Simulation
from app.simulate.world.timeline import Timeline
from app.tasks import running

#: The storm rule compares with three hours before.
HISTORY_US = 4 * HOUR_US
_READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.25
log = structlog.get_logger()


@asynccontextmanager
async def demo_gateways(settings: Settings, key: str) -> AsyncIterator[None]:
    """Run simulated gateways against the server of these settings for as long as the block lasts."""
    async with running(_run_demo(settings, key), "demo gateways"):
        yield


def server_url(settings: Settings) -> str:
    """Give the address at which this machine reaches the server of these settings."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 -- where not to go
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def demo_plan(settings: Settings, key: str, start_us: int) -> Plan:
    """Plan the demo: a story that begins at a time, in microseconds since 1970."""
    return Plan(
        url=server_url(settings),
        key=key,
        batch_us=10 * SECOND_US,
        history_us=HISTORY_US,
        cued_at_us=start_us,
    )


async def _run_demo(settings: Settings, key: str) -> None:
    try:
        await _wait_until_ready(server_url(settings))
        start_us = now_us()
        plan = demo_plan(settings, key, start_us)
        log.info("demo_started", gateways=plan.gateways, sensors=plan.gateways * plan.sensors)
        simulation = Simulation(plan, Timeline.of(plan, start_us), log.info)
        async with asyncio.TaskGroup() as group:
            group.create_task(simulation.run())
            group.create_task(_announce(simulation))
    except TimeoutError:
        log.warning("demo_not_started", reason=f"the server was not ready within {_READY_WITHIN_S:g} s")
    except Exception as error:
        log.error("demo_failed", exc_info=error)


async def _announce(simulation: Simulation) -> None:
    """Show the page's address again below all that a replay logs."""
    for gateway in simulation.gateways:
        await gateway.replayed.wait()
    log.info("demo_history_replayed", values=simulation.summarize().total.made, page=f"{simulation.plan.url}/")


async def _wait_until_ready(url: str) -> None:
    """Ask until the server can serve; raise TimeoutError when it cannot for too long."""
    async with asyncio.timeout(_READY_WITHIN_S), aiohttp.ClientSession() as http:
        while True:
            if await _is_ready(http, f"{url}/health/ready"):
                return
            await asyncio.sleep(_LOOK_EVERY_S)


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
