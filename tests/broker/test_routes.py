"""The broker over real HTTP, as clients of the replaced broker use it."""

import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from app.auth.keys import create_key
from app.broker import delivery as broker_delivery
from app.broker import store as broker_store
from app.broker.routes import BODY_LIMIT
from app.settings import Settings
from tests.conftest import API_KEY, Database, Server, running_server, wait_until
from tests.receivers import HANGS, RESETS_BEFORE, SlackReceiver, TelegramReceiver, answers
from tests.wire import wire_to

BASE = "/api/v1/notifications"
SEND = f"{BASE}/send"
TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
FOREIGN = "https://evil.example/services/T123/B456/abc123"
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


class Answer(msgspec.Struct):
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def channels(self) -> Any:
        """Return the outcome of the notification, by channel."""
        return self.body["data"]["channels"]


class Client:
    """Sends requests as a client of the replaced broker does."""

    def __init__(self, server: Server, slack: SlackReceiver) -> None:
        self.server = server
        self.slack_channel = {"webhook_url": slack.webhook_url()}
        self.telegram_channel = {"bot_token": TOKEN, "chat_id": -1001234567890}

    async def send(self, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        """Send a notification to Slack; `fields` replace or add fields of the body."""
        given = {"title": "T", "message": "M", "level": "INFO", "channels": {"slack": self.slack_channel}, **fields}
        return await self.ask("POST", SEND, headers, msgspec.json.encode(given))

    async def send_to(self, **channels: Any) -> Answer:
        """Send a notification to these channels."""
        return await self.send(channels=channels)

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send any request; the default headers hold API_KEY."""
        given = {"X-API-Key": API_KEY} if headers is None else headers
        async with (
            aiohttp.ClientSession(self.server.address) as session,
            session.request(method, path, headers=given, data=io.BytesIO(body)) as response,
        ):
            raw = await response.read()
            answer = msgspec.json.decode(raw) if raw else None
            return Answer(response.status, {key.lower(): value for key, value in response.headers.items()}, answer)


@pytest.fixture
async def client(database: Database, slack: SlackReceiver, telegram: TelegramReceiver) -> AsyncIterator[Client]:
    async with running_server(settings(database.dsn, slack, telegram)) as server:
        yield Client(server, slack)


@pytest.fixture
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a deadline of one second and short pauses."""
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 1.0)
    monkeypatch.setattr(broker_delivery, "BACKOFF_S", (0.02,))


def settings(dsn: str, slack: SlackReceiver, telegram: TelegramReceiver) -> Settings:
    return Settings(
        database_url=dsn, api_key=API_KEY, slack_webhook_prefix=slack.prefix, telegram_api_base=telegram.url
    )


async def test_health_answers_as_the_replaced_broker_without_a_key(client: Client) -> None:
    answer = await client.ask("GET", f"{BASE}/health", {})
    assert (answer.status, answer.body) == (200, {"status": "healthy", "service": "notification-broker"})
    assert (await client.ask("HEAD", f"{BASE}/health", {})).status == 200


async def test_send_answers_as_the_replaced_broker_when_both_channels_accept_it(client: Client) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    answer = await client.send_to(slack=client.slack_channel, telegram=client.telegram_channel)
    assert (answer.status, set(answer.body), answer.body["success"]) == (201, {"success", "data"}, True)
    assert list(answer.body["data"]) == ["notification_id", "timestamp", "channels"]
    assert re.fullmatch(UUID4, answer.body["data"]["notification_id"])
    timestamp = answer.body["data"]["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", timestamp)
    assert before <= datetime.fromisoformat(timestamp) <= datetime.now(UTC).replace(tzinfo=None)
    assert answer.channels["slack"] == {"success": True, "response": {"status": "sent", "response": "ok"}}
    telegram = answer.channels["telegram"]
    assert (telegram["success"], telegram["response"]["status"]) == (True, "sent")
    assert telegram["response"]["response"]["ok"] is True
    assert telegram["response"]["response"]["result"]["chat"]["id"] == -1001234567890


