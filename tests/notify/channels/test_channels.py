import textwrap
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from app.notify import channels
from app.notify.channels import (
    Channel,
    ChannelConfigError,
    ConfigProblem,
    discord,
    email,
    find_channels,
    ntfy,
    pagerduty,
    parse_config,
    slack,
    teams,
    telegram,
    webhook,
)
from app.notify.message import Entry, Message
from app.notify.transport import ChannelConfig, DeliveryError, Endpoints, open_session
from tests.notify.channel_deliveries import send
from tests.notify.unreachable_servers import closed_port_url, server_with_full_backlog
from tests.receivers import (
    HANGS,
    RESETS_BEFORE,
    DiscordReceiver,
    NtfyReceiver,
    PagerDutyReceiver,
    TeamsReceiver,
    WebhookReceiver,
    answers,
)

#: By this type, mypy checks that every module defines what a channel needs.
KNOWN: tuple[Channel, ...] = (discord, email, ntfy, pagerduty, slack, teams, telegram, webhook)

#: More and longer than any service takes.
LONG = Message(
    title="t" * 300,
    text="&" * 10_000,
    entries=tuple(
        Entry(level="warning", sensor=f"_{number}" * 60, metric="ü" * 80, note="*" * 400) for number in range(300)
    ),
    group_key="long",
)

SMS_MODULE = '''
    """A made-up channel."""
    from app.notify.pacing import SendLimit
    from app.notify.transport import ChannelConfig, Delivered

    TYPE = "sms"

    class Config(ChannelConfig, frozen=True):
        number: str

    def check(config, endpoints):
        return None
'''


SECRET = "s3cret-part-of-the-address"


def secret_configs(base: str) -> Iterator[tuple[Channel, ChannelConfig]]:
    """Yield every channel with settings that hold SECRET and lead to the same server."""
    yield slack, slack.Config(webhook_url=f"{base}/{SECRET}")
    yield telegram, telegram.Config(bot_token=f"1:{SECRET}", chat_id=-100)
    yield discord, discord.Config(webhook_url=f"{base}/{SECRET}")
    yield ntfy, ntfy.Config(topic="alerts", url=base, token=SECRET)
    yield pagerduty, pagerduty.Config(routing_key="0123456789abcdef" * 2, url=f"{base}/{SECRET}")
    yield teams, teams.Config(webhook_url=f"{base}/{SECRET}")
    yield webhook, webhook.Config(url=f"{base}/{SECRET}", headers={"X-Token": SECRET}, secret=SECRET)


async def failures_with_locals(session: aiohttp.ClientSession, base: str) -> AsyncIterator[tuple[DeliveryError, str]]:
    """Send through every channel, and yield each error with its text, traceback and local variables."""
    endpoints = Endpoints(slack_webhook_prefix=base, telegram_api_base=base)
    for channel, config in secret_configs(base):
        with pytest.raises(DeliveryError) as caught:
            await channel.send(session, config, channel.render(Message(title="Too warm")), endpoints)
        with_locals = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        yield caught.value, f"{caught.value!r} {vars(caught.value)} {''.join(with_locals.format())}"


def problems(type_name: str, settings: dict[str, object]) -> list[tuple[str | None, str]]:
    with pytest.raises(ChannelConfigError) as caught:
        parse_config(type_name, settings, Endpoints())
    return [(problem.field, problem.message) for problem in caught.value.problems]


def test_find_channels_finds_every_module_by_its_type() -> None:
    assert dict(find_channels()) == {channel.TYPE: channel for channel in KNOWN}


def test_find_channels_finds_a_new_module_when_one_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sms.py").write_text(textwrap.dedent(SMS_MODULE))
    monkeypatch.setattr(channels, "__path__", [*channels.__path__, str(tmp_path)])
    assert list(find_channels()) == [
        "discord",
        "email",
        "ntfy",
        "pagerduty",
        "slack",
        "sms",
        "teams",
        "telegram",
        "webhook",
    ]
    _, config = parse_config("sms", {"number": "+49301234"}, Endpoints())
    assert repr(config) == "<sms.Config>"
    assert problems("sms", {}) == [("number", "number is missing")]


