"""`tidegauge mqtt` as a process, its file, and what it has stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.db.pool import Pool
from tests.mqtt.mosquitto import Mosquitto
from tests.ports import free_port
from tests.processes import ServerProcess, running, started

#: One topic whose messages have a time, and one whose messages have none.
TOPICS = """
  - {topic: "timed/{sensor}", time: at}
  - {topic: "plain/{sensor}/{metric}", payload: plain, words: {ON: 1, OFF: 0}}
"""


def plan(port: int, topics: str = TOPICS, **broker: object) -> str:
    """Return the text of a file for a broker on a port of this machine."""
    settings = {"address": f"mqtt://127.0.0.1:{port}", **broker}
    lines = "".join(f"  {name}: {value}\n" for name, value in settings.items())
    return f"version: 1\nbroker:\n{lines}gateway: mqtt\ntopics:{topics}"


@asynccontextmanager
async def bridge(folder: Path, text: str, url: str, waits: bool = True, **environ: str) -> AsyncIterator[ServerProcess]:
    """Run the bridge until the block ends; wait until it is ready if `waits`."""
    folder.mkdir(exist_ok=True)
    (folder / "mqtt.yml").write_text(text)
    port = free_port()
    arguments = ("mqtt", f"--url={url}", f"--port={port}")
    run = running if waits else started
    async with run(folder, *arguments, port=port, LOG_FORMAT="json", **environ) as process:
        yield process


async def stored(pool: Pool) -> list[tuple[str, str, float]]:
    """Return sensor, metric and value of all stored readings, in order of names and time."""
    rows = await pool.fetch(
        "SELECT sensor.name, metric, value FROM reading JOIN series ON series.id = series_id"
        " JOIN sensor ON sensor.id = sensor_id ORDER BY sensor.name, metric, time"
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def until_stored(pool: Pool, count: int, timeout_s: float = 30) -> None:
    """Wait until so many values are stored."""
    async with asyncio.timeout(timeout_s):
        while await pool.fetchval("SELECT count(*) FROM reading") < count:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.02)


async def until_logged(process: ServerProcess, event: str, timeout_s: float = 30) -> dict[str, object]:
    """Wait until a process has logged an event, and return its line."""
    async with asyncio.timeout(timeout_s):
        while True:
            for line in process.log:
                if line["event"] == event:
                    return line
            await asyncio.sleep(0.02)


async def metric(process: ServerProcess, name: str) -> float:
    """Return one of the bridge's metrics."""
    async with process.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def until_metric(process: ServerProcess, name: str, value: float, timeout_s: float = 30) -> None:
    """Wait until one of the bridge's metrics has a value."""
    async with asyncio.timeout(timeout_s):
        while await metric(process, name) != value:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.02)


def outcome(name: str) -> str:
    """Return the name of the counter of messages with this outcome."""
    return f'tidegauge_mqtt_messages_total{{outcome="{name}"}}'


def in_flight(broker: Mosquitto) -> int:
    """Return how often the broker has sent a message more than it was acknowledged."""
    return broker.log.count("Sending PUBLISH to tidegauge") - broker.log.count("Received PUBACK from tidegauge")


async def until_in_flight(broker: Mosquitto, count: int, timeout_s: float = 20) -> None:
    """Wait until so many of the messages that the broker has sent are not acknowledged."""
    async with asyncio.timeout(timeout_s):
        while in_flight(broker) != count:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.02)
