from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.broker.format import BrokerNotification, slack_message, telegram_message
from app.notify.channels import slack as slack_channel
from app.notify.channels import telegram as telegram_channel
from app.notify.message import RenderedMessage
from app.notify.message_lines import utf16_units
from app.notify.transport import Endpoints
from tests.notify.telegram_markup import EntityError, read_markup
from tests.receivers import SlackReceiver, TelegramReceiver

ID = "123e4567-e89b-12d3-a456-426614174000"
AT = datetime(2024, 6, 11, 14, 30, 0, 375397, tzinfo=UTC)
CONFIG = telegram_channel.Config(bot_token="1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ", chat_id="-1001234567890")


def notify(**more: Any) -> BrokerNotification:
    given = {"id": ID, "title": "Title", "message": "Message", "level": "info", "at": AT, **more}
    return msgspec.convert(given, BrokerNotification)


#: The example of the replaced broker's documentation.
DEPLOY = notify(
    title="✅ Deploy Concluído",
    message="Nova versão v2.1.4 foi deployada com sucesso em produção",
    source="ci-cd-pipeline",
    metadata={"version": "v2.1.4", "environment": "production", "duration": "3m 45s", "tests_passed": 156},
)


def visible_text(rendered: RenderedMessage) -> str:
    return read_markup(rendered.body["text"], rendered.body.get("parse_mode") or "")


def test_slack_message_is_that_of_the_replaced_broker() -> None:
    assert slack_message(DEPLOY, channel="#alerts", username="MonitoringBot").body == {
        "attachments": [
            {
                "color": "#36a64f",
                "title": "ℹ️ ✅ Deploy Concluído",
                "text": "Nova versão v2.1.4 foi deployada com sucesso em produção",
                "fields": [
                    {"title": "Level", "value": "INFO", "short": True},
                    {"title": "Timestamp", "value": "2024-06-11 14:30:00 UTC", "short": True},
                    {"title": "Source", "value": "ci-cd-pipeline", "short": True},
                    {
                        "title": "Metadata",
                        "value": (
                            "• *version*: v2.1.4\n• *environment*: production\n"
                            "• *duration*: 3m 45s\n• *tests_passed*: 156"
                        ),
                        "short": False,
                    },
                ],
                "footer": "Notification ID: 123e4567-e89b-12d3-a456-426614174000",
                "ts": 1718116200,
            }
        ],
        "username": "MonitoringBot",
        "channel": "#alerts",
    }


def test_slack_message_has_defaults_when_only_required_fields_are_given() -> None:
    body = slack_message(notify(level="disaster")).body
    assert body["username"] == "NotificationBot"
    assert "channel" not in body
    assert body["attachments"][0]["title"] == "💀 Title"
    assert [field["title"] for field in body["attachments"][0]["fields"]] == ["Level", "Timestamp"]


def test_slack_message_escapes_the_frame_but_not_the_message() -> None:
    notification = notify(
        title="<a> & b", message="<https://t.example|*here*> & there", source="<s>", metadata={"<k>": "<!channel> & v"}
    )
    attachment = slack_message(notification).body["attachments"][0]
    assert attachment["title"] == "ℹ️ &lt;a&gt; &amp; b"
    assert attachment["text"] == "<https://t.example|*here*> & there"
    assert attachment["fields"][2]["value"] == "&lt;s&gt;"
    assert attachment["fields"][3]["value"] == "• *&lt;k&gt;*: &lt;!channel&gt; &amp; v"


async def test_slack_message_is_accepted_when_every_field_has_its_greatest_length(
    session: aiohttp.ClientSession, slack: SlackReceiver, endpoints: Endpoints
) -> None:
    long = notify(
        title="&" * 200, message="m" * 2_000, source="&" * 100, metadata={f"k{n}": "&" * 500 for n in range(100)}
    )
    config = slack_channel.Config(webhook_url=slack.webhook_url())
    await slack_channel.send(session, config, slack_message(long), endpoints)
    lines = slack.accepted[0].body["attachments"][0]["fields"][3]["value"].split("\n")
    assert lines[0] == "• *k0*: " + "&amp;" * 500
    assert lines[-2].endswith("&amp;…")
    assert lines[-1] == f"• +{100 - len(lines) + 1} more"


