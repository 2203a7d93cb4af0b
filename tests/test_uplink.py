"""The client's connection to the API: what it sends, and what it makes of each answer."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.settings import Settings
from app.uplink import Uplink, UplinkAnswer, UploadBatch, server_url
from tests.ports import free_port
from tests.simulate.scripted import ScriptedServer

BATCH = UploadBatch(b'{"readings": [{"values": {"temperature": 12.5}}]}', 1, 1, "one")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("tide.example", "http://tide.example:8000"),
    ],
)
def test_server_url_is_reachable_from_this_machine(host: str, url: str) -> None:
    assert server_url(Settings(host=host)) == url


async def test_uplink_sends_the_same_bytes_with_their_idempotency_key() -> None:
    async with ScriptedServer() as server, aiohttp.ClientSession() as http:
        answer = await Uplink(http, f"{server.url}/", "key", "gzip").send(BATCH)
    (request,) = server.requests
    assert (answer.outcome, answer.accepted) == ("stored", 1)
    assert request.body == BATCH.body
    sent = {name: request.headers[name] for name in ("X-API-Key", "Idempotency-Key", "Content-Encoding")}
    assert sent == {"X-API-Key": "key", "Idempotency-Key": "one", "Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, "refused"),
        (401, "denied"),
        (404, "denied"),
        (408, "later"),
        (413, "too_large"),
        (422, "refused"),
        (429, "later"),
        (500, "later"),
        (503, "later"),
    ],
)
async def test_uplink_says_what_an_error_means_for_the_readings(status: int, outcome: str) -> None:
    async with ScriptedServer((status, {})) as server, aiohttp.ClientSession() as http:
        answer = await Uplink(http, server.url, "key", "identity").send(BATCH)
    assert (answer.outcome, answer.text, answer.reason) == (outcome, str(status), "as the script says")


@pytest.mark.parametrize(
    ("header", "wait_s"), [("7", 7.0), ("3600", 60.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
async def test_uplink_waits_at_most_a_minute_when_the_server_asks_for_a_pause(
    header: str, wait_s: float | None
) -> None:
    async with ScriptedServer((503, {"Retry-After": header})) as server, aiohttp.ClientSession() as http:
        answer = await Uplink(http, server.url, "key", "identity").send(BATCH)
    assert answer.retry_after_s == wait_s


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"accepted":1,"duplicates":0,"rejected_count":1,"rejected":[{"code":"\xff"}]}']
)
async def test_uplink_stores_nothing_when_another_server_answers(body: bytes) -> None:
    async def answer_anything(request: web.Request) -> web.Response:
        return web.Response(body=body)

    application = web.Application()
    application.router.add_post("/api/v1/readings", answer_anything)
    async with (
        TestServer(application) as server,
        aiohttp.ClientSession() as http,
    ):
        answer = await Uplink(http, str(server.make_url("/")), "key", "identity").send(BATCH)
    assert (answer.outcome, answer.reason) == ("denied", "this is not the answer of a Tidegauge server")


async def test_uplink_reports_an_unreachable_server_as_not_sent() -> None:
    async with aiohttp.ClientSession() as http:
        answer = await Uplink(http, f"http://127.0.0.1:{free_port()}", "key", "identity").send(BATCH)
    assert (answer.outcome, answer.text) == ("unreachable", "no connection")


async def test_uplink_reports_a_lost_answer_of_a_stored_upload() -> None:
    async with ScriptedServer() as server, aiohttp.ClientSession() as http:
        answer = await Uplink(http, server.url, "key", "identity").send(BATCH, lose_answer=True)
    assert answer == UplinkAnswer("lost", "answer lost")
    assert len(server.requests) == 1
