"""Bridge, broker, API and database are killed one after another while devices publish: nothing is lost or doubled."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.db.pool import Pool, connect, open_pool
from tests.conftest import YESTERDAY_AT_8_MS, copied, make_template
from tests.faults.victim import victim_server
from tests.mqtt.bridges import bridge, plan, stored, until_metric
from tests.mqtt.mosquitto import Mosquitto, mosquitto, needs_mosquitto
from tests.ports import free_port
from tests.processes import running

pytestmark = needs_mosquitto
BATCH = 20


class Device:
    """Publishes numbered readings, batch after batch, each until the broker has taken it."""

    def __init__(self, broker: Mosquitto) -> None:
        self.published = 0
        #: Held while a batch is published.
        self.turn = asyncio.Lock()
        self._broker = broker
        self._publishing = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        """Stop after the present batch."""
        async with self.turn:
            self._publishing.cancel()

    async def _publish(self) -> None:
        while True:
            async with self.turn:
                numbers = range(self.published, self.published + BATCH)
                lines = [json.dumps({"at": YESTERDAY_AT_8_MS + number, "n": number}) for number in numbers]
                await self._broker.publish_lines("timed/a", lines)
                self.published += BATCH
            await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_is_lost_or_doubled_when_everything_is_killed_in_turn(tmp_path: Path) -> None:
    with victim_server(tmp_path / "database") as victim:
        await make_template(victim.server.dsn, victim.template)
        async with copied(victim.server.dsn, victim.template) as dsn, AsyncExitStack() as stack:
            broker = await stack.enter_async_context(mosquitto(tmp_path))
            port = free_port()
            text, url = plan(broker.port, in_flight=50), f"http://127.0.0.1:{port}"
            api = await stack.enter_async_context(running(tmp_path / "api", "serve", port=port, DATABASE_URL=dsn))
            first = await stack.enter_async_context(bridge(tmp_path / "bridge", text, url))
            # A broker keeps messages for a session from its first subscription on.
            device = Device(broker)
            stack.push_async_callback(device.stop)
            await _until_more(dsn)
            first.kill()
            second = await stack.enter_async_context(bridge(tmp_path / "bridge", text, url))
            await _until_more(dsn)
            await _kill_broker(broker, device, dsn)
            await until_metric(second, "tidegauge_mqtt_connected", 1)
            await _until_more(dsn)
            api.kill()
            await stack.enter_async_context(running(tmp_path / "api", "serve", port=port, DATABASE_URL=dsn))
            await _until_more(dsn)
            victim.kill()
            await victim.start_again()
            await _until_more(dsn)
            await device.stop()
            async with asyncio.timeout(60):
                while len(await _stored(dsn)) < device.published:  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.1)
            expected = Counter(("a", "n", float(number)) for number in range(device.published))
            assert Counter(await _stored(dsn)) == expected
            assert "d1, q1" in broker.log


async def _kill_broker(broker: Mosquitto, device: Device, dsn: str) -> None:
    """Kill the broker and start it again, while 50 messages are in flight and more wait."""
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE feed IN EXCLUSIVE MODE")
            before = device.published
            async with asyncio.timeout(30):
                while device.published < before + 200:  # noqa: ASYNC110 -- no event
                    await asyncio.sleep(0.02)
            async with device.turn:
                # mosquitto writes to the disk after it has acknowledged, but before it takes another connection.
                await broker.publish("nobody", "listens")
                broker.kill()
                await broker.start()
    finally:
        await connection.close()


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
