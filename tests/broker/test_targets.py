from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.broker.format import BrokerNotification
from app.broker.targets import Target, TargetError, make_target
from app.notify.transport import Endpoints

WEBHOOK = "https://hooks.slack.com/services/T123/B456/abc123"
TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
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
    assert msgspec.to_builtins(target.config) == {"bot_token": TOKEN, "chat_id": chat_id}


def test_telegram_target_is_plain_when_the_mode_is_null() -> None:
    assert "parse_mode" not in make("telegram", bot_token=TOKEN, chat_id=5, parse_mode=None).rendered.body


def test_target_is_made_when_it_has_settings_that_nobody_knows() -> None:
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


def test_target_is_refused_when_metadata_are_nested_without_end() -> None:
    nested: dict[str, Any] = {}
    for _level in range(5_000):
        nested = {"a": nested}
    notification = msgspec.structs.replace(NOTIFICATION, metadata=nested)
    with pytest.raises(TargetError, match="metadata are nested too deeply to be shown"):
        make_target("slack", {"webhook_url": WEBHOOK}, notification, Endpoints())


def test_target_shows_no_secret_when_it_is_printed() -> None:
    assert repr(make("slack", webhook_url=WEBHOOK)) == "<broker_targets.Target>"
