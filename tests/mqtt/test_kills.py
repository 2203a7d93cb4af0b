"""Bridge, broker, API and database are killed one after another while devices publish: nothing is lost or doubled."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.db.pool import Pool, open_pool
from tests.conftest import YESTERDAY_AT_8_MS, copied, make_template
from tests.faults.victim import victim_server
from tests.mqtt.bridges import bridge, plan, stored, until_metric
from tests.mqtt.mosquitto import Mosquitto, mosquitto, needs_mosquitto
from tests.processes import free_port, running

pytestmark = needs_mosquitto
BATCH = 20


class Device:
    """Publishes numbered readings, batch after batch, each until the broker has taken it."""

    def __init__(self, broker: Mosquitto) -> None:
        self.published = 0
        self.retries = 0
        self._broker = broker
        self._is_over = False
        self._publishing = asyncio.create_task(self._publish())

    async def finish(self) -> None:
        """Wait until the present batch is published."""
        self._is_over = True
        await self._publishing

    def cancel(self) -> None:
        """Stop at once."""
        self._publishing.cancel()

    async def _publish(self) -> None:
        while not self._is_over:
            numbers = range(self.published, self.published + BATCH)
            lines = [json.dumps({"at": YESTERDAY_AT_8_MS + number, "n": number}) for number in numbers]
            try:
                await self._broker.publish_lines("timed/a", lines)
            except AssertionError:
                self.retries += 1
                await asyncio.sleep(0.1)
            else:
                self.published += BATCH


@pytest.mark.timeout(240)
async def test_nothing_is_lost_or_doubled_when_everything_is_killed_in_turn(tmp_path: Path) -> None:
    with victim_server(tmp_path / "database") as victim:
        await make_template(victim.server.dsn, victim.template)
        async with copied(victim.server.dsn, victim.template) as dsn, AsyncExitStack() as stack:
            broker = await stack.enter_async_context(mosquitto(tmp_path))
            port = free_port()
            text, url = plan(broker.port, in_flight=50), f"http://127.0.0.1:{port}"
            api = await stack.enter_async_context(running(tmp_path / "api", "serve", port=port, DATABASE_URL=dsn))
            one = await stack.enter_async_context(bridge(tmp_path / "bridge", text, url))
            # A broker keeps messages for a session from its first subscription on.
            device = Device(broker)
            stack.callback(device.cancel)
            await _until_more(dsn)
            one.kill()
            two = await stack.enter_async_context(bridge(tmp_path / "bridge", text, url))
            await _until_more(dsn)
            broker.kill()
            await broker.start()
            await until_metric(two, "tidegauge_mqtt_connected", 1)
            await _until_more(dsn)
            api.kill()
            await stack.enter_async_context(running(tmp_path / "api", "serve", port=port, DATABASE_URL=dsn))
            await _until_more(dsn)
            victim.kill()
            await victim.start_again()
            await _until_more(dsn)
            await device.finish()
            expected = Counter(("a", "n", float(number)) for number in range(device.published))
            async with asyncio.timeout(60):
                while len(await _stored(dsn)) < device.published:  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.1)
            assert Counter(await _stored(dsn)) == expected
            assert device.retries > 0


async def _until_more(dsn: str) -> None:
    """Wait until a hundred readings more are stored."""
    enough = len(await _stored(dsn)) + 100
    async with asyncio.timeout(60):
        while len(await _stored(dsn)) < enough:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.05)


async def _stored(dsn: str) -> list[tuple[str, str, float]]:
    pool: Pool = await open_pool(dsn, min_size=1, max_size=1)
    try:
        return await stored(pool)
    finally:
        pool.terminate()
