"""E-mail, ntfy, PagerDuty, Discord and Teams, by local receivers that refuse what the services refuse."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.notify.channels import Channel, discord, email, ntfy, pagerduty, teams
from app.notify.message import Entry, Link, Message
from app.notify.transport import (
    ChannelConfig,
    Delivered,
    DeliveryError,
    Endpoints,
    PermanentError,
    TransientError,
    UncertainError,
    open_session,
)
from tests.receivers import (
    DiscordReceiver,
    MailReceiver,
    NtfyReceiver,
    PagerDutyReceiver,
    TeamsReceiver,
    answers,
)

KEY = "0123456789abcdef0123456789abcdef"
FREEZER = Entry(
    level="critical",
    sensor="freezer_3",
    metric="temperature",
    value=-8.5,
    unit="°C",
    condition="above -10",
    links=(Link("Page", "https://t.example/#/alert/7"),),
    note="@everyone [door](open)?",
)
MESSAGE = Message(title="1 critical: cold", entries=(FREEZER,), group_key="cold", page="https://t.example/#/alert/7")
LONG = Message(
    title="t" * 300,
    text="&" * 10_000,
    entries=tuple(
        Entry(level="warning", sensor=f"_{number}" * 60, metric="ü" * 80, note="*" * 400) for number in range(300)
    ),
    group_key="long",
)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


async def send(session: aiohttp.ClientSession, channel: Channel, config: ChannelConfig, message: Message) -> Delivered:
    return await channel.send(session, config, channel.render(message), Endpoints())


async def failure(
    session: aiohttp.ClientSession, channel: Channel, config: ChannelConfig, message: Message = MESSAGE
) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await send(session, channel, config, message)
    return caught.value


async def test_ntfy_is_sent_title_text_priority_and_link(session: aiohttp.ClientSession) -> None:
    async with NtfyReceiver() as server:
        await send(session, ntfy, ntfy.Config(topic="alerts", url=server.url), MESSAGE)
        (accepted,) = server.accepted
    assert accepted.body == {
        "topic": "alerts",
        "title": "1 critical: cold",
        "message": (
            "🚨 freezer_3 temperature -8.5 °C, above -10 °C\n@everyone [door](open)?\nPage: https://t.example/#/alert/7"
        ),
        "priority": 5,
        "tags": ["🚨"],
        "click": "https://t.example/#/alert/7",
    }


async def test_ntfy_channel_is_broken_when_the_topic_needs_another_token(session: aiohttp.ClientSession) -> None:
    async with NtfyReceiver() as server:
        server.protected["alerts"] = "tk_right"
        error = await failure(session, ntfy, ntfy.Config(topic="alerts", url=server.url, token="tk_wrong"))
        assert isinstance(error, PermanentError)
        assert (error.channel_broken, error.reason) == (True, "ntfy answered 403")
        await send(session, ntfy, ntfy.Config(topic="alerts", url=server.url, token="tk_right"), MESSAGE)
        assert len(server.accepted) == 1


async def test_pagerduty_opens_one_incident_for_a_group_and_resolves_it_when_nothing_is_left(
    session: aiohttp.ClientSession,
) -> None:
    async with PagerDutyReceiver() as server:
        config = pagerduty.Config(routing_key=KEY, url=f"{server.url}/v2/enqueue")
        await send(session, pagerduty, config, MESSAGE)
        await send(session, pagerduty, config, Message(title="2 critical: cold", entries=(FREEZER,), group_key="cold"))
        assert list(server.incidents.values()) == ["2 critical: cold"]
        await send(session, pagerduty, config, Message(title="2 resolved: cold", group_key="cold", is_end=True))
        assert server.incidents == {}
        first = server.accepted[0].body
    assert (first["payload"]["severity"], first["payload"]["source"], first["client_url"]) == (
        "critical",
        "freezer_3",
        "https://t.example/#/alert/7",
    )


async def test_pagerduty_refusal_of_an_event_breaks_no_channel(session: aiohttp.ClientSession) -> None:
    async with PagerDutyReceiver() as server:
        config = pagerduty.Config(routing_key=KEY, url=f"{server.url}/v2/enqueue")
        server.fail_next(answers(429, Retry_After="7"))
        error = await failure(session, pagerduty, config)
        assert (type(error), error.retry_after_s) == (TransientError, 7.0)
        server.fail_next(answers(400, '{"status":"invalid event"}'))
        refused = await failure(session, pagerduty, config)
    assert isinstance(refused, PermanentError)
    assert not refused.channel_broken


async def test_discord_mentions_nobody_and_escapes_markdown(session: aiohttp.ClientSession) -> None:
    async with DiscordReceiver() as server:
        await send(session, discord, discord.Config(webhook_url=server.webhook_url), MESSAGE)
        (accepted,) = server.accepted
    assert accepted.body == {
        "content": "🚨 **1 critical: cold**",
        "embeds": [
            {
                "color": 0x8B0000,
                "description": (
                    "🚨 **freezer\\_3** temperature \\-8.5 °C, above \\-10 °C\n@everyone \\[door\\]\\(open\\)?\n"
                    "[Page](https://t.example/#/alert/7)"
                ),
            }
        ],
        "allowed_mentions": {"parse": []},
    }


async def test_discord_waits_as_long_as_it_is_told_and_is_broken_when_the_webhook_is_gone(
    session: aiohttp.ClientSession,
) -> None:
    async with DiscordReceiver() as server:
        config = discord.Config(webhook_url=server.webhook_url)
        server.fail_next(answers(429, '{"message":"You are being rate limited.","retry_after":1.25,"global":false}'))
        assert (await failure(session, discord, config)).retry_after_s == 1.25
        server.deleted.add("/api/webhooks/123/token-abc")
        error = await failure(session, discord, config)
    assert isinstance(error, PermanentError)
    assert (error.channel_broken, error.reason) == (True, "Discord answered 404: error 10015")


async def test_teams_is_sent_an_adaptive_card(session: aiohttp.ClientSession) -> None:
    async with TeamsReceiver() as server:
        await send(session, teams, teams.Config(webhook_url=f"{server.url}/workflows/1"), MESSAGE)
        (text,) = server.texts
    assert text == (
        "🚨 **1 critical: cold**\n🚨 **freezer\\_3** temperature -8.5 °C, above -10 °C\n"
        "@everyone \\[door\\]\\(open\\)?\n[Page](https://t.example/#/alert/7)"
    )


def test_teams_refuses_the_address_of_a_retired_connector() -> None:
    config = teams.Config(webhook_url="https://example.webhook.office.com/webhookb2/1")
    assert (teams.check(config, Endpoints()) or "").startswith("webhook_url is that of a retired Office 365 connector")


async def test_long_messages_fit_every_service(session: aiohttp.ClientSession) -> None:
    async with (
        NtfyReceiver() as ntfy_server,
        PagerDutyReceiver() as pagerduty_server,
        DiscordReceiver() as discord_server,
        TeamsReceiver() as teams_server,
    ):
        await send(session, ntfy, ntfy.Config(topic="a", url=ntfy_server.url), LONG)
        config = pagerduty.Config(routing_key=KEY, url=f"{pagerduty_server.url}/v2/enqueue")
        await send(session, pagerduty, config, LONG)
        await send(session, discord, discord.Config(webhook_url=discord_server.webhook_url), LONG)
        await send(session, teams, teams.Config(webhook_url=f"{teams_server.url}/"), LONG)
        assert [len(server.accepted) for server in (ntfy_server, pagerduty_server, discord_server, teams_server)] == (
            [1, 1, 1, 1]
        )


def mail_config(server: MailReceiver, to: str = "ann@example.org, bob@example.org") -> email.Config:
    return email.Config(host="127.0.0.1", port=server.port, security="none", sender="tide@example.org", to=to)


async def test_mail_has_subject_text_and_the_message_that_it_answers(session: aiohttp.ClientSession) -> None:
    async with MailReceiver() as server:
        delivered = await send(session, email, mail_config(server), MESSAGE)
        reply = Message(title="1 resolved: cold", reply_to=delivered.message_ref)
        await send(session, email, mail_config(server), reply)
        (recipients, mail), (_, answer) = server.mails
    assert recipients == ["ann@example.org", "bob@example.org"]
    assert (mail["Subject"], mail["From"], mail["To"]) == (
        "1 critical: cold",
        "tide@example.org",
        "ann@example.org, bob@example.org",
    )
    assert mail["Message-ID"] == answer["In-Reply-To"] == delivered.message_ref
    assert mail.get_content().replace("\r\n", "\n").rstrip() == (
        "🚨 1 critical: cold\n\n🚨 freezer_3 temperature -8.5 °C, above -10 °C\n@everyone [door](open)?\n"
        "Page: https://t.example/#/alert/7"
    )


async def test_mail_goes_to_the_recipients_that_the_server_takes(session: aiohttp.ClientSession) -> None:
    async with MailReceiver() as server:
        server.answers["QUIT"] = "421 too busy"
        await send(session, email, mail_config(server, "ann@example.org"), MESSAGE)
        assert len(server.mails) == 1
        server.answers = {"RCPT": "550 no such user"}
        error = await failure(session, email, mail_config(server))
    assert isinstance(error, PermanentError)
    assert (error.channel_broken, error.reason) == (True, "the mail server refused the recipients: 550")


@pytest.mark.parametrize(
    ("server_answers", "kind", "reason"),
    [
        ({"RCPT": "451 try again"}, TransientError, "the mail server refused the recipients: 451"),
        ({"MAIL": "421 too busy"}, TransientError, "the mail server refused the sender: 421"),
        ({"AFTER": "452 no space"}, TransientError, "the mail server refused the mail: 452"),
        ({"AFTER": "554 looks like spam"}, PermanentError, "the mail server refused the mail: 554"),
        ({"AFTER": ""}, UncertainError, "the connection broke before the mail server took the mail"),
        ({"EHLO": "", "HELO": ""}, TransientError, "no connection could be opened"),
    ],
)
async def test_mail_failure_says_what_it_proves(
    session: aiohttp.ClientSession, server_answers: dict[str, str], kind: type[DeliveryError], reason: str
) -> None:
    async with MailReceiver() as server:
        server.answers = server_answers
        error = await failure(session, email, mail_config(server))
    assert (type(error), error.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"to": "ann"}, "to must be addresses"),
        ({"sender": "a b@c"}, "sender must be an address"),
        ({"port": "70000"}, "port must be a number"),
        ({"security": "ssl"}, "security must be one of starttls, tls, none"),
        ({"username": "ann"}, "username and password must be given together"),
        ({"security": "none", "username": "a", "password": "b"}, "security must be starttls or tls"),
    ],
)
def test_mail_settings_are_refused_with_what_would_be_right(settings: dict[str, str], fault: str) -> None:
    given = {"host": "mail", "sender": "a@example.org", "to": "b@example.org", **settings}
    with pytest.raises(ValueError, match=fault):
        email.Config(**given)
