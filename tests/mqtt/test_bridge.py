"""`tidegauge mqtt` between a real broker and a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import YESTERDAY, Database, Server
from tests.mqtt.mosquitto import Mosquitto, mosquitto, needs_mosquitto
from tests.processes import ServerProcess, free_port, running

pytestmark = needs_mosquitto

TOPICS = """
  - topic: "tele/{sensor}/SENSOR"
    time: Time
    timezone: UTC
  - {topic: "home/{room}/{sensor}/{metric}", payload: plain, words: {ON: 1, OFF: 0}}
"""


def plan(broker: Mosquitto, topics: str = TOPICS, more: str = "") -> str:
    """Return the text of a bridge's file."""
    return f"version: 1\nbroker:\n  address: mqtt://127.0.0.1:{broker.port}\n{more}topics:{topics}"


@asynccontextmanager
async def bridge(folder: Path, text: str, url: str, **environ: str) -> AsyncIterator[ServerProcess]:
    """Run the bridge until the block ends, and wait until it is ready."""
    folder.mkdir(exist_ok=True)
    (folder / "mqtt.yml").write_text(text)
    port = free_port()
    arguments = ("mqtt", "mqtt.yml", f"--url={url}", f"--port={port}")
    async with running(folder, *arguments, port=port, LOG_FORMAT="json", **environ) as process:
        yield process


async def stored(database: Database) -> list[tuple[str, str, float]]:
    """Return sensor, metric and value of all stored readings, in order of name and time."""
    rows = await database.pool.fetch(
        "SELECT sensor.name, metric, value FROM reading JOIN series ON series.id = series_id"
        " JOIN sensor ON sensor.id = sensor_id ORDER BY sensor.name, metric, time"
    )
    return [tuple(row) for row in rows]


async def until_stored(database: Database, count: int, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while await database.pool.fetchval("SELECT count(*) FROM reading") < count:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.02)


async def test_messages_become_readings(server: Server, database: Database, tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, bridge(tmp_path / "bridge", plan(broker), server.address):
        await broker.publish("tele/boiler/SENSOR", json.dumps({"Time": f"{YESTERDAY}T08:00:00", "DS": {"T": 61.5}}))
        await broker.publish("home/cellar/fridge/door", "ON")
        await broker.publish("home/cellar/fridge/temperature", "4.25")
        await until_stored(database, 3)
    assert await stored(database) == [
        ("boiler", "DS.T", 61.5),
        ("fridge", "door", 1.0),
        ("fridge", "temperature", 4.25),
    ]
    tags = await database.pool.fetchval("SELECT tags FROM sensor WHERE name = 'fridge'")
    assert json.loads(tags) if isinstance(tags, str) else tags == {"room": "cellar"}
