"""Whatever a client sends to any route of the OpenAPI document: never a 5xx, and an answer within two seconds."""

import asyncio
import io
from time import monotonic
from typing import NamedTuple

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from app.clock import now_us
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api
from tests.hostile import URL_TEXTS, HostileRequest, requests_of
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
}
#: Answers that say that something is missing on this server, whatever is sent.
MAY_BE_UNAVAILABLE = {"/api/v1/channels/{name}/test"}


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
            if operation.path not in MAY_BE_UNAVAILABLE
            for request in requests_of(operation.method, operation.path, operation.spec, VALID)
        ]
        requests += [HostileRequest("get", path + text) for path in WITHOUT_DOCUMENT for text in URL_TEXTS]
        requests = requests[part::PARTS]
        limit = asyncio.Semaphore(3)
        with capture_logs() as lines:
            answers = await asyncio.gather(*(_send(server, request, limit) for request in requests))
        assert [answer for answer in answers if answer.status >= 500 or not answer.status] == []
        assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
        slow = [answer.request for answer in answers if answer.seconds >= 2]
        again = [await _send(server, request, limit) for request in slow]  # alone, because the machine may be busy
        assert [answer for answer in again if answer.seconds >= 2] == []


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

    def __repr__(self) -> str:
        method, path, body, headers = self.request
        return (
            f"{method} {path[:300]} {body and body[:300]!r} {headers}: {self.status}, {self.seconds:.1f} s, {self.text}"
        )