async def test_send_posts_the_message_as_the_replaced_broker_wrote_it(
    client: Client, slack: SlackReceiver, telegram: TelegramReceiver
) -> None:
    answer = await client.send(
        title="CPU_high on <web>",
        message="*85%* <https://t.example|here>",
        level="warning",
        source="monitor_1",
        metadata={"a_b": 1, "list": [1, "x"]},
        channels={
            "slack": {**client.slack_channel, "channel": "#alerts", "username": "MonitoringBot"},
            "telegram": client.telegram_channel,
        },
    )
    notification_id = answer.body["data"]["notification_id"]
    when = answer.body["data"]["timestamp"][:19].replace("T", " ") + " UTC"
    [posted] = [message.body for message in slack.accepted]
    assert (posted["username"], posted["channel"]) == ("MonitoringBot", "#alerts")
    [attachment] = posted["attachments"]
    assert attachment["color"] == "#ff9500"
    assert attachment["title"] == "⚠️ CPU_high on &lt;web&gt;"
    assert attachment["text"] == "*85%* <https://t.example|here>"
    assert attachment["fields"] == [
        {"title": "Level", "value": "WARNING", "short": True},
        {"title": "Timestamp", "value": when, "short": True},
        {"title": "Source", "value": "monitor_1", "short": True},
        {"title": "Metadata", "value": "• *a_b*: 1\n• *list*: [1, 'x']", "short": False},
    ]
    assert attachment["footer"] == f"Notification ID: {notification_id}"
    assert telegram.accepted[0].body["parse_mode"] == "Markdown"
    [text] = telegram.texts
    assert text == (
        "⚠️ CPU_high on <web>\n\n📝 85% <https://t.example|here>\n\n🏷️ Level: WARNING\n"
        f"🕐 Time: {when}\n🔍 Source: monitor_1\n\n📊 Metadata:\n• a_b: 1\n• list: [1, 'x']\n\n🆔 {notification_id}"
    )


async def test_send_accepts_the_key_in_every_header_of_the_replaced_broker(client: Client) -> None:
    for headers in (
        {"X-API-Key": API_KEY},
        {"Authorization": f"Bearer {API_KEY}"},
        {"Authorization": API_KEY},
        {"X-API-Key": f"Bearer {API_KEY}"},
        {"X-API-Key": "", "Authorization": f"Bearer {API_KEY}"},
        {"X-API-Key": API_KEY, "Authorization": "Bearer wrong"},
    ):
        assert (await client.send(headers)).status == 201, headers


async def test_send_is_401_when_the_key_is_missing_or_wrong(client: Client, slack: SlackReceiver) -> None:
    for headers in (
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {API_KEY}"},
        {"Authorization": "Bearer wrong"},
    ):
        answer = await client.send(headers, title=None)
        assert (answer.status, answer.body) == (401, {"error": "Invalid or missing API key"}), headers
    assert slack.accepted == []


async def test_send_is_403_when_the_key_lacks_the_scope(client: Client, database: Database) -> None:
    key = await create_key(database.pool, "reader", frozenset({"read"}), {})
    answer = await client.send({"X-API-Key": key})
    assert answer.status == 403
    assert answer.body == {"error": "The key 'reader' has the scopes read; this needs notify"}


async def test_send_is_400_with_the_errors_of_the_replaced_broker(client: Client, slack: SlackReceiver) -> None:
    expected = {
        b'{"title": ': "Invalid request data: the body cannot be read as JSON: Input data was truncated",
        b"{}": "Request body is required",
        b'{"title": "T"}': "At least one notification channel must be configured with valid parameters",
        b'{"slack_webhook_url": "x"}': "Missing required field: title",
        b'{"slack_webhook_url": "x", "title": "T"}': "Missing required field: message",
        b'{"slack_webhook_url": "x", "title": "T", "message": "M"}': "Missing required field: level",
        b'{"slack_webhook_url": "x", "title": "T", "message": "M", "level": "LOUD"}': "Invalid log level: LOUD",
    }
    for body, error in expected.items():
        answer = await client.ask("POST", SEND, body=body)
        assert (answer.status, answer.body) == (400, {"error": error})
    assert slack.accepted == []


async def test_send_is_413_when_the_body_is_too_large(client: Client) -> None:
    answer = await client.ask("POST", SEND, body=b" " * (BODY_LIMIT + 1))
    assert (answer.status, list(answer.body)) == (413, ["error"])


async def test_send_uses_the_channels_in_the_headers(client: Client, telegram: TelegramReceiver) -> None:
    headers = {
        "X-API-Key": API_KEY,
        "Slack-Webhook-Url": client.slack_channel["webhook_url"],
        "Telegram-Bot-Token": TOKEN,
        "Telegram-Chat-Id": "-1001234567890",
    }
    answer = await client.send(headers, channels=None)
    assert [channel["success"] for channel in answer.channels.values()] == [True, True]
    assert telegram.accepted[0].path == f"/bot{TOKEN}/sendMessage"