def test_telegram_message_is_that_of_the_replaced_broker() -> None:
    assert telegram_message(DEPLOY).body == {
        "text": (
            "ℹ️ *✅ Deploy Concluído*\n\n"
            "📝 Nova versão v2.1.4 foi deployada com sucesso em produção\n\n"
            "🏷️ *Level:* `INFO`\n"
            "🕐 *Time:* `2024-06-11 14:30:00 UTC`\n"
            "🔍 *Source:* `ci-cd-pipeline`\n\n"
            "📊 *Metadata:*\n"
            "• *version:* `v2.1.4`\n"
            "• *environment:* `production`\n"
            "• *duration:* `3m 45s`\n"
            "• *tests_passed:* `156`\n\n"
            "🆔 `123e4567-e89b-12d3-a456-426614174000`"
        ),
        "parse_mode": "Markdown",
    }


@pytest.mark.parametrize(
    ("level", "emoji"), [("info", "ℹ️"), ("warning", "⚠️"), ("error", "❌"), ("critical", "🚨"), ("disaster", "💀")]
)
def test_telegram_message_leaves_out_fields_when_they_were_not_given(level: str, emoji: str) -> None:
    assert telegram_message(notify(level=level, metadata={})).body["text"] == (
        f"{emoji} *Title*\n\n📝 Message\n\n🏷️ *Level:* `{level.upper()}`\n"
        f"🕐 *Time:* `2024-06-11 14:30:00 UTC`\n\n🆔 `{ID}`"
    )


def test_telegram_message_has_the_time_in_utc() -> None:
    local = AT.astimezone(timezone(timedelta(hours=-3)))
    assert "2024-06-11 14:30:00 UTC" in telegram_message(notify(at=local)).body["text"]


#: The characters with a meaning in any markup, and a few others.
PITFALLS = "_*`[]()~|\\<>/&;!#.-=b a\n💀"
MARKS = "a_b *c `d [e] <f> & \\ . - ! ``g`` **h** \\_ i"


@pytest.mark.parametrize("mode", ["Markdown", "markdown", "MarkdownV2", "HTML", "", None])
def test_telegram_message_shows_every_character_of_the_frame_in_every_mode(mode: str | None) -> None:
    notification = notify(title=MARKS, source=MARKS, metadata={MARKS: MARKS, "x_y": "_"}, level="error")
    assert visible_text(telegram_message(notification, mode)) == (
        f"❌ {MARKS}\n\n📝 Message\n\n🏷️ Level: ERROR\n🕐 Time: 2024-06-11 14:30:00 UTC\n🔍 Source: {MARKS}\n\n"
        f"📊 Metadata:\n• {MARKS}: {MARKS}\n• x_y: _\n\n🆔 {ID}"
    )


def test_telegram_message_has_no_parse_mode_when_the_client_gave_none() -> None:
    assert "parse_mode" not in telegram_message(notify(), None).body


@pytest.mark.parametrize(
    ("mode", "message", "shown"),
    [
        ("Markdown", "*bold* [here](https://t.example)", "bold here"),
        ("MarkdownV2", "*bold* \\- ||x||", "bold - x"),
        ("HTML", "<b>bold</b> &amp; more", "bold & more"),
    ],
)
async def test_telegram_message_keeps_the_clients_formatting_when_it_parses(
    session: aiohttp.ClientSession,
    telegram: TelegramReceiver,
    endpoints: Endpoints,
    mode: str,
    message: str,
    shown: str,
) -> None:
    rendered = telegram_message(notify(message=message), mode)
    await telegram_channel.send(session, CONFIG, rendered, endpoints)
    assert telegram.refused == []
    assert f"📝 {shown}\n" in telegram.texts[0]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("MarkdownV2", "v2.1.4 (final) #1 \\ `"),
        ("HTML", "a < b && c > d <x>"),
    ],
)
async def test_telegram_message_arrives_escaped_when_its_formatting_is_broken(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, mode: str, message: str
) -> None:
    rendered = telegram_message(notify(message=message, source="db_1", metadata={"a_b": "c_d"}), mode)
    await telegram_channel.send(session, CONFIG, rendered, endpoints)
    assert telegram.refused == [400]
    (text,) = telegram.texts
    assert text == (
        f"ℹ️ Title\n\n📝 {message}\n\n🏷️ Level: INFO\n🕐 Time: 2024-06-11 14:30:00 UTC\n🔍 Source: db_1\n\n"
        f"📊 Metadata:\n• a_b: c_d\n\n🆔 {ID}"
    )


@pytest.mark.parametrize("message", ["disk_usage is high", "5 * 3", "5 * 3 \\_ `x [y", "[a](b", "```x``", "`", "a\\"])
async def test_telegram_message_is_escaped_at_once_when_its_markdown_has_an_open_entity(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, message: str
) -> None:
    rendered = telegram_message(notify(message=message, source="f(x)", metadata={"`a_b": "*c_d"}))
    await telegram_channel.send(session, CONFIG, rendered, endpoints)
    assert telegram.refused == []
    (text,) = telegram.texts
    assert text == (
        f"ℹ️ Title\n\n📝 {message}\n\n🏷️ Level: INFO\n🕐 Time: 2024-06-11 14:30:00 UTC\n🔍 Source: f(x)\n\n"
        f"📊 Metadata:\n• `a_b: *c_d\n\n🆔 {ID}"
    )


