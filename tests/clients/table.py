"""The table of clients: what each sent, sent again and read back while server and database were killed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from app.clock import now_us
from app.db.pool import Pool, open_pool
from tests.clients.bodies import FORMS, Reading
from tests.clients.lossy import LossyProxy
from tests.clients.senders import (
    InfluxPython,
    InfluxPythonOne,
    MosquittoPub,
    Scraped,
    Sender,
    WithTelegrafRules,
    influx_node,
    prometheus,
)
from tests.conftest import API_KEY, copied, make_template
from tests.faults.victim import VictimServer, victim_server
from tests.mqtt.bridges import bridge, plan
from tests.mqtt.mosquitto import is_installed, mosquitto
from tests.ports import free_port
from tests.processes import ServerProcess, running

HEADS = ("client", "sent", "retried", "read back", "lost", "doubled")
BATCH = 20
_READ_BACK = """
SELECT count(*), count(DISTINCT value)
FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
WHERE metric = 'n' AND split_part(sensor.name, ',', 1) = $1
"""


class Row(msgspec.Struct, frozen=True):
    """What became of the readings of one client."""

    client: str
    sent: int
    #: Requests that were sent again.
    retried: int
    read_back: int
    doubled: int

    @property
    def lost(self) -> int:
        """Return how many were sent and not stored."""
        return self.sent - self.read_back

    def __str__(self) -> str:
        return f"| {self.client} | {self.sent} | {self.retried} | {self.read_back} | {self.lost} | {self.doubled} |"


class Run:
    """All clients at work, each with batches of its own; their readings are a millisecond apart and count from 0."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self.sent = dict.fromkeys((sender.name for sender in senders), 0)
        self._senders = senders
        self._start_ms = now_us() // 1_000 - 3_600_000
        self.to_poison: set[str] = set()
        self._is_over = False

    async def work(self) -> None:
        """Let each client send batch after batch until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for sender in self._senders:
                tasks.create_task(self._send(sender))

    def poison(self) -> None:
        """Let each client send what is refused, before its next batch."""
        self.to_poison = {sender.name for sender in self._senders}

    def stop(self) -> None:
        """Let each client end after its present batch."""
        self._is_over = True

    async def until_each_sent_more(self, batches: int = 3) -> None:
        """Wait until each client has sent so many batches more."""
        enough = {name: count + batches * BATCH for name, count in self.sent.items()}
        async with asyncio.timeout(90):
            while any(self.sent[name] < count for name, count in enough.items()):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.05)

    async def _send(self, sender: Sender) -> None:
        while not self._is_over:
            if sender.name in self.to_poison:
                await sender.poison()
                self.to_poison.discard(sender.name)
            first = self.sent[sender.name]
            readings: list[Reading] = [(self._start_ms + n, n) for n in range(first, first + BATCH)]
            await sender.send(readings)
            self.sent[sender.name] += BATCH
            await asyncio.sleep(0.05)


async def measure(folder: Path) -> list[Row]:
    """Run every client that is installed against real processes, with faults; return its row."""
    with victim_server(folder / "database") as victim:
        await make_template(victim.server.dsn, victim.template)
        async with copied(victim.server.dsn, victim.template) as dsn:
            return await _measure(folder, victim, dsn)


async def _measure(folder: Path, victim: VictimServer, dsn: str) -> list[Row]:
    port = free_port()
    proxy = LossyProxy(f"http://127.0.0.1:{port}")
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(running(folder / "api", "serve", port=port, DATABASE_URL=dsn))
        await stack.enter_async_context(proxy.running())
        scraped = await _scraped(folder, proxy.url, stack)
        by_broker = await _by_broker(folder, proxy.url, stack)
        async with AsyncExitStack() as senders_stack:
            senders = [*await _senders(proxy.url, senders_stack), *by_broker]
            run = Run(senders)
            working = await senders_stack.enter_async_context(_at_work(run))
            await run.until_each_sent_more()
            await _fail(folder, proxy, api, port, victim, dsn, run, stack)
            # The next batch of each client is stored although the server refused one.
            run.poison()
            await run.until_each_sent_more()
            assert not run.to_poison
            run.stop()
            await working
        if scraped is not None:
            scraped.stop()
        sent = [(sender.name, sender.sensor, run.sent[sender.name], sender.sensor) for sender in senders]
        if scraped is not None:
            sent.append((scraped.name, scraped.sensor, scraped.scrapes, "/api/v1/write"))
        pool = await open_pool(dsn, min_size=1, max_size=2)
        stack.callback(pool.terminate)
        return [
            Row(name, count, proxy.retries(mark), *await _read_back(pool, sensor, count))
            for name, sensor, count, mark in sent
        ]


@asynccontextmanager
async def _at_work(run: Run) -> AsyncIterator[asyncio.Task[None]]:
    """Let the clients work until the block ends; a client that fails ends the block."""
    async with asyncio.TaskGroup() as tasks:
        yield tasks.create_task(run.work())


async def _fail(
    folder: Path,
    proxy: LossyProxy,
    api: ServerProcess,
    port: int,
    victim: VictimServer,
    dsn: str,
    run: Run,
    stack: AsyncExitStack,
) -> None:
    """Let answers get lost for two seconds, kill the API, then the database, and start each again."""
    proxy.loses = True
    await asyncio.sleep(2)
    proxy.loses = False
    await run.until_each_sent_more()
    api.kill()
    await stack.enter_async_context(running(folder / "api", "serve", port=port, DATABASE_URL=dsn))
    await run.until_each_sent_more()
    victim.kill()
    await victim.start_again()
    await run.until_each_sent_more()


async def _by_broker(folder: Path, url: str, stack: AsyncExitStack) -> list[Sender]:
    if not is_installed():
        return []
    broker = await stack.enter_async_context(mosquitto(folder))
    await stack.enter_async_context(bridge(folder / "bridge", plan(broker.port), url))
    return [MosquittoPub(broker)]


async def _senders(url: str, stack: AsyncExitStack) -> list[Sender]:
    http = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"X-API-Key": API_KEY}, timeout=aiohttp.ClientTimeout(60))
    )
    node = await stack.enter_async_context(influx_node(url))
    return [InfluxPython(url), InfluxPythonOne(url), node, *(WithTelegrafRules(form, url, http) for form in FORMS)]


async def _scraped(folder: Path, url: str, stack: AsyncExitStack) -> Scraped | None:
    if shutil.which("prometheus") is None:
        return None
    return await stack.enter_async_context(prometheus(folder, url))


async def _read_back(pool: Pool, sensor: str, sent: int) -> tuple[int, int]:
    """Return how many different readings are stored, and how many more than once; wait up to 20 s for the last ones."""
    for _ in range(200):
        row = await pool.fetchrow(_READ_BACK, sensor)
        assert row is not None
        count, distinct = row
        if distinct >= sent:
            break
        await asyncio.sleep(0.1)
    return distinct, count - distinct


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a table of Markdown."""
    return "\n".join([f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}", *map(str, rows)])
