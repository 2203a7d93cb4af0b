from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.broker.format import BrokerNotification
from app.broker.request import Target, TargetError, make_target, parse_request
from app.errors import InvalidRequestError
from app.notify.transport import Endpoints

WEBHOOK = "https://hooks.slack.com/services/T123/B456/abc123"
TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
SLACK = {"slack": {"webhook_url": WEBHOOK}}
NO_CHANNEL = "At least one notification channel must be configured with valid parameters"


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"title": "Title", "message": "Message", "level": "INFO", "channels": SLACK, **fields})


def channels(headers: dict[str, str], **fields: Any) -> dict[str, dict[str, Any]]:
    return parse_request(body(**fields), headers).channels


def error_of(raw: bytes, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(raw, headers or {})
    return str(caught.value)


def test_request_has_every_field_when_all_are_given() -> None:
    request = parse_request(body(source="s", metadata={"a": [1, None]}), {})
    assert (request.title, request.message, request.level) == ("Title", "Message", "info")
    assert (request.source, request.metadata) == ("s", {"a": [1, None]})
    assert request.channels == SLACK


@pytest.mark.parametrize("level", ["critical", "CRITICAL", "Critical"])
def test_level_is_read_in_any_case(level: str) -> None:
    assert parse_request(body(level=level), {}).level == "critical"


def test_channel_is_configured_when_only_headers_are_given() -> None:
    headers = {"slack-webhook-url": WEBHOOK, "telegram-bot-token": TOKEN, "telegram-chat-id": "-1001234567890"}
    assert channels(headers, channels={}) == {
        "slack": {"webhook_url": WEBHOOK},
        "telegram": {"bot_token": TOKEN, "chat_id": "-1001234567890"},
    }


def test_channel_takes_a_setting_from_the_body_when_the_header_has_it_too() -> None:
    headers = {"slack-webhook-url": "from the header", "telegram-bot-token": TOKEN, "telegram-chat-id": "header"}
    given = {"slack": {"webhook_url": WEBHOOK, "channel": "#alerts"}, "telegram": {"chat_id": -5}}
    assert channels(headers, channels=given) == {
        "slack": {"webhook_url": WEBHOOK, "channel": "#alerts"},
        "telegram": {"bot_token": TOKEN, "chat_id": -5},
    }


def test_channel_is_configured_when_settings_are_at_the_top_of_the_body() -> None:
    top = {"slack_webhook_url": WEBHOOK, "telegram_bot_token": TOKEN, "telegram_chat_id": -1001234567890}
    assert channels({}, channels={}, **top) == {
        "slack": {"webhook_url": WEBHOOK},
        "telegram": {"bot_token": TOKEN, "chat_id": -1001234567890},
    }


def test_header_takes_precedence_over_the_top_of_the_body() -> None:
    top = {"telegram_bot_token": "top", "telegram_chat_id": "top"}
    headers = {"telegram-bot-token": TOKEN}
    assert channels(headers, channels={}, **top) == {"telegram": {"bot_token": TOKEN, "chat_id": "top"}}


@pytest.mark.parametrize(
    "telegram",
    [
        {"bot_token": TOKEN},
        {"chat_id": "5"},
        {"bot_token": TOKEN, "chat_id": ""},
        {"bot_token": None, "chat_id": 5},
        None,
    ],
)
def test_channel_is_left_out_when_it_is_incomplete(telegram: Any) -> None:
    assert channels({}, channels={**SLACK, "telegram": telegram}) == SLACK


def test_channel_is_left_out_when_it_is_unknown() -> None:
    assert channels({}, channels={**SLACK, "email": {"to": "a@b.example"}}) == SLACK


@pytest.mark.parametrize("given", [{}, None, {"email": {}}, {"telegram": {"bot_token": TOKEN}}])
def test_request_is_refused_when_no_channel_is_complete(given: Any) -> None:
    assert error_of(body(channels=given)) == NO_CHANNEL


@pytest.mark.parametrize("name", ["title", "message", "level"])
def test_request_is_refused_when_a_required_field_is_missing_or_null(name: str) -> None:
    without = {key: value for key, value in msgspec.json.decode(body()).items() if key != name}
    assert error_of(msgspec.json.encode(without)) == f"Missing required field: {name}"
    assert error_of(body(**{name: None})) == f"Missing required field: {name}"


@pytest.mark.parametrize(
    ("name", "limit"),
    [("title", 200), ("message", 2_000), ("source", 100)],
)
def test_text_is_refused_when_it_is_too_long(name: str, limit: int) -> None:
    assert getattr(parse_request(body(**{name: "é" * limit}), {}), name) == "é" * limit
    assert error_of(body(**{name: "é" * (limit + 1)})) == (
        f"Invalid request data: {name} has {limit + 1} characters; it may have {limit} at most"
    )


@pytest.mark.parametrize(("given", "shown"), [("LOUD", "LOUD"), ("", ""), (3, "3"), ("x" * 90, "x" * 60)])
def test_level_is_refused_when_it_is_unknown(given: object, shown: str) -> None:
    assert error_of(body(level=given)) == f"Invalid log level: {shown}"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Request body is required"),
        (b"{}", "Request body is required"),
        (b"null", "Request body is required"),
        (b"[1]", "Invalid request data: the body must be a JSON object"),
        (b'{"title": ', "Invalid request data: the body cannot be read as JSON: Input data was truncated"),
        (
            b'"\xff"',
            (
                "Invalid request data: the body cannot be read as JSON: "
                "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
            ),
        ),
        (body(channels=["slack"]), "Invalid request data: channels must be an object"),
        (body(channels={"slack": "x"}), "Invalid request data: channels.slack must be an object"),
        (body(title={"a": 1}), "Invalid request data: title must be a string"),
        (body(metadata=[1]), "Invalid request data: metadata must be an object"),
    ],
)
def test_request_is_refused_when_its_form_is_wrong(raw: bytes, message: str) -> None:
    assert error_of(raw) == message