def test_telegram_message_shows_any_json_in_metadata_as_the_replaced_broker_did() -> None:
    metadata = {"list": ["a", 1], "object": {"k": None}, "yes": True, "none": None, "number": 1.5, "empty": ""}
    assert visible_text(telegram_message(notify(metadata=metadata))).split("Metadata:\n")[1] == (
        "• list: ['a', 1]\n• object: {'k': None}\n• yes: True\n• none: None\n• number: 1.5\n• empty: \n\n🆔 " + ID
    )


@pytest.mark.parametrize("value", ["v" * 100, "💀" * 50, "<&>_*`" * 20])
@pytest.mark.parametrize("mode", ["Markdown", "MarkdownV2", "HTML", None])
async def test_telegram_message_cuts_metadata_first_when_it_is_too_long(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, value: str, mode: str | None
) -> None:
    notification = notify(message="m" * 2_000, metadata={f"key-{n}": value for n in range(50)})
    rendered = telegram_message(notification, mode)
    await telegram_channel.send(session, CONFIG, rendered, endpoints)
    text = telegram.texts[0]
    assert f"📝 {'m' * 2_000}\n" in text
    assert f"• key-0: {value}\n" in text
    assert 3_900 < utf16_units(text) <= 4_096
    kept = text.count("• key-")
    assert text.endswith(f"\n• +{50 - kept} more\n\n🆔 {ID}")


async def test_telegram_message_cuts_a_metadata_value_when_it_alone_is_too_long(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    await telegram_channel.send(
        session, CONFIG, telegram_message(notify(metadata={"trace": "x" * 100_000, "host": "a"})), endpoints
    )
    text = telegram.texts[0]
    assert "• trace: xxxx" in text
    assert "xxxx…\n• +1 more\n" in text
    assert utf16_units(text) > 4_000


async def test_telegram_message_cuts_and_escapes_the_message_when_it_is_too_long_without_metadata(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    notification = notify(title="💀" * 200, message="*" + "💀" * 1_998 + "*", source="s" * 100, metadata={"a": "b"})
    rendered = telegram_message(notification)
    await telegram_channel.send(session, CONFIG, rendered, endpoints)
    text = telegram.texts[0]
    assert "📝 *💀💀" in text
    assert "💀…\n\n🏷️ Level: INFO" in text
    assert "Metadata" not in text
    assert 4_090 <= utf16_units(text) <= 4_096


@settings(deadline=None)
@given(
    message=st.text(PITFALLS, max_size=12),
    value=st.text(PITFALLS, max_size=8),
    mode=st.sampled_from(["Markdown", "MarkdownV2", "HTML", ""]),
)
def test_telegram_message_arrives_with_its_whole_frame_when_its_texts_are_anything(
    message: str, value: str, mode: str
) -> None:
    rendered = telegram_message(notify(title=value, message=message, source=value, metadata={f"k{value}": value}), mode)
    try:
        text = visible_text(rendered)
    except EntityError:
        assert rendered.fallback is not None
        text = read_markup(rendered.fallback["text"], mode)
        assert f"📝 {message}\n" in text
    assert text.startswith(f"ℹ️ {value}\n\n📝 ")
    source = f"🔍 Source: {value}\n" if value else ""
    assert text.endswith(
        f"\n\n🏷️ Level: INFO\n🕐 Time: 2024-06-11 14:30:00 UTC\n{source}\n📊 Metadata:\n• k{value}: {value}\n\n🆔 {ID}"
    )


def test_telegram_message_has_plain_text_as_the_fallback_when_all_was_escaped_already() -> None:
    for message in ("Message", "left_open"):
        fallback = telegram_message(notify(message=message)).fallback
        assert fallback == {
            "text": f"ℹ️ Title\n\n📝 {message}\n\n🏷️ Level: INFO\n🕐 Time: 2024-06-11 14:30:00 UTC\n\n🆔 {ID}"
        }


def test_telegram_message_passes_the_mode_on_when_it_is_unknown() -> None:
    assert telegram_message(notify(message="a_b"), "bbcode") == RenderedMessage(
        {
            "text": f"ℹ️ Title\n\n📝 a_b\n\n🏷️ Level: INFO\n🕐 Time: 2024-06-11 14:30:00 UTC\n\n🆔 {ID}",
            "parse_mode": "bbcode",
        }
    )
