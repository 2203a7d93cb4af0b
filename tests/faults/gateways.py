"""Gateways as they should be: they send each batch until it is acknowledged, and remember each answer."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from random import Random
from time import monotonic
from typing import Any, NamedTuple

import aiohttp
import msgspec

from app.clock import now_us, rfc3339
from tests.conftest import API_KEY

#: Longer than an upload may take, so that one that takes too long is seen.
PATIENCE_S = 45.0
#: Numbers of readings in a batch: below and above that from which the writer uses COPY.
SIZES = (1, 8, 40, 160, 400)
BULK_SENSORS = 3

#: A reading: its sensor and its time as RFC 3339.
Key = tuple[str, str]


class Answer(NamedTuple):
    """What a gateway saw of one request; without a status, the connection failed."""

    at: float
    took_s: float
    status: int | None
    retry_after: str | None = None
    #: The answer's text, or what went wrong with the connection.
    body: str = ""

    @property
    def was_cut(self) -> bool:
        """Return whether the request waited for a while and was then left without an answer."""
        return self.status is None and self.took_s > 1


class Gateway:
    """Sends numbered readings without end: one of a sensor `alarm-…` and some of other sensors in each batch.

    It sends to one address until that fails, then to the next.
    """

    def __init__(self, name: str, addresses: Sequence[str], seed: int, pause_s: float = 0.15) -> None:
        self.name = name
        self.answers: list[Answer] = []
        #: All acknowledged readings with their values.
        self.acknowledged: dict[Key, float] = {}
        self._addresses = list(addresses)
        self._pause_s = pause_s
        self._rng = Random(f"{seed} {name}")
        self._level = 7.0
        self._numbers = iter(range(2**62))
        self._epoch_us = now_us() - 3_600_000_000
        self._last_us = 0

    async def run(self, is_over: asyncio.Event) -> None:
        """Send batch after batch; once `is_over`, finish the present one."""
        timeout = aiohttp.ClientTimeout(PATIENCE_S)
        async with aiohttp.ClientSession(headers={"X-API-Key": API_KEY}, timeout=timeout) as http:
            while not is_over.is_set():
                readings = list(self.make_batch())
                await self.send(http, readings)
                await asyncio.sleep(self._pause_s * self._rng.uniform(0.5, 1.5))

    async def send(self, http: aiohttp.ClientSession, readings: Sequence[dict[str, Any]]) -> None:
        """Send readings until they are acknowledged."""
        body = msgspec.json.encode(readings)
        while True:
            answer = await post(http, self._addresses[0], body)
            self.answers.append(answer)
            if answer.status == 200:
                break
            self._addresses.append(self._addresses.pop(0))
            await asyncio.sleep(min(float(answer.retry_after or 0.3), 1.0))
        for reading in readings:
            (value,) = reading["values"].values()
            self.acknowledged[reading["sensor"], reading["time"]] = value

    def make_batch(self, size: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the readings of a batch. Times of a sensor never repeat; those of alarms are the present."""
        self._last_us = max(now_us(), self._last_us + 1)
        self._level = min(15.0, max(0.0, self._level + self._rng.gauss(0, 2)))
        yield _reading(f"alarm-{self.name}", self._last_us, round(self._level, 2))
        for _ in range(self._rng.choice(SIZES) if size is None else size):
            number = next(self._numbers)
            sensor = f"bulk-{self.name}-{number % BULK_SENSORS}"
            yield _reading(sensor, self._epoch_us + 100 * number, round(math.sin(number), 4))


class Load:
    """Some gateways at work, and what all of them saw."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self.gateways = gateways
        self._is_over = asyncio.Event()
        self._tasks = [asyncio.create_task(gateway.run(self._is_over)) for gateway in gateways]

    @property
    def acknowledged(self) -> dict[Key, float]:
        """Return all acknowledged readings with their values."""
        return {key: value for gateway in self.gateways for key, value in gateway.acknowledged.items()}

    @property
    def answers(self) -> list[Answer]:
        """Return all answers in order of time."""
        return sorted(answer for gateway in self.gateways for answer in gateway.answers)

    def successes(self, since: float) -> list[Answer]:
        """Return the acknowledgements since a moment."""
        return [answer for answer in self.answers if answer.status == 200 and answer.at >= since]

    async def until_each_succeeded(self, since: float, times: int = 2, timeout_s: float = 60) -> None:
        """Wait until every gateway has been acknowledged so often since a moment."""
        async with asyncio.timeout(timeout_s):
            while any(_count(gateway, since) < times for gateway in self.gateways):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """Wait until every gateway has finished its present batch."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        """Stop all gateways at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def post(http: aiohttp.ClientSession, address: str, body: bytes) -> Answer:
    """Post a body to the readings of an address and return the answer."""
    began = monotonic()
    try:
        async with http.post(f"{address}/api/v1/readings", data=body) as response:
            text = await response.text()
            at = monotonic()
            return Answer(at, at - began, response.status, response.headers.get("Retry-After"), text)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        at = monotonic()
        return Answer(at, at - began, None, None, repr(error))


def _count(gateway: Gateway, since: float) -> int:
    return sum(answer.status == 200 and answer.at >= since for answer in gateway.answers)


def _reading(sensor: str, time_us: int, value: float) -> dict[str, Any]:
    return {"sensor": sensor, "time": rfc3339(time_us), "values": {"level": value}}