async def test_send_merges_settings_one_by_one(client: Client, telegram: TelegramReceiver) -> None:
    headers = {"X-API-Key": API_KEY, "Telegram-Bot-Token": TOKEN, "Telegram-Chat-Id": "5"}
    answer = await client.send(headers, channels={"telegram": {"chat_id": -7, "parse_mode": "HTML"}})
    assert list(answer.channels) == ["telegram"]
    assert (telegram.accepted[0].body["chat_id"], telegram.accepted[0].body["parse_mode"]) == (-7, "HTML")


async def test_send_leaves_out_channels_when_they_are_incomplete_or_unknown(client: Client) -> None:
    answer = await client.send_to(slack=client.slack_channel, telegram={"bot_token": TOKEN}, email={"to": "a"})
    assert (answer.status, list(answer.channels)) == (201, ["slack"])


async def test_send_is_201_without_success_when_a_webhook_is_foreign_or_a_token_is_not_valid(
    client: Client, slack: SlackReceiver
) -> None:
    answer = await client.send_to(slack={"webhook_url": FOREIGN}, telegram={"bot_token": "12:ab/../evil", "chat_id": 5})
    assert (answer.status, answer.body["success"]) == (201, True)
    assert answer.channels == {
        "slack": {
            "success": False,
            "error": f"Invalid slack configuration: webhook_url must begin with {slack.prefix}",
        },
        "telegram": {
            "success": False,
            "error": "Invalid telegram configuration: bot_token must be digits, a colon, then letters, digits, _ or -",
        },
    }


@pytest.mark.usefixtures("_short_deadline")
async def test_send_answers_the_outcome_after_retries_and_sends_nothing_later_when_services_fail(
    client: Client, slack: SlackReceiver, telegram: TelegramReceiver
) -> None:
    slack.fail_next(answers(503))
    slack.fail_next(RESETS_BEFORE)
    telegram.fail_next(HANGS)
    answer = await client.send_to(slack=client.slack_channel, telegram=client.telegram_channel)
    assert answer.status == 201
    assert answer.channels["slack"]["success"] is True
    assert answer.channels["telegram"] == {
        "success": False,
        "error": "Network error sending to Telegram: no answer came in time",
    }
    stored = await client.ask("GET", f"{BASE}/{answer.body['data']['notification_id']}")
    assert (stored.body["channels"]["slack"]["attempts"], stored.body["channels"]["telegram"]["attempts"]) == (3, 1)
    # A failed notification is never sent later, and an accepted one is not sent again.
    await client.send_to(slack=client.slack_channel, telegram=client.telegram_channel)
    assert (len(slack.accepted), len(telegram.accepted)) == (2, 1)


async def test_send_returns_the_refusal_without_a_secret(client: Client, slack: SlackReceiver) -> None:
    for status, text, error in (
        (404, "no_service", "Network error sending to Slack: Slack answered 404: no_service"),
        (403, "invalid_token", "Network error sending to Slack: Slack answered 403: invalid_token"),
        # Not one of Slack's codes: the answer of a proxy that quotes the address.
        (404, f"nothing at {TOKEN}", "Network error sending to Slack: Slack answered 404"),
    ):
        slack.fail_next(answers(status, text))
        assert (await client.send()).channels["slack"] == {"success": False, "error": error}


async def test_send_is_500_in_the_format_of_the_replaced_broker_when_the_server_fails(client: Client) -> None:
    # The state before the server has started.
    client.server.services.broker._delivery = None
    with capture_logs() as logs:
        answer = await client.send()
    assert (answer.status, answer.body) == (500, {"error": "Internal server error"})
    assert answer.headers["access-control-allow-origin"] == "*"
    [failed] = [entry for entry in logs if entry["event"] == "request_failed"]
    assert "the broker is not open" in failed["traceback"]
    # With exc_info, the log renderer could show local variables.
    assert "exc_info" not in failed


async def test_send_is_429_when_the_key_sends_faster_than_it_may(
    client: Client, database: Database, slack: SlackReceiver
) -> None:
    key = await create_key(database.pool, "slow", frozenset({"notify"}), {"notifications_per_minute": 2})
    assert [(await client.send({"X-API-Key": key})).status for _number in range(2)] == [201, 201]
    answer = await client.send({"X-API-Key": key})
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    assert answer.body == {
        "error": "Rate limit exceeded: this key may send 2 notifications a minute, 2 at once; try again in 30 s"
    }
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await client.send()).status == 201
    assert len(slack.accepted) == 3


