from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest

from app.notify.channels import webhook as channel
from app.notify.message import Entry, Link, Message, RenderedMessage
from app.notify.transport import DeliveryError, Endpoints, PermanentError, TransientError, UncertainError
from tests.receivers import RESETS_AFTER, WebhookReceiver, answers

ENTRY = Entry(
    level="critical",
    sensor="freezer-3",
    metric="temperature",
    value=9.5,
    unit="°C",
    threshold="8",
    condition="above 8",
    limits=(8.0,),
    fired_value=9,
    peak=9.5,
    rule="cold-room",
    alerts=(7,),
    since=datetime(2025, 6, 1, 2, 10, tzinfo=UTC),
    links=(Link("Page", "https://t.example/"),),
)
MESSAGE = Message(title="Cold & wet", text="Site A", entries=(ENTRY,), footer="rule cold-room")
BODY = {
    "version": 1,
    "title": "Cold & wet",
    "rule": "",
    "group": "",
    "is_end": False,
    "emoji": "🚨",
    "colour": "#8b0000",
    "text": "Site A",
    "entries": [
        {
            "level": "critical",
            "sensor": "freezer-3",
            "metric": "temperature",
            "rule": "cold-room",
            "gateway": "",
            "value": 9.5,
            "fired_value": 9,
            "peak": 9.5,
            "unit": "°C",
            "compared": "",
            "threshold": "8",
            "condition": "above 8",
            "limits": [8.0],
            "is_past": True,
            "since": "2025-06-01T02:10:00Z",
            "until": None,
            "over": False,
            "note": "",
            "links": [{"label": "Page", "url": "https://t.example/"}],
            "alerts": [7],
        }
    ],
    "omitted": 0,
    "footer": "rule cold-room",
    "silent": False,
}


async def refuse(session: aiohttp.ClientSession, config: channel.Config) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(session, config, channel.render(MESSAGE), Endpoints())
    return caught.value


async def test_send_posts_the_whole_message_as_json(session: aiohttp.ClientSession, webhook: WebhookReceiver) -> None:
    config = channel.Config(url=f"{webhook.url}/hook?x=1", headers={"X-Team": "cold chain"})
    delivered = await channel.send(session, config, channel.render(MESSAGE), Endpoints())
    assert delivered.response == 204
    assert webhook.accepted[0].body == BODY
    assert webhook.accepted[0].headers["X-Team"] == "cold chain"
    assert webhook.accepted[0].headers["Content-Type"] == "application/json"
    assert channel.SIGNATURE_HEADER not in webhook.accepted[0].headers


async def test_send_signs_the_body_when_there_is_a_secret(
    session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    config = channel.Config(url=webhook.url, secret="s3cret")
    await channel.send(session, config, RenderedMessage({"a": 1}), Endpoints())
    assert webhook.raw_bodies == [b'{"a":1}']
    assert webhook.accepted[0].headers["X-Tidegauge-Signature"] == (
        "sha256=5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d"
    )


def test_render_returns_only_json_values() -> None:
    assert channel.render(MESSAGE).body == BODY


def test_render_leaves_out_entries_and_counts_them_when_there_are_too_many() -> None:
    entries = (Entry(level="info", sensor="s" * 1_000, metric="m"),) * 300
    body = channel.render(Message(title="t", entries=entries)).body
    assert len(body["entries"]) + body["omitted"] == 300
    assert 200 < len(body["entries"]) < 256
    assert len(msgspec.json.encode(body)) < 260 * 1024


@pytest.mark.parametrize(
    ("status", "kind", "channel_broken"),
    [
        (400, PermanentError, False),
        (413, PermanentError, False),
        (301, PermanentError, True),
        (401, PermanentError, True),
        (410, PermanentError, True),
        (429, TransientError, None),
        (503, TransientError, None),
        (500, UncertainError, None),
    ],
)
async def test_send_raises_the_right_error_without_the_answers_text_when_refused(
    session: aiohttp.ClientSession,
    webhook: WebhookReceiver,
    status: int,
    kind: type[DeliveryError],
    channel_broken: bool | None,
) -> None:
    webhook.fail_next(answers(status, "you sent X-Token: s3cret", Retry_After="9"))
    error = await refuse(session, channel.Config(url=webhook.url, headers={"X-Token": "s3cret"}))
    assert type(error) is kind
    assert error.reason == f"the webhook answered {status}"
    if isinstance(error, PermanentError):
        assert error.channel_broken is channel_broken
    else:
        assert error.retry_after_s == 9.0


async def test_send_is_uncertain_when_the_answer_is_lost(
    session: aiohttp.ClientSession, webhook: WebhookReceiver
) -> None:
    webhook.fail_next(RESETS_AFTER)
    assert isinstance(await refuse(session, channel.Config(url=webhook.url)), UncertainError)
    assert len(webhook.accepted) == 1


@pytest.mark.parametrize("url", ["", "ftp://a.example", "https://", "https://a.example/\n", "//a.example", "http://[x"])
def test_config_refuses_a_url_when_it_is_not_a_web_address(url: str) -> None:
    with pytest.raises(ValueError, match="url must be an http:// or https:// address"):
        channel.Config(url=url)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X Team", "a", "headers has a name or value that HTTP does not allow: 'X Team'"),
        ("X-Team", "a\r\nHost: b", "headers has a name or value that HTTP does not allow: 'X-Team'"),
        ("Host", "a", "headers must not set Host"),
        ("content-type", "a", "headers must not set content-type"),
    ],
)
def test_config_refuses_headers_when_they_would_break_the_request(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        channel.Config(url="https://a.example", headers={name: value})
    assert str(caught.value) == message


def test_destination_and_repr_hold_no_secret() -> None:
    config = channel.Config(url="https://a.example/s3cret", secret="s3cret", headers={"X": "s3cret"})
    assert channel.destination(config) == channel.limits(config)[0].key
    assert "s3cret" not in f"{channel.destination(config)} {config!r} {config}"
