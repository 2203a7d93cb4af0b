"""The routes of the outbox and the channels, over HTTP on a real port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from structlog.testing import capture_logs

from app.auth.key_ring import KeyRing
from app.auth.keys import ApiKey, hash_key
from app.db.lease import Lease
from app.notify import routes
from app.notify.dispatch import dispatcher as dispatcher_module
from app.notify.dispatch.dispatcher import Dispatcher
from app.notify.transport import Endpoints
from app.problems import respond
from app.tasks import supervised
from tests.conftest import Database, wait_until
from tests.notify.dispatchers import (
    TOKEN,
    Channels,
    make_dispatcher,
    running,
    slack_channel,
    telegram_channel,
    until,
    until_idle,
)
from tests.notify.episodes import EpisodeWriter, told_changes
from tests.receivers import SlackReceiver, TelegramReceiver, answers

KEYS = {
    "reader": ApiKey("reader", frozenset({"read"})),
    "sender": ApiKey("sender", frozenset({"notify"})),
    "admin": ApiKey("admin", frozenset({"admin"})),
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_S", 0.02)
    monkeypatch.setattr(dispatcher_module, "FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def channels(slack: SlackReceiver, telegram: TelegramReceiver) -> Channels:
    return {"ops": telegram_channel(telegram), "duty": slack_channel(slack)}


@pytest.fixture
async def dispatcher(database: Database, endpoints: Endpoints, channels: Channels) -> AsyncIterator[Dispatcher]:
    """The dispatcher of the worker that holds the lease, whose channels the API knows."""
    dispatcher = make_dispatcher(endpoints, channels)
    listed = [{"name": name, "type": channel.TYPE} for name, (channel, _) in channels.items()]
    await database.pool.execute("UPDATE worker_status SET channels = $1", listed)
    lease = Lease(database.dsn, on_signal=dispatcher.wake)
    async with supervised({"lease": lease.keep}), running(dispatcher, database.pool):
        await lease.tried.wait()
        yield dispatcher


@pytest.fixture
async def address(database: Database, dispatcher: Dispatcher) -> AsyncIterator[str]:
    """Serve the routes on a port with three keys: one may read, one may notify, one is for operators."""
    provided = {"pool": database.pool, "read_pool": database.pool}
    app = Litestar(
        route_handlers=routes.handlers,
        dependencies={name: Provide(_provider_of(part), sync_to_thread=False) for name, part in provided.items()},
        state=State({"key_ring": KeyRing({hash_key(key): api_key for key, api_key in KEYS.items()})}),
        exception_handlers={Exception: respond},
        logging_config=None,
    )
    async with _served(app) as address:
        yield address


async def test_dead_letter_is_listed_and_sent_again(
    database: Database, address: str, telegram: TelegramReceiver
) -> None:
    telegram.fail_next(answers(400, '{"ok": false, "description": "Bad Request: strange"}'))
    episode_id = await EpisodeWriter(database.pool, "ops").fire("cold-room", "freezer-1")
    await until(database.pool, "SELECT EXISTS (SELECT FROM notification WHERE state = 'dead')")
    status, listed = await _request("GET", f"{address}/api/v1/notifications/outbox?state=dead", "reader")
    assert (status, listed["next"]) == (200, None)
    (dead,) = listed["items"]
    assert (dead["channel"], dead["group"], dead["state"]) == ("ops", "cold-room", "dead")
    assert dead["error"] == "Telegram answered 400: Bad Request: strange"
    assert dead["items"] == [{"episode_id": episode_id, "revision": 1, "kind": "firing", "level": "warning"}]
    assert [(attempt["outcome"], attempt["error"]) for attempt in dead["attempts"]] == [("refused", dead["error"])]
    assert dead["body"]["text"] == "⚠️ <b>freezer-1 firing</b>"
    assert TOKEN not in str(listed)

    resend = f"{address}/api/v1/notifications/outbox/{dead['id']}/resend"
    with capture_logs() as logs:
        status, answer = await _request("POST", resend, "sender")
    assert (status, answer["delayed_from"]) == (202, dead["id"])
    (line,) = [line for line in logs if line["event"] == "dead_letter_resent"]
    shown = [line[name] for name in ("id", "new_id", "key", "client")]
    assert shown == [dead["id"], answer["id"], "sender", "127.0.0.1"]
    await until_idle(database.pool)
    assert telegram.texts == ["⚠️ Delayed: freezer-1 firing"]
    status, problem = await _request("POST", resend, "sender")
    assert (status, problem["type"]) == (409, "/problems/conflict")
    status, listed = await _request("GET", f"{address}/api/v1/notifications/outbox?state=sent", "reader")
    assert [(item["id"], item["delayed_from"]) for item in listed["items"]] == [(answer["id"], dead["id"])]


async def test_outbox_is_listed_page_by_page(database: Database, address: str) -> None:
    for rule in ("one", "two", "three"):
        await EpisodeWriter(database.pool, "unknown").fire(rule, "freezer-1")
    url = f"{address}/api/v1/notifications/outbox?state=waiting&limit=2"
    _, first = await _request("GET", url, "reader")
    assert [item["group"] for item in first["items"]] == ["three", "two"]
    _, second = await _request("GET", f"{url}&cursor={first['next']}", "reader")
    assert [item["group"] for item in second["items"]] == ["one"]
    assert second["next"] is None


async def test_channels_are_listed_without_settings_and_mended_by_a_test(
    database: Database, address: str, slack: SlackReceiver
) -> None:
    slack.archive(slack.webhook_url("duty"))
    await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
    await until(database.pool, "SELECT EXISTS (SELECT FROM channel_state)")
    _, listed = await _request("GET", f"{address}/api/v1/channels", "reader")
    since = listed["items"][0].pop("broken_since")
    assert since.endswith("Z")
    nothing = {"broken_since": None, "reason": None, "told_through": None}
    assert listed == {
        "items": [
            {
                "name": "duty",
                "type": "slack",
                "state": "broken",
                "reason": "Slack answered 410: channel_is_archived",
                "told_through": None,
            },
            {"name": "ops", "type": "telegram", "state": "working", **nothing},
        ],
        "next": None,
    }
    slack.refusals.clear()
    with capture_logs() as logs:
        status, answer = await _request("POST", f"{address}/api/v1/channels/duty/test", "sender")
    (line,) = [line for line in logs if line["event"] == "channel_test_requested"]
    assert [line[name] for name in ("channel", "key", "client")] == ["duty", "sender", "127.0.0.1"]
    assert (status, answer) == (200, {"channel": "duty", "outcome": "sent", "error": None, "mended": True})
    await wait_until(lambda: told_changes(slack) == ["freezer-1 firing"])


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/api/v1/notifications/outbox", "sender", 403),
        ("GET", "/api/v1/notifications/outbox", "nobody", 401),
        ("GET", "/api/v1/notifications/outbox?state=lost", "reader", 400),
        ("GET", "/api/v1/notifications/outbox?limit=0", "reader", 400),
        ("GET", "/api/v1/notifications/outbox?cursor=x", "reader", 400),
        ("GET", "/api/v1/notifications/outbox?cursor=9223372036854775808", "reader", 400),
        ("POST", "/api/v1/notifications/outbox/1/resend", "reader", 403),
        ("POST", "/api/v1/notifications/outbox/1/resend", "sender", 404),
        ("POST", "/api/v1/notifications/outbox/1/resend", "admin", 404),
        ("POST", "/api/v1/notifications/outbox/9223372036854775808/resend", "sender", 400),
        ("GET", "/api/v1/channels", "sender", 403),
        ("POST", "/api/v1/channels/ops/test", "reader", 403),
        ("POST", "/api/v1/channels/unknown/test", "sender", 404),
        ("POST", "/api/v1/channels/unknown/test", "admin", 404),
    ],
)
async def test_request_is_refused_when_its_key_or_a_parameter_is_wrong(
    address: str, telegram: TelegramReceiver, method: str, path: str, key: str, status: int
) -> None:
    answered, problem = await _request(method, address + path, key)
    assert (answered, problem["status"]) == (status, status)
    assert telegram.accepted == []


def _provider_of(part: Any) -> Any:
    return lambda: part


async def _request(method: str, url: str, key: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": key}) as http,
        http.request(method, url) as response,
    ):
        return response.status, await response.json(content_type=None)


@asynccontextmanager
async def _served(app: Litestar) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    serving = asyncio.create_task(server._serve(sockets=[listening]))
    try:
        await wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listening.close()
