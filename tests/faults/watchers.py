"""Those who look at an installation from outside all the time: probes of health, and a follower of the live feed."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, NamedTuple

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.conftest import API_KEY_WS
from tests.faults.gateways import Key

_EVERY_S = 0.25
#: Longer than a probe may take, so that one that takes too long is seen.
_PATIENCE_S = 15.0


class Look(NamedTuple):
    """What one probe of /health/ready saw; without a status, nobody answered."""

    at: float
    took_s: float
    status: int | None
    body: dict[str, Any]


class Probe:
    """Looks at /health/ready of one process again and again."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.looks: list[Look] = []
        self._address = address

    async def run(self) -> None:
        """Look for ever."""
        timeout = aiohttp.ClientTimeout(_PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                self.looks.append(await self._look(http))
                await asyncio.sleep(_EVERY_S)

    async def _look(self, http: aiohttp.ClientSession) -> Look:
        began = monotonic()
        try:
            async with http.get(f"{self._address}/health/ready") as response:
                body = await response.json(content_type=None)
                return Look(began, monotonic() - began, response.status, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return Look(began, monotonic() - began, None, {})

    def first(self, status: int, since: float) -> float | None:
        """Return how long after `since` a look first saw this status."""
        return next((look.at - since for look in self.looks if look.at >= since and look.status == status), None)


class Leaders:
    """Asks all workers at the same time, again and again, who of them is the leader."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        #: Moments with the numbers of the workers that called themselves leader, each from one round of questions.
        self.rounds: list[tuple[float, list[int]]] = []

    async def run(self) -> None:
        """Ask for ever."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as http:
            while True:
                at = monotonic()
                said = await asyncio.gather(*(_is_leader(http, address) for address in self._addresses))
                self.rounds.append((at, [number for number, leads in enumerate(said) if leads]))
                await asyncio.sleep(_EVERY_S)

    def latest(self) -> list[int]:
        """Return the leaders of the last round."""
        return self.rounds[-1][1] if self.rounds else []

    async def until(self, condition: Callable[[list[int]], bool], timeout_s: float = 60) -> float:
        """Wait until the leaders of a new round meet a condition; return when that was."""
        seen = len(self.rounds)
        async with asyncio.timeout(timeout_s):
            while not (len(self.rounds) > seen and condition(self.latest())):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.02)
        return self.rounds[-1][0]


class Follower:
    """A client of the live feed that misses nothing: it connects again with its cursor, to the next address."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.seen = Counter[Key]()
        self.alerts = Counter[str]()
        self.resyncs = 0
        self.omitted = 0
        self.is_ready = asyncio.Event()
        self._addresses = list(addresses)
        self._cursor: str | None = None

    async def run(self) -> None:
        """Follow the feed for ever."""
        while True:
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                await self._follow(self._addresses[0].replace("http", "ws"))
            self._addresses.append(self._addresses.pop(0))
            await asyncio.sleep(0.2)

    async def _follow(self, address: str) -> None:
        headers = {"X-API-Key": API_KEY_WS}
        url = f"{address}/ws/live"
        async with connect(url, additional_headers=headers, open_timeout=10, ping_interval=5, ping_timeout=5) as feed:
            await feed.send(json.dumps({"type": "subscribe", "alerts": True, "resume": self._cursor}))
            async for text in feed:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        self.resyncs += message["type"] == "resync"
        self._cursor = message.get("cursor", self._cursor)
        self.is_ready.set()
        if message["type"] == "readings":
            self.seen.update((reading["sensor"], reading["time"]) for reading in message["readings"])
            self.omitted += message.get("truncated", {}).get("omitted", 0)
        elif message["type"] == "alert":
            self.alerts[str(message)] += 1


@asynccontextmanager
async def at_work(*work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run all of these until the block ends; when one fails, its error ends the block."""
    tasks = [asyncio.ensure_future(each()) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _is_leader(http: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with http.get(f"{address}/health/ready") as response:
            return bool((await response.json(content_type=None)).get("leader"))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
