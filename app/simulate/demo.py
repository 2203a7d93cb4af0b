"""The gateways of `make demo`: they run in the process of `tidegauge up` and make alerts fire within minutes.

A person of the demo tells how seldom some sensors report, and closes one of the alerts by hand.
"""

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
#: The alert of this rule is closed by hand so long after it was seen.
_CLOSED_RULE = "gauge-stuck"
_CLOSED_AFTER_S = 60.0
_LOOK_EVERY_S = 5.0
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
        simulation = Simulation(plan, EventTimeline.of(plan, start_us), log.info)
        sensors = sum(gateway.sensor_count for gateway in simulation.gateways)
        log.info("demo_started", gateways=len(simulation.gateways), sensors=sensors)
        async with asyncio.TaskGroup() as group:
            group.create_task(simulation.run())
            group.create_task(_log_address_after_replay(simulation))
            group.create_task(_set_expected_intervals(simulation))
            group.create_task(_close_by_hand(plan))
    except TimeoutError:
        log.warning("demo_not_started", reason=f"the server was not ready within {_READY_WITHIN_S:g} s")
    except Exception as error:
        log.error("demo_failed", exc_info=error)


async def _log_address_after_replay(simulation: Simulation) -> None:
    """Log the page's address again once the history is replayed, because the replay writes many log lines."""
    for gateway in simulation.gateways:
        await gateway.replayed.wait()
    log.info("demo_history_replayed", values=simulation.summarize().total.made, page=f"{simulation.plan.url}/")


async def _set_expected_intervals(simulation: Simulation) -> None:
    """Set how seldom the sensors report that report changes only, as an operator does: they are not silent."""
    async with _client(simulation.plan) as http:
        for gateway in simulation.gateways:
            await gateway.replayed.wait()
            for sensor in gateway.change_reporters:
                async with http.put(f"/api/v1/sensors/{sensor}", json={"expected_interval": "8h"}) as response:
                    log.info("demo_sensor_described", sensor=sensor, answer=response.status)


def _client(plan: Plan) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(plan.url, headers={"X-API-Key": plan.key})


async def _close_by_hand(plan: Plan) -> None:
    """Close the first alert of _CLOSED_RULE as a person would do who has replaced the gauge."""
    async with _client(plan) as http:
        alert = await _open_alert(http)
        while alert is None:
            await asyncio.sleep(_LOOK_EVERY_S)
            alert = await _open_alert(http)
        await asyncio.sleep(_CLOSED_AFTER_S)
        body = {"by": "ann", "note": "gauge replaced"}
        async with http.post(f"/api/v1/alerts/{alert}/close", json=body) as response:
            log.info("demo_alert_closed", alert=alert, answer=response.status)


async def _open_alert(http: aiohttp.ClientSession) -> int | None:
    """Return the id of an open alert of _CLOSED_RULE; None while there is none or the server does not answer."""
    try:
        async with http.get("/api/v1/alerts") as response:
            alerts = (await response.json())["items"] if response.status == 200 else []
    except (aiohttp.ClientError, TimeoutError):
        return None
    return next((alert["id"] for alert in alerts if alert["rule"] == _CLOSED_RULE), None)


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
