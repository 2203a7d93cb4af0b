import aiohttp
import msgspec
import pytest

from app.model import LevelName
from app.notify.channels import slack as channel
from app.notify.message import Entry, Link, Message
from app.notify.transport import Delivered, DeliveryError, Endpoints, PermanentError, TransientError, UncertainError
from tests.notify.manual_clock import ManualClock
from tests.receivers import HANGS, RESETS_AFTER, SlackReceiver, WebhookReceiver, answers


def entry(level: LevelName = "warning", sensor: str = "freezer-3", **more: object) -> Entry:
    given = {"level": level, "sensor": sensor, "metric": "temperature", "value": 9.5, "unit": "°C", **more}
    return msgspec.convert(given, Entry)


MESSAGE = Message(title="Cold <room> & more", entries=(entry(),), footer="rule cold-room")


async def refuse(session: aiohttp.ClientSession, config: channel.Config, endpoints: Endpoints) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(session, config, channel.render(MESSAGE), endpoints)
    return caught.value


@pytest.fixture
def config(slack: SlackReceiver) -> channel.Config:
    return channel.Config(webhook_url=slack.webhook_url())


def test_render_writes_blocks_with_a_colour_for_each_run_of_levels() -> None:
    entries = (
        entry("critical", "a", condition="above 8", links=[Link("Page", "https://t.example/?a=1&b=<2|3>")]),
        entry("warning", "b"),
        entry("warning", "c"),
    )
    message = Message(title="Cold <room> & more", text="Site A", entries=entries, footer="rule cold-room")
    assert channel.render(message).body == {
        "text": (
            "🚨 Cold &lt;room&gt; &amp; more\nSite A\n"
            "🚨 a temperature 9.5 °C, above 8 °C\nPage: https://t.example/?a=1&amp;b=&lt;2|3&gt;\n"
            "⚠️ b temperature 9.5 °C\n⚠️ c temperature 9.5 °C\nrule cold-room"
        ),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "🚨 *Cold &lt;room&gt; &amp; more*"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "Site A"}},
        ],
        "attachments": [
            {
                "color": "#8b0000",
                "blocks": [
                    {
                        "type": "section",
                        "text": {
                            "type": "mrkdwn",
                            "text": "🚨 *a* temperature 9.5 °C, above 8 °C\n"
                            "<https://t.example/?a=1&amp;b=%3C2%7C3%3E|Page>",
                        },
                    }
                ],
            },
            {
                "color": "#ff9500",
                "blocks": [
                    {"type": "section", "text": {"type": "mrkdwn", "text": "⚠️ *b* temperature 9.5 °C"}},
                    {"type": "section", "text": {"type": "mrkdwn", "text": "⚠️ *c* temperature 9.5 °C"}},
                ],
            },
            {
                "color": "#8b0000",
                "blocks": [{"type": "context", "elements": [{"type": "mrkdwn", "text": "rule cold-room"}]}],
            },
        ],
    }