def test_request_is_refused_when_it_is_nested_too_deeply() -> None:
    assert error_of(b"[" * 100_000 + b"]" * 100_000).startswith(
        "Invalid request data: the body cannot be read as JSON:"
    )


def test_errors_are_reported_in_the_order_of_the_replaced_broker() -> None:
    long = "x" * 201
    assert error_of(b'{"title": 5, "level": "LOUD"}') == NO_CHANNEL
    assert error_of(body(message=None, title=long, level="LOUD")) == "Missing required field: message"
    assert error_of(body(title=long, level="LOUD")).startswith("Invalid request data: title has 201")
    assert error_of(body(level="LOUD")) == "Invalid log level: LOUD"


@pytest.mark.parametrize("empty", [None, {}, [], ""])
def test_metadata_are_none_when_they_are_empty(empty: Any) -> None:
    assert parse_request(body(metadata=empty), {}).metadata is None


def test_text_may_be_a_number_as_in_the_replaced_broker() -> None:
    request = parse_request(body(title=5, message=2.5, source=True), {})
    assert (request.title, request.message, request.source) == ("5", "2.5", "True")


def test_request_shows_no_secret_when_it_is_printed() -> None:
    assert repr(parse_request(body(), {})) == "<request.SendRequest>"


NOTIFICATION = BrokerNotification(
    id="123e4567-e89b-12d3-a456-426614174000",
    title="Title",
    message="Message",
    level="info",
    at=datetime(2024, 6, 11, 14, 30, tzinfo=UTC),
)


def make(name: str, **settings: Any) -> Target:
    return make_target(name, settings, NOTIFICATION, Endpoints())


def test_slack_target_has_channel_and_username() -> None:
    body = make("slack", webhook_url=WEBHOOK, channel="#alerts", username="MonitoringBot").rendered.body
    assert (body["channel"], body["username"]) == ("#alerts", "MonitoringBot")


def test_slack_target_has_the_default_username_when_none_is_given() -> None:
    assert make("slack", webhook_url=WEBHOOK, username=None).rendered.body["username"] == "NotificationBot"


@pytest.mark.parametrize("chat_id", [-1001234567890, "-1001234567890"])
def test_telegram_target_is_markdown_when_no_mode_is_given(chat_id: int | str) -> None:
    target = make("telegram", bot_token=TOKEN, chat_id=chat_id)
    assert target.rendered.body["parse_mode"] == "Markdown"
    config = msgspec.to_builtins(target.config)
    assert {name: value for name, value in config.items() if value is not None} == {
        "bot_token": TOKEN,
        "chat_id": chat_id,
    }


def test_telegram_target_is_plain_when_the_mode_is_null() -> None:
    assert "parse_mode" not in make("telegram", bot_token=TOKEN, chat_id=5, parse_mode=None).rendered.body


def test_target_is_made_when_it_has_unknown_settings() -> None:
    assert make("slack", webhook_url=WEBHOOK, thread="5").service == "Slack"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "slack",
            {"webhook_url": "https://evil.example/services/T/B/secret"},
            "Invalid slack configuration: webhook_url must begin with https://hooks.slack.com/",
        ),
        ("slack", {"webhook_url": 5}, "Invalid slack configuration: Expected `str`, got `int` - at `$.webhook_url`"),
        (
            "slack",
            {"webhook_url": WEBHOOK, "channel": ["secret"]},
            "Invalid slack configuration: Expected `str | null`, got `array` - at `$.channel`",
        ),
        (
            "telegram",
            {"bot_token": "123:secret/../x", "chat_id": 5},
            "Invalid telegram configuration: bot_token must be digits, a colon, then letters, digits, _ or -",
        ),
        (
            "telegram",
            {"bot_token": TOKEN, "chat_id": True},
            "Invalid telegram configuration: Expected `int | str`, got `bool` - at `$.chat_id`",
        ),
    ],
)
def test_target_is_refused_when_a_setting_cannot_be_used(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError) as caught:
        make(name, **settings)
    assert str(caught.value) == message
    assert "secret" not in message


def test_target_is_refused_when_metadata_are_nested_too_deeply() -> None:
    nested: dict[str, Any] = {}
    for _level in range(5_000):
        nested = {"a": nested}
    notification = msgspec.structs.replace(NOTIFICATION, metadata=nested)
    with pytest.raises(TargetError, match="metadata are nested too deeply to be shown"):
        make_target("slack", {"webhook_url": WEBHOOK}, notification, Endpoints())


def test_target_shows_no_secret_when_it_is_printed() -> None:
    assert repr(make("slack", webhook_url=WEBHOOK)) == "<request.Target>"
