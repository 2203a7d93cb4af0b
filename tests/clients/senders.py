"""Clients of other systems, each of which keeps what it sends until it is written, by the rules of its own."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import influxdb
import influxdb.exceptions
import pytest
import requests
from aiohttp import web
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write.retry import WritesRetry
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from tests.clients.bodies import Form, Reading
from tests.conftest import API_KEY
from tests.mqtt.mosquitto import Mosquitto
from tests.npm import install, program

#: What is no line of line protocol, and a line whose value no reading may have.
POISONED_LINES = ("broken line of nothing", "n,sensor=poison value=1e300")
_PAUSE_S = 0.1


class Sender(Protocol):
    """One client, which writes readings of one sensor."""

    name: str
    #: Of what it sends.
    sensor: str

    async def send(self, readings: Sequence[Reading]) -> None:
        """Write readings; return when they are written, or when the client keeps them to do it later."""
        ...

    async def poison(self) -> None:
        """Send what the server must refuse."""
        ...


class InfluxPython:
    """`influxdb-client`, the official client of version 2 for Python, with its retries."""

    name = "influxdb-client (Python, v2)"
    sensor = "influx-v2"

    def __init__(self, url: str) -> None:
        retries = WritesRetry(
            total=1_000,
            retry_interval=0.1,
            max_retry_delay=1,
            max_retry_time=120,
            jitter_interval=0,
            allowed_methods=["POST"],
        )
        self._client = InfluxDBClient(url, token=API_KEY, org="any", retries=retries)
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)

    async def send(self, readings: Sequence[Reading]) -> None:
        """Write a point for each reading."""
        points = [Point("n").tag("sensor", self.sensor).field("value", float(n)).time(ms, "ms") for ms, n in readings]
        await asyncio.to_thread(self._writer.write, "any", record=points, write_precision="ms")

    async def poison(self) -> None:
        """Write lines that are refused."""
        for line in POISONED_LINES:
            with pytest.raises(ApiException, match=r"\((400|422)\)"):
                await asyncio.to_thread(self._writer.write, "any", record=line)


class InfluxPythonOne:
    """`influxdb`, the official client of version 1 for Python, whose users send again what it raises."""

    name = "influxdb (Python, v1)"
    sensor = "influx-v1"

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the client itself
            self._client = influxdb.InfluxDBClient(address.hostname, address.port, "any", API_KEY, "any", timeout=20)

    async def send(self, readings: Sequence[Reading]) -> None:
        """Write a point for each reading, until that succeeds."""
        tags = {"sensor": self.sensor}
        points = [{"measurement": "n", "tags": tags, "time": ms, "fields": {"value": float(n)}} for ms, n in readings]
        while True:
            try:
                await asyncio.to_thread(self._write, points)
            except (influxdb.exceptions.InfluxDBServerError, requests.exceptions.RequestException):
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def poison(self) -> None:
        """Write lines that are refused."""
        for line in POISONED_LINES:
            with pytest.raises(influxdb.exceptions.InfluxDBClientError, match=r"^(400|422)"):
                await asyncio.to_thread(self._client.write, [line], {"db": "any"}, 204, "line")

    def _write(self, points: list[dict[str, Any]]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._client.write_points(points, time_precision="ms")


class InfluxNode:
    """`@influxdata/influxdb-client`, the official client for JavaScript, with its buffer of retries."""

    name = "@influxdata/influxdb-client (Node, v2)"
    sensor = "influx-js"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, readings: Sequence[Reading]) -> None:
        """Send readings to it."""
        await self._tell({"readings": readings})

    async def poison(self) -> None:
        """Let it write lines that are refused."""
        for line in POISONED_LINES:
            await self._tell({"poison": line})

    async def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        await self._process.stdin.drain()
        assert await self._process.stdout.readline() == b"written\n"


@asynccontextmanager
async def influx_node(url: str) -> AsyncIterator[InfluxNode]:
    """Run the client in Node; at the end of the block it writes what it still has."""
    folder = Path(__file__).parent
    await asyncio.to_thread(install, folder)
    process = await asyncio.create_subprocess_exec(
        *(program("node"), "influx.mjs", url, API_KEY, InfluxNode.sensor),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it warns of each write that failed
    )
    assert process.stdin is not None
    try:
        yield InfluxNode(process)
        process.stdin.close()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class MosquittoPub:
    """`mosquitto_pub`, whose messages come by the broker and `tidegauge mqtt`."""

    name = "mosquitto_pub, by tidegauge mqtt"
    sensor = "mosquitto"

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker

    async def send(self, readings: Sequence[Reading]) -> None:
        """Publish a message for each reading."""
        await self._broker.publish_lines(f"timed/{self.sensor}", [json.dumps({"at": ms, "n": n}) for ms, n in readings])

    async def poison(self) -> None:
        """Publish what is no JSON, and a time that is none."""
        await self._broker.publish_lines("timed/poison", ["{broken", '{"at": "never", "n": 1}', '{"n": 1e300}'])


class WithTelegrafRules:
    """A client that treats answers as Telegraf's outputs do, for bodies of systems that cannot run here."""

    def __init__(self, form: Form, url: str, http: aiohttp.ClientSession) -> None:
        self.name = form.name
        self.sensor = "".join(letter if letter.isalnum() else "-" for letter in form.name.lower())
        self._form = form
        self._url = url
        self._http = http
        self.dropped = 0

    async def send(self, readings: Sequence[Reading]) -> None:
        """Send readings until they are taken or dropped."""
        waiting = [readings[n : n + self._form.most] for n in range(0, len(readings), self._form.most)]
        while waiting:
            part = waiting[0]
            status = await self._post(self._form.encode(self.sensor, part))
            if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(part) > 1:
                waiting[:1] = [part[: len(part) // 2], part[len(part) // 2 :]]
            elif status in (200, 204):
                waiting.pop(0)
            elif status in (400, 406, 422):
                self.dropped += len(waiting.pop(0))
            else:  # 401, 403, 429, 502, 503, 504, or no answer
                await asyncio.sleep(_PAUSE_S)

    async def poison(self) -> None:
        """Send bodies that are refused for good, which are dropped."""
        for body in self._form.poisons:
            assert await self._post(body) in (200, 400, 422), body

    async def _post(self, body: bytes) -> int | None:
        try:
            async with self._http.post(f"{self._url}{self._form.path}", data=body) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None


class Scraped:
    """A target of Prometheus, which writes what it scrapes: each scrape is one reading, and one in ten has no value."""

    name = "prometheus, agent mode"
    sensor = "prometheus"

    def __init__(self) -> None:
        self.url = ""
        self.scrapes = 0
        self._is_over = False

    async def send(self, readings: Sequence[Reading]) -> None:
        """Do nothing: Prometheus comes by itself."""

    async def poison(self) -> None:
        """Do nothing: each scrape has a sample that is refused."""

    def stop(self) -> None:
        """Show nothing any more."""
        self._is_over = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        app = web.Application()
        app.router.add_get("/metrics", self._show)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _show(self, _request: web.Request) -> web.Response:
        if self._is_over:
            return web.Response(status=503)
        self.scrapes += 1
        return web.Response(text=f'n{{sensor="prometheus"}} {self.scrapes - 1}\npoison{{sensor="prometheus"}} +Inf\n')


@asynccontextmanager
async def prometheus(folder: Path, url: str) -> AsyncIterator[Scraped]:
    """Run Prometheus in agent mode, which scrapes twice a second, until the block ends."""
    scraped = Scraped()
    async with scraped.running():
        config = folder / "prometheus.yml"
        config.write_text(
            f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: clients
    honor_labels: true
    static_configs: [{{targets: ["{scraped.url}"]}}]
remote_write:
  - url: {url}/api/v1/write
    authorization: {{credentials: {API_KEY}}}
    queue_config: {{batch_send_deadline: 200ms, max_backoff: 1s}}
"""
        )
        process = await asyncio.create_subprocess_exec(
            *("prometheus", "--enable-feature=agent", f"--config.file={config}", "--web.listen-address=127.0.0.1:0"),
            f"--storage.agent.path={folder}",
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield scraped
        finally:
            process.terminate()
            await process.wait()
