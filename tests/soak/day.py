"""A day of 200 sensors under the example rules, as fast as it goes: the memory of the API and the worker stays flat."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec

from app.clock import HOUR_US, MINUTE_US, now_us, rfc3339
from tests.bench.usage import held_mb
from tests.conftest import copied, make_template, project_folder
from tests.faults.installation import Process
from tests.faults.victim import victim_server
from tests.soak.totals import Totals

PART = "day"
SENSORS = 200
GATEWAYS = 10
HOURS = 24
#: Event time between two readings of a sensor, and between two uploads of a gateway.
EVERY_US = 30_000_000
BATCH_US = 10 * MINUTE_US
#: What a process may hold more in the last third of the day than in the second.
GROWTH_MB = 10.0
_BARS = "▁▂▃▄▅▆▇█"


async def run(totals: Totals) -> None:
    """Replay the day; print what both processes held after each hour of it; raise AssertionError if it grew."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        victim = stack.enter_context(victim_server(folder / "server"))
        await make_template(victim.server.dsn, victim.template)
        dsn = await stack.enter_async_context(copied(victim.server.dsn, victim.template))
        rules: dict[str, Any] = {"RULES_DIR": str(project_folder() / "rules")}
        api, worker = Process(folder / "api", dsn, "serve", **rules), Process(folder / "worker", dsn, "work", **rules)
        for process in (api, worker):
            stack.push_async_callback(process.close)
            await process.start()
            await process.server.until_ready()
        held = [[held_mb(process.server.process.pid) for process in (api, worker)] async for _ in _replay(api, dsn)]
    seed = totals.next_seed(PART)
    curves = dict(zip(("API", "worker"), zip(*held, strict=True), strict=True))
    for name, curve in curves.items():
        print(f"{name}: {_draw(curve)} {min(curve):.0f} to {max(curve):.0f} MB, at the end {curve[-1]:.0f} MB")
    third = HOURS // 3
    grown = {name: max(curve[-third:]) - max(curve[third:-third]) for name, curve in curves.items()}
    passed = max(grown.values()) <= GROWTH_MB
    totals.add(PART, seed, f"{HOURS} hours of {SENSORS} sensors", passed=passed)
    assert passed, grown


async def _replay(api: Process, dsn: str) -> Any:
    """Upload the day hour by hour; yield after each hour, once it is evaluated."""
    rng, start_us = Random(0), now_us() - HOURS * HOUR_US
    connection = await asyncpg.connect(dsn)
    try:
        for hour in range(HOURS):
            for batch_us in range(start_us + hour * HOUR_US, start_us + (hour + 1) * HOUR_US, BATCH_US):
                for gateway in range(GATEWAYS):
                    body = msgspec.json.encode(
                        {"gateway": f"gw-{gateway}", "readings": list(_batch(rng, gateway, batch_us))}
                    )
                    async with api.server.http.post("/api/v1/readings", data=body) as response:
                        assert response.status == 200, await response.text()
            while await connection.fetchval("SELECT EXISTS (SELECT FROM dirty)"):
                await connection.execute("SELECT pg_sleep(0.1)")
            yield hour
    finally:
        connection.terminate()


def _batch(rng: Random, gateway: int, start_us: int) -> Iterator[dict[str, Any]]:
    """Yield the readings of the sensors of a gateway, in order of time; some cross the limits of the rules."""
    for at_us in range(start_us, start_us + BATCH_US, EVERY_US):
        for sensor in range(gateway, SENSORS, GATEWAYS):
            warm = 22 + 12 * math.sin(at_us / HOUR_US + sensor) + rng.gauss(0, 0.5)
            values = {"temperature": round(warm, 2), "humidity": round(50 + rng.gauss(0, 5), 1), "pressure": 1013.2}
            yield {
                "sensor": f"room-{sensor}",
                "time": rfc3339(at_us),
                "values": values,
                "tags": {"site": f"s{gateway}"},
            }


def _draw(curve: tuple[float, ...]) -> str:
    low, high = min(curve), max(curve) + 1
    return "".join(_BARS[int((held - low) / (high - low) * len(_BARS))] for held in curve)
