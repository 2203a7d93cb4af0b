"""An installation of real processes: APIs and workers, each with a proxy of its own between it and the database."""

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

from app.db.pool import Pool, open_pool
from tests.faults.gateways import Gateway, Load
from tests.faults.proxy import Proxy
from tests.faults.watchers import Follower, Leaders, Probe, at_work
from tests.ports import free_port
from tests.processes import ServerProcess, started
from tests.receivers import WebhookReceiver

#: One rule, whose alerts of each sensor are told in messages of their own. All are told, also those that are over.
RULES = """
version: 1
channels:
  ops: {{type: webhook, url: "{url}/ops"}}
rules:
  - name: high
    sensors: {{id: "alarm-*"}}
    levels: {{warning: {{above: 8}}, critical: {{above: 12}}}}
    clear: {{below: 6}}
    group_by: [sensor]
    remind_every: never
    late_data: {{accept: 7d, live: 15m, notify: normal}}
"""
#: Longest time from a signal to stop until the process has ended.
STOP_S = 20.0


class Process:
    """One API or worker. Its port, its folder and its proxy to the database stay the same when it starts again.

    Its wall clock can be set, see tests/stepped_clock.py, if it is `stepped`.
    """

    def __init__(self, folder: Path, dsn: str, command: str, stepped: bool = False, **environ: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.wire = Proxy(dsn)
        self.server: ServerProcess
        self._arguments = (command, f"--port={self.port}") if command == "work" else (command,)
        self._folder = folder
        self._environ = environ
        if stepped:
            folder.mkdir()
            self.set_clock(0.0)
            self._environ |= {"module": "tests.stepped_clock", "CLOCK_STEP_FILE": str(self._clock)}
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Start it, and its proxy the first time, without waiting until it is ready."""
        await self.wire.mend()
        environ = {"DATABASE_URL": self.wire.url, "LOG_FORMAT": "json", **self._environ}
        starting = started(self._folder, *self._arguments, port=self.port, **environ)
        self.server = await self._stack.enter_async_context(starting)

    @property
    def _clock(self) -> Path:
        return self._folder / "clock"

    def set_clock(self, ahead_s: float) -> None:
        """Set its wall clock ahead of the true time, or by a negative number behind it."""
        # In place, because the process has mapped the file.
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("d", ahead_s))

    def kill(self) -> None:
        """End it by kill -9."""
        self.server.process.kill()

    def freeze(self) -> None:
        """Stop its execution by SIGSTOP; its connections stay."""
        self.server.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self.server.process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Start it again after its end, and wait until it is ready."""
        await self.clear()
        await self.start()
        await self.server.until_ready()

    async def end(self) -> float:
        """Stop it by SIGTERM; return how long that took. Fail when its exit code is not 0."""
        began = monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.server.process.wait, 90)
        assert code == 0, self.server.err[-2_000:]
        return monotonic() - began

    async def clear(self) -> None:
        """Take away what is left of the process, killing it if it runs."""
        await self._stack.aclose()

    async def close(self) -> None:
        """Take away the process and its proxy."""
        await self.clear()
        await self.wire.close()


class Installation:
    """APIs, workers, gateways that send all the time, probes, a follower, and a receiver of alert messages."""

    def __init__(self, pool: Pool, apis: Sequence[Process], workers: Sequence[Process], seed: int) -> None:
        self.pool = pool
        self.apis = apis
        self.workers = workers
        self.receiver = WebhookReceiver()
        addresses = [api.address for api in apis]
        self.probes = [Probe(f"api {number}", address) for number, address in enumerate(addresses)]
        self.leaders = Leaders([worker.address for worker in workers])
        self.follower = Follower(addresses)
        self.seed = seed
        self.load: Load

    def gateways(self, count: int) -> list[Gateway]:
        """Make gateways that begin with different APIs."""
        addresses = [api.address for api in self.apis]
        turns = [addresses[n % len(addresses) :] + addresses[: n % len(addresses)] for n in range(count)]
        return [Gateway(f"g{number}", turn, self.seed) for number, turn in enumerate(turns)]

    async def until_steady(self, times: int = 3, timeout_s: float = 60) -> None:
        """Wait until every gateway has been acknowledged some more times."""
        await self.load.until_each_succeeded(monotonic(), times, timeout_s)


@asynccontextmanager
async def installed(
    folder: Path,
    dsn: str,
    *,
    apis: int = 1,
    workers: int = 0,
    gateways: int = 3,
    seed: int = 1,
    stepped: bool = False,
) -> AsyncIterator[Installation]:
    """Run an installation on a migrated database, under load, until the block ends."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(dsn, min_size=1, max_size=3)
        stack.callback(pool.terminate)
        rules = folder / "rules"
        rules.mkdir(exist_ok=True)
        environ = {"RULES_DIR": str(rules)}
        made = [
            [Process(folder / f"{command}-{number}", dsn, command, stepped, **environ) for number in range(count)]
            for command, count in (("serve", apis), ("work", workers))
        ]
        site = Installation(pool, made[0], made[1], seed)
        await stack.enter_async_context(site.receiver)
        (rules / "rules.yml").write_text(RULES.format(url=site.receiver.url))
        for process in (*site.apis, *site.workers):
            stack.push_async_callback(process.close)
            await process.start()
        for process in (*site.apis, *site.workers):
            await process.server.until_ready()
        await stack.enter_async_context(at_work(site.follower.run, site.leaders.run, *(p.run for p in site.probes)))
        await asyncio.wait_for(site.follower.is_ready.wait(), 30)
        site.load = Load(site.gateways(gateways))
        stack.push_async_callback(site.load.cancel)
        await site.until_steady()
        yield site


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to all of these processes that still run."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