async def test_send_works_and_logs_that_nothing_was_stored_when_the_database_is_away(
    database: Database, slack: SlackReceiver, telegram: TelegramReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_store, "RETRY_S", 0.05)
    async with (
        wire_to(database.dsn) as wire,
        running_server(settings(wire.url, slack, telegram)) as server,
    ):
        client = Client(server, slack)
        await wire.cut()
        with capture_logs() as logs:
            answer = await client.send()
            await wait_until(lambda: any(entry["event"] == "notifications_not_stored" for entry in logs))
        assert (answer.status, answer.channels["slack"]["success"]) == (201, True)
        unknown = await client.send({"X-API-Key": "unknown"})
        assert (unknown.status, unknown.headers["retry-after"]) == (503, "5")
        assert unknown.body == {"error": "The database is away, so the API key could not be checked; nothing was sent"}
        assert (await client.ask("GET", f"{BASE}/{answer.body['data']['notification_id']}")).status == 200
        assert (await client.ask("GET", BASE)).status == 503
        await wire.mend()
        await wait_until(lambda: server.services.broker.store.waiting == 0)
    assert await database.pool.fetchval("SELECT count(*) FROM broker_notification") == 1


async def test_notification_is_found_directly_after_the_answer_and_after_a_restart(
    database: Database, slack: SlackReceiver, telegram: TelegramReceiver
) -> None:
    async with running_server(settings(database.dsn, slack, telegram)) as server:
        client = Client(server, slack)
        sent = await client.send(level="error", source="s", metadata={"a": [1]})
        data = sent.body["data"]
        first = await client.ask("GET", f"{BASE}/{data['notification_id']}")
        destination = first.body["channels"]["slack"].pop("destination")
        assert re.fullmatch(r"slack:[0-9a-f]{16}", destination)
        assert first.body == {
            "id": data["notification_id"],
            "created_at": f"{data['timestamp']}Z",
            "api_key": "API_KEY",
            "level": "ERROR",
            "title": "T",
            "message": "M",
            "source": "s",
            "metadata": {"a": [1]},
            "channels": {"slack": {"success": True, "attempts": 1}},
        }
    async with running_server(settings(database.dsn, slack, telegram)) as server:
        again = await Client(server, slack).ask("GET", f"{BASE}/{data['notification_id']}")
        del again.body["channels"]["slack"]["destination"]
        assert again.body == first.body


async def test_notification_is_404_when_there_is_none(client: Client) -> None:
    answer = await client.ask("GET", f"{BASE}/123e4567-e89b-12d3-a456-426614174000")
    assert (answer.status, answer.body["type"]) == (404, "/problems/not_found")
    assert (await client.ask("GET", f"{BASE}/x")).status == 404


async def test_list_returns_the_last_notifications_newest_first_page_by_page(client: Client) -> None:
    sent = [(await client.send(title=f"{number}")).body["data"]["notification_id"] for number in range(5)]
    found: list[str] = []
    path = f"{BASE}?limit=2"
    for _page in range(3):
        page = (await client.ask("GET", path)).body
        found += [item["id"] for item in page["items"]]
        path = f"{BASE}?limit=2&cursor={page['next']}"
    assert (found, page["next"]) == (sent[::-1], None)


async def test_list_filters_by_level_and_source(client: Client) -> None:
    for level, source in (("INFO", "a"), ("ERROR", "a"), ("ERROR", "b")):
        await client.send(level=level, source=source, title=f"{level} {source}")

    async def titles(query: str) -> list[str]:
        return [item["title"] for item in (await client.ask("GET", f"{BASE}?{query}")).body["items"]]

    assert await titles("level=error") == ["ERROR b", "ERROR a"]
    assert await titles("source=a") == ["ERROR a", "INFO a"]
    assert await titles("level=ERROR&source=a") == ["ERROR a"]


async def test_list_is_400_when_a_parameter_cannot_be_used(client: Client) -> None:
    for query, detail in (
        ("level=LOUD", "level is 'LOUD'; it must be one of INFO, WARNING, ERROR, CRITICAL, DISASTER"),
        ("cursor=x", "cursor is 'x'; send the `next` of the page before, unchanged"),
        ("limit=0", "limit: Expected `int` >= 1"),
    ):
        answer = await client.ask("GET", f"{BASE}?{query}")
        assert (answer.status, answer.body["detail"]) == (400, detail)


async def test_sent_notifications_are_403_when_the_key_lacks_the_scope_read(client: Client, database: Database) -> None:
    key = await create_key(database.pool, "sender", frozenset({"notify"}), {})
    sent = (await client.send({"X-API-Key": key})).body["data"]["notification_id"]
    for path in (BASE, f"{BASE}/{sent}"):
        answer = await client.ask("GET", path, {"X-API-Key": key})
        assert (answer.status, answer.body["type"]) == (403, "/problems/forbidden")
        assert (await client.ask("GET", path, {})).status == 401


