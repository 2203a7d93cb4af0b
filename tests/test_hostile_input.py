"""Whatever a client sends to any route, or does not send to the end: never a 5xx, and an answer within two seconds."""

import asyncio
import io
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from app.clock import now_us
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api, wait_until
from tests.hostile import URL_TEXTS, HostileRequest, address_of, requests_of
from tests.receivers import SlackReceiver, TelegramReceiver
from tests.test_openapi import OPERATIONS

PARTS = 4
#: What is served beside the routes of the document.
WITHOUT_DOCUMENT = ("/", "/static/", "/schema/", "/ws/live?", "/ws/sensor_updates?api-key=")
VALID = {
    "name": "pi1",
    "sensor": "pi1",
    "metric": "temperature",
    "alert_id": "1",
    "silence_id": "1",
    "notification_id": "1",
    "key": API_KEY,
}
#: The answer where a worker is needed, and none runs, whatever else is sent.
WITHOUT_WORKER = '{"type":"/problems/worker_away"'


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_route_answers_5xx_when_a_parameter_or_field_is_hostile(
    database: Database, slack: SlackReceiver, telegram: TelegramReceiver, part: int
) -> None:
    settings = Settings(
        database_url=database.dsn,
        api_key=API_KEY,
        api_key_ws=API_KEY_WS,
        slack_webhook_prefix=slack.prefix,
        telegram_api_base=telegram.url,
    )
    async with running_api(settings, Worker(settings)) as server:
        reading = {"sensor": "pi1", "time": now_us() // 1_000 - 1_000, "values": {"temperature": 21.5}}
        assert (await server.post_readings([reading])).status == 200
        requests = [
            request
            for operation in OPERATIONS
            for request in requests_of(operation.method, operation.path, operation.spec, VALID)
        ]
        requests += [HostileRequest("get", path + text) for path in WITHOUT_DOCUMENT for text in URL_TEXTS]
        requests = requests[part::PARTS]
        limit = asyncio.Semaphore(3)
        with capture_logs() as lines:
            answers = await asyncio.gather(*(_send(server, request, limit) for request in requests))
        assert [answer for answer in answers if answer.is_fault] == []
        assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
        slow = [answer.request for answer in answers if answer.seconds >= 2]
        again = [await _send(server, request, limit) for request in slow]  # alone, because the machine may be busy
        assert [answer for answer in again if answer.seconds >= 2] == []


async def test_no_route_logs_or_counts_a_fault_when_the_client_leaves_within_the_body_or_the_answer(
    server: Server,
) -> None:
    with capture_logs() as lines:
        for operation in OPERATIONS:
            path = address_of(operation.path, VALID, {"sensor": "pi1"})
            for body, length in ((b"", 10), (b'{"readings": [', 1_000), (b"[]", 2)):
                head = (
                    f"{operation.method.upper()} {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                )
                _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.address).port)
                writer.write(head.encode() + body)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        async with server.http.get("/health/live") as response:  # every request before it has been begun by now
            assert response.status == 200
        await wait_until(lambda: not _running_requests())
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
    registry = server.services.metrics.registry
    counts = [sample for family in registry.collect() for sample in family.samples if "status" in sample.labels]
    assert [sample for sample in counts if sample.labels["status"].startswith("5") and sample.value] == []


def _running_requests() -> list[str]:
    """Return the tasks of uvicorn that serve a request now."""
    return [str(task) for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]


async def _send(server: Server, request: HostileRequest, limit: asyncio.Semaphore) -> "_Answer":
    async with limit:
        started = monotonic()
        try:
            async with server.http.request(
                request.method,
                URL(server.address + request.path, encoded=True),
                data=None if request.body is None else io.BytesIO(request.body),
                headers={"Content-Type": "application/json", **request.headers},
            ) as response:
                text, status = await response.text(errors="replace"), response.status
        except aiohttp.ClientError as error:
            text, status = repr(error), 0
        return _Answer(request, status, monotonic() - started, text[:300])


class _Answer(NamedTuple):
    request: HostileRequest
    #: 0: there was none.
    status: int
    seconds: float
    text: str

    @property
    def is_fault(self) -> bool:
        return self.status == 0 or (self.status >= 500 and not self.text.startswith(WITHOUT_WORKER))

    def __repr__(self) -> str:
        method, path, body, headers = self.request
        return (
            f"{method} {path[:300]} {body and body[:300]!r} {headers}: {self.status}, {self.seconds:.1f} s, {self.text}"
        )