def test_parse_config_returns_the_channel_and_its_settings() -> None:
    channel, config = parse_config("telegram", {"bot_token": "1:abc", "chat_id": "-100"}, Endpoints())
    assert channel is find_channels()["telegram"]
    assert config == telegram.Config(bot_token="1:abc", chat_id="-100")


def test_parse_config_suggests_a_type_when_the_type_is_unknown() -> None:
    assert problems("telegramm", {}) == [
        (
            "type",
            (
                "type 'telegramm' is not known; there are: discord, email, ntfy, pagerduty, slack, teams, telegram, "
                "webhook. Did you mean telegram?"
            ),
        )
    ]


def test_parse_config_reports_all_problems_at_once_when_there_are_several() -> None:
    assert problems("telegram", {"bot_tokn": "1:s3cret", "chat_id": 1.5}) == [
        (
            "bot_tokn",
            (
                "setting 'bot_tokn' is not known; there are: bot_token, chat_id, message_thread_id, timezone. "
                "Did you mean bot_token?"
            ),
        ),
        ("bot_token", "bot_token is missing"),
        ("chat_id", "chat_id: Expected `int | str`, got `float`"),
    ]


def test_parse_config_explains_without_the_secret_when_a_value_is_wrong() -> None:
    assert problems("telegram", {"bot_token": "s3cret", "chat_id": 1}) == [
        ("bot_token", "bot_token must be digits, a colon, then letters, digits, _ or -")
    ]
    assert problems("slack", {"webhook_url": "https://evil.example/s3cret"}) == [
        ("webhook_url", "webhook_url must begin with https://hooks.slack.com/")
    ]
    assert problems("webhook", {"url": "s3cret"}) == [("url", "url must be an http:// or https:// address")]


def test_config_error_lists_all_problems_in_one_line() -> None:
    error = ChannelConfigError((ConfigProblem("a", "a is missing"), ConfigProblem(None, "and more")))
    assert str(error) == "a is missing; and more"


async def test_delivery_errors_show_no_secret_however_they_are_shown() -> None:
    """Check the text, repr, traceback, context and local variables of our frames."""
    faults = [RESETS_BEFORE, HANGS, *(answers(status, f"Cannot POST /{SECRET}") for status in (404, 500))]
    async with WebhookReceiver() as receiver, open_session(connect_timeout_s=0.1, total_timeout_s=0.2) as session:
        for fault in faults:
            receiver.fail_next(fault, times=len(KNOWN))
        with server_with_full_backlog() as full:
            bases = [closed_port_url(), full, "http://a..b", receiver.url.replace("http:", "https:")]
            for base in [*bases, *[receiver.url] * len(faults)]:
                async for error, shown in failures_with_locals(session, base):
                    assert SECRET not in shown
                    assert error.__context__ is None
                    assert error.__cause__ is None


async def test_long_messages_fit_every_service(session: aiohttp.ClientSession) -> None:
    async with (
        NtfyReceiver() as ntfy_server,
        PagerDutyReceiver() as pagerduty_server,
        DiscordReceiver() as discord_server,
        TeamsReceiver() as teams_server,
    ):
        await send(session, ntfy, ntfy.Config(topic="a", url=ntfy_server.url), LONG)
        config = pagerduty.Config(routing_key="0" * 32, url=f"{pagerduty_server.url}/v2/enqueue")
        await send(session, pagerduty, config, LONG)
        await send(session, discord, discord.Config(webhook_url=discord_server.webhook_url), LONG)
        await send(session, teams, teams.Config(webhook_url=f"{teams_server.url}/"), LONG)
        assert [len(server.accepted) for server in (ntfy_server, pagerduty_server, discord_server, teams_server)] == (
            [1, 1, 1, 1]
        )