async def test_preflight_allows_key_and_channel_headers_from_any_origin(client: Client) -> None:
    wanted = "authorization,content-type,slack-webhook-url,x-api-key"
    preflight = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    for path in ("/send", "/health", "", "/123e4567-e89b-12d3-a456-426614174000"):
        answer = await client.ask("OPTIONS", f"{BASE}{path}", preflight)
        assert (answer.status, answer.body) == (204, None)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == wanted
        assert "POST" in answer.headers["access-control-allow-methods"]
    plain = await client.ask("OPTIONS", SEND, {})
    assert (plain.status, plain.headers["allow"]) == (204, "OPTIONS, POST")


async def test_answers_and_errors_are_readable_from_any_origin(client: Client) -> None:
    origin = {"Origin": "https://shop.example"}
    asked = [
        await client.ask("GET", f"{BASE}/health", origin),
        await client.ask("POST", SEND, origin, b"{}"),
        await client.ask("POST", SEND, {**origin, "X-API-Key": API_KEY}, b"{}"),
        await client.ask("GET", BASE, origin),
        await client.ask("GET", f"{BASE}/123e4567-e89b-12d3-a456-426614174000", {**origin, "X-API-Key": API_KEY}),
    ]
    assert [answer.status for answer in asked] == [200, 401, 400, 401, 404]
    assert {answer.headers["access-control-allow-origin"] for answer in asked} == {"*"}
    assert "retry-after" in asked[1].headers["access-control-expose-headers"]
    elsewhere = await client.ask("GET", "/api/v1/sensors", {**origin, "X-API-Key": API_KEY})
    assert "access-control-allow-origin" not in elsewhere.headers


@pytest.mark.usefixtures("_short_deadline")
async def test_logs_answers_and_rows_hold_no_secret_when_everything_fails(
    client: Client,
    database: Database,
    slack: SlackReceiver,
    telegram: TelegramReceiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    webhook = slack.webhook_url("s3cretPath")
    secrets = ("s3cretPath", TOKEN, TOKEN.partition(":")[2], "-1001234567890", API_KEY)
    telegram.fail_next(answers(400, f'{{"ok":false,"description":"Bad Request: no method /bot{TOKEN}/x"}}'))
    slack.fail_next(answers(404, f"nothing at {webhook}"))
    with capture_logs() as logs:
        seen = [
            await client.send_to(slack={"webhook_url": webhook}, telegram=client.telegram_channel),
            await client.send_to(slack={"webhook_url": f"{FOREIGN}/s3cretPath"}),
            await client.send_to(slack={"webhook_url": webhook, "channel": 5}, telegram={"bot_token": TOKEN}),
            await client.send_to(telegram={"bot_token": f"{TOKEN}/", "chat_id": -1001234567890}),
            await client.send(channels={"slack": [webhook]}),
            await client.send(level=3, channels={"slack": {"webhook_url": webhook}}),
        ]
        telegram.fail_next(HANGS)
        seen += [await client.send_to(telegram=client.telegram_channel), await client.ask("GET", BASE)]
    rows = await database.pool.fetch("SELECT * FROM broker_notification")
    assert len(rows) == 5
    assert {answer.status for answer in seen} == {201, 400, 200}
    shown = repr((seen, logs, [dict(row) for row in rows], caplog.text))
    assert [secret for secret in secrets if secret in shown] == []


async def test_openapi_describes_the_body_the_headers_and_every_error(client: Client) -> None:
    schema = (await client.ask("GET", "/schema/openapi.json")).body
    send = schema["paths"][SEND]["post"]
    [example] = send["requestBody"]["content"]["application/json"]["examples"].values()
    assert example["value"]["channels"]["slack"]["channel"] == "#alerts"
    assert [parameter["name"] for parameter in send["parameters"]] == [
        "Slack-Webhook-Url",
        "Telegram-Bot-Token",
        "Telegram-Chat-Id",
    ]
    assert sorted(send["responses"]) == ["201", "400", "401", "403", "413", "429", "500", "503"]
    assert UUID(next(iter(_examples(send, "201")))["data"]["notification_id"])
    assert {"error": "Missing required field: title"} in _examples(send, "400")
    assert "post" not in schema["paths"][BASE]


def _examples(operation: Any, status: str) -> list[Any]:
    content = operation["responses"][status]["content"]["application/json"]
    return [example["value"] for example in content["examples"].values()]