async def test_send_delivers_when_slack_answers_ok(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    delivered = await channel.send(session, config, channel.render(MESSAGE), endpoints)
    assert delivered == Delivered(message_ref=None, response="ok")
    assert slack.accepted[0].body == channel.render(MESSAGE).body


@pytest.mark.parametrize("text", ["x", "&" * 1_000, "💀" * 1_000])
async def test_render_stays_within_slacks_limits_when_there_is_too_much(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints, text: str
) -> None:
    links = [Link(text[:10], "https://t.example/" + "a&" * 400)] * 5
    entries = tuple(entry(sensor=f"{n}-{text}", note=text, threshold=text, links=links) for n in range(200))
    message = Message(title=text, text=text, entries=entries, footer=text)
    await channel.send(session, config, channel.render(message), endpoints)
    body = slack.accepted[0].body
    kept = [block for bar in body["attachments"] for block in bar["blocks"] if block["type"] == "section"]
    assert 1 <= len(kept) <= 46
    assert f"+{200 - len(kept)} more" in slack.accepted[0].text


async def test_render_fills_the_blocks_when_entries_are_short(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    message = Message(title="t", text="t", entries=tuple(entry(sensor=str(n)) for n in range(60)), footer="f")
    await channel.send(session, config, channel.render(message), endpoints)
    assert "+14 more" in slack.accepted[0].text


@pytest.mark.parametrize(
    ("status", "code", "channel_broken"),
    [
        (400, "invalid_payload", False),
        (400, "user_not_found", False),
        (403, "action_prohibited", True),
        (403, "invalid_token", True),
        (404, "channel_not_found", True),
        (410, "channel_is_archived", True),
    ],
)
async def test_send_is_permanent_when_slack_refuses(
    session: aiohttp.ClientSession,
    slack: SlackReceiver,
    config: channel.Config,
    endpoints: Endpoints,
    status: int,
    code: str,
    channel_broken: bool,
) -> None:
    slack.refuse(config.webhook_url, status, code)
    error = await refuse(session, config, endpoints)
    assert isinstance(error, PermanentError)
    assert error.reason == f"Slack answered {status}: {code}"
    assert error.channel_broken is channel_broken


async def test_send_is_transient_with_the_wait_when_slack_limits_the_rate(
    session: aiohttp.ClientSession, endpoints: Endpoints
) -> None:
    async with SlackReceiver(every_s=30.0, clock=ManualClock()) as strict:
        config = channel.Config(webhook_url=strict.webhook_url())
        other = channel.Config(webhook_url=strict.webhook_url("other"))
        endpoints = Endpoints(slack_webhook_prefix=strict.prefix)
        await channel.send(session, config, channel.render(MESSAGE), endpoints)
        error = await refuse(session, config, endpoints)
        await channel.send(session, other, channel.render(MESSAGE), endpoints)
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 27.0
    assert error.reason == "Slack answered 429: rate_limited"
    assert len(strict.accepted) == 2


async def test_send_is_transient_when_slack_is_unavailable(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    slack.fail_next(answers(503, "<html>down</html>", Retry_After="3"))
    error = await refuse(session, config, endpoints)
    assert isinstance(error, TransientError)
    assert (error.reason, error.retry_after_s) == ("Slack answered 503", 3.0)


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_send_is_uncertain_when_slack_fails(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints, status: int
) -> None:
    slack.fail_next(answers(status, "rollup_error"))
    error = await refuse(session, config, endpoints)
    assert isinstance(error, UncertainError)
    assert error.reason == f"Slack answered {status}: rollup_error"


async def test_send_is_uncertain_when_the_answer_is_not_from_slack(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    slack.fail_next(answers(200, "<html>Please sign in</html>"))
    error = await refuse(session, config, endpoints)
    assert isinstance(error, UncertainError)
    assert error.reason == "Slack answered 200"


async def test_send_is_uncertain_when_the_answer_is_lost_after_the_message_was_taken(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    slack.fail_next(RESETS_AFTER)
    assert isinstance(await refuse(session, config, endpoints), UncertainError)
    assert len(slack.accepted) == 1


async def test_send_is_uncertain_when_slack_hangs(
    impatient_session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    slack.fail_next(HANGS)
    assert isinstance(await refuse(impatient_session, config, endpoints), UncertainError)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com.evil.example/services/T/B/x",
        "http://hooks.slack.com/services/T/B/x",
        "https://evil.example/https://hooks.slack.com/",
        "",
    ],
)
async def test_send_is_permanent_and_sends_nothing_when_the_webhook_is_foreign(
    session: aiohttp.ClientSession, url: str
) -> None:
    error = await refuse(session, channel.Config(webhook_url=url), Endpoints())
    assert isinstance(error, PermanentError)
    assert error.reason == "webhook_url must begin with https://hooks.slack.com/"


def test_check_refuses_a_longer_host_when_the_prefix_has_no_slash() -> None:
    endpoints = Endpoints(slack_webhook_prefix="https://relay.example")
    assert channel.check(channel.Config(webhook_url="https://relay.example/x"), endpoints) is None
    assert channel.check(channel.Config(webhook_url="https://relay.example.evil/x"), endpoints) is not None


async def test_send_hides_the_answer_when_a_proxy_quotes_the_address(
    session: aiohttp.ClientSession, slack: SlackReceiver, config: channel.Config, endpoints: Endpoints
) -> None:
    slack.fail_next(answers(404, f"Cannot POST {config.webhook_url}"))
    assert (await refuse(session, config, endpoints)).reason == "Slack answered 404"


def test_destination_and_limits_hold_no_secret() -> None:
    config = channel.Config(webhook_url="https://hooks.slack.com/services/T1/B1/s3cret")
    assert channel.destination(config) == "slack:f9cb528d6ea877a9"
    assert [(limit.key, limit.every_s, limit.burst) for limit in channel.limits(config)] == [
        ("slack:f9cb528d6ea877a9", 1.0, 1)
    ]
    assert repr(config) == str(config) == "<slack.Config>"


async def test_services_without_block_kit_are_sent_text_and_attachments(session: aiohttp.ClientSession) -> None:
    async with WebhookReceiver() as chat:
        chat.fail_next(answers(200, '{"success":true}'))
        chat.fail_next(answers(200, "ok"))
        config = channel.Config(webhook_url=f"{chat.url}/hooks/1", webhook_prefix=chat.url)
        rendered = channel.render(Message(title="Too warm", entries=(entry("critical", "a", condition="above 8"),)))
        for _ in range(2):
            assert (await channel.send(session, config, rendered, Endpoints())).response == "ok"
    assert rendered.fallback == {
        "text": "🚨 *Too warm*",
        "attachments": [
            {
                "color": "#8b0000",
                "text": "🚨 *a* temperature 9.5 °C, above 8 °C",
                "fallback": "🚨 a temperature 9.5 °C, above 8 °C",
            }
        ],
    }


def test_check_takes_the_prefix_of_the_channel_before_that_of_the_endpoints() -> None:
    gov = channel.Config(
        webhook_url="https://hooks.slack-gov.com/services/1", webhook_prefix="https://hooks.slack-gov.com"
    )
    assert channel.check(gov, Endpoints()) is None
    plain = channel.Config(webhook_url="https://hooks.slack-gov.com/services/1")
    assert channel.check(plain, Endpoints()) == "webhook_url must begin with https://hooks.slack.com/"
