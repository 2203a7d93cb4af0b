import itertools
from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest

from app.notify.channels import telegram as channel
from app.notify.message import Entry, Link, Message, RenderedMessage
from app.notify.pacing import Pacer
from app.notify.transport import DeliveryError, Endpoints, PermanentError, TransientError, UncertainError
from tests.notify.manual_clock import ManualClock
from tests.receivers import HANGS, RESETS_AFTER, TelegramReceiver, answers

TOKEN = "123456:ABC-DEF_ghi"
CONFIG = channel.Config(bot_token=TOKEN, chat_id=-100123)
ENTRY = Entry(
    level="critical",
    sensor="freezer_3 <b>",
    metric="temperature",
    value=9.5,
    unit="°C",
    condition="above 8",
    since=datetime(2025, 6, 1, 2, 10, tzinfo=UTC),
    links=(Link("Page", 'https://t.example/?a="1"&b=2'),),
)
MESSAGE = Message(title="Cold & wet", entries=(ENTRY,), footer="rule cold_room")


async def refuse(
    session: aiohttp.ClientSession, endpoints: Endpoints, rendered: RenderedMessage | None = None
) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(session, CONFIG, rendered or channel.render(MESSAGE), endpoints)
    assert TOKEN not in f"{caught.value!r} {vars(caught.value)}"
    return caught.value


def test_render_returns_html_and_plain_text_as_the_fallback() -> None:
    options = {"link_preview_options": {"is_disabled": True}, "disable_notification": False}
    assert channel.render(MESSAGE) == RenderedMessage(
        body={
            "text": (
                "🚨 <b>Cold &amp; wet</b>\n\n"
                "🚨 <b>freezer_3 &lt;b&gt;</b> temperature 9.5 °C, above 8 °C\n"
                "since 2025-06-01 02:10 UTC\n"
                '<a href="https://t.example/?a=&quot;1&quot;&amp;b=2">Page</a>\n\n'
                "rule cold_room"
            ),
            "parse_mode": "HTML",
            **options,
        },
        fallback={
            "text": (
                "🚨 Cold & wet\n\n"
                "🚨 freezer_3 <b> temperature 9.5 °C, above 8 °C\n"
                "since 2025-06-01 02:10 UTC\n"
                'Page: https://t.example/?a="1"&b=2\n\n'
                "rule cold_room"
            ),
            **options,
        },
    )


def test_render_is_the_same_after_being_stored() -> None:
    rendered = channel.render(MESSAGE)
    assert msgspec.json.decode(msgspec.json.encode(rendered), type=RenderedMessage) == rendered


async def test_send_delivers_and_returns_the_message_id(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    delivered = await channel.send(session, CONFIG, channel.render(MESSAGE), endpoints)
    assert delivered.message_ref == "1"
    assert delivered.moved_to is None
    assert delivered.response["result"]["chat"] == {"id": -100123, "type": "private"}
    assert telegram.accepted[0].path == f"/bot{TOKEN}/sendMessage"
    assert telegram.texts[0].startswith("🚨 Cold & wet\n\n🚨 freezer_3 <b> temperature")


async def test_send_replies_without_sound_when_the_message_asks_for_it(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    message = Message(title="Over", silent=True, reply_to="77")
    await channel.send(session, CONFIG, channel.render(message), endpoints)
    body = telegram.accepted[0].body
    assert body["disable_notification"] is True
    assert body["reply_parameters"] == {"message_id": 77, "allow_sending_without_reply": True}


@pytest.mark.parametrize("text", ["x", "<&>" * 300, "💀" * 1_000])
async def test_render_stays_within_telegrams_limits_when_there_is_too_much(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, text: str
) -> None:
    links = (Link("Page", "https://t.example/" + "&" * 900),) * 5
    entries = tuple(Entry(level="error", sensor=f"{n} {text}", metric=text, note=text, links=links) for n in range(400))
    rendered = channel.render(Message(title=text, text=text, entries=entries, footer=text))
    assert rendered.fallback is not None
    for body in (rendered.body, rendered.fallback):
        await channel.send(session, CONFIG, RenderedMessage(body), endpoints)
    assert telegram.refused == []
    for seen in telegram.texts:
        kept = seen.count("❌") - 1
        assert kept >= 1
        assert f"+{400 - kept} more" in seen


async def test_render_counts_the_visible_text_but_not_the_addresses_of_links(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    links = (Link("Page", "https://t.example/sensors/a"), Link("Grafana", "https://g.example/d/x?var-sensor=a"))
    entries = tuple(
        Entry(level="error", sensor=f"sensor-{n}", metric="co2", value=900, unit="ppm", links=links) for n in range(99)
    )
    await channel.send(session, CONFIG, channel.render(Message(title="t", entries=entries)), endpoints)
    assert len(telegram.texts[0].encode("utf-16-le")) // 2 in range(3_900, 4_097)


async def test_send_sends_the_fallback_once_when_the_markup_is_refused(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    broken = RenderedMessage({"text": "<b>a_b", "parse_mode": "HTML"}, {"text": "a_b"})
    await channel.send(session, CONFIG, broken, endpoints)
    assert telegram.refused == [400]
    assert telegram.texts == ["a_b"]


async def test_send_is_permanent_when_the_fallback_is_refused_too(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    broken = RenderedMessage({"text": "<b>", "parse_mode": "HTML"}, {"text": "a_b", "parse_mode": "Markdown"})
    error = await refuse(session, endpoints, broken)
    assert isinstance(error, PermanentError)
    assert not error.channel_broken
    assert error.reason == (
        "Telegram answered 400: Bad Request: can't parse entities: "
        "Can't find end of the entity starting at byte offset 1"
    )
    assert telegram.refused == [400, 400]


async def test_send_goes_to_the_new_chat_and_reports_it_when_the_chat_has_moved(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.moved["-100123"] = -100999
    delivered = await channel.send(session, CONFIG, channel.render(MESSAGE), endpoints)
    assert delivered.moved_to == -100999
    assert telegram.accepted[0].body["chat_id"] == -100999


async def test_send_reports_the_new_chat_when_it_is_refused_there(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.moved.update({"-100123": -100999, "-100999": -100123})
    error = await refuse(session, endpoints)
    assert isinstance(error, PermanentError)
    assert error.moved_to == -100999
    assert telegram.refused == [400, 400]


async def test_send_reports_the_new_chat_when_the_answer_from_there_is_lost(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    moved = '{"ok":false,"description":"Bad Request","parameters":{"migrate_to_chat_id":-100999}}'
    telegram.fail_next(answers(400, moved))
    telegram.fail_next(RESETS_AFTER)
    error = await refuse(session, endpoints)
    assert isinstance(error, UncertainError)
    assert error.moved_to == -100999


async def test_send_sends_the_fallback_to_the_new_chat_when_both_are_needed(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.moved["-100123"] = -100999
    broken = RenderedMessage({"text": "<b>", "parse_mode": "HTML"}, {"text": "plain"})
    delivered = await channel.send(session, CONFIG, broken, endpoints)
    assert delivered.moved_to == -100999
    assert telegram.texts == ["plain"]


@pytest.mark.parametrize(
    ("status", "description", "channel_broken"),
    [
        (400, "Bad Request: chat not found", True),
        (400, "Bad Request: not enough rights to send text messages to the chat", True),
        (400, "Bad Request: PEER_ID_INVALID", True),
        (403, "Forbidden: bot was blocked by the user", True),
        (403, "Forbidden: user is deactivated", True),
        (403, "Forbidden: bot was kicked from the supergroup chat", True),
        (404, "Not Found", True),
        (400, "Bad Request: message is too long", False),
    ],
)
async def test_send_is_permanent_when_telegram_refuses(
    session: aiohttp.ClientSession,
    telegram: TelegramReceiver,
    endpoints: Endpoints,
    status: int,
    description: str,
    channel_broken: bool,
) -> None:
    telegram.refuse(-100123, status, description)
    error = await refuse(session, endpoints)
    assert isinstance(error, PermanentError)
    assert error.reason == f"Telegram answered {status}: {description}"
    assert error.channel_broken is channel_broken


async def test_send_is_permanent_when_the_token_is_revoked(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.revoked_tokens.add(TOKEN)
    error = await refuse(session, endpoints)
    assert isinstance(error, PermanentError)
    assert error.channel_broken
    assert error.reason == "Telegram answered 401: Unauthorized"


async def test_send_is_transient_with_the_wait_when_telegram_limits_the_rate(
    session: aiohttp.ClientSession,
) -> None:
    async with TelegramReceiver(every_s=30.0, clock=ManualClock()) as strict:
        endpoints = Endpoints(telegram_api_base=strict.url)
        await channel.send(session, CONFIG, channel.render(MESSAGE), endpoints)
        error = await refuse(session, endpoints)
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 27.0
    assert error.reason == "Telegram answered 429: Too Many Requests: retry after 27"


@pytest.mark.parametrize("status", [500, 502])
async def test_send_is_uncertain_when_telegram_fails(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, status: int
) -> None:
    telegram.fail_next(answers(status, "<html>Bad Gateway</html>"))
    error = await refuse(session, endpoints)
    assert isinstance(error, UncertainError)
    assert error.reason == f"Telegram answered {status}"


async def test_send_is_uncertain_when_telegram_hangs(
    impatient_session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.fail_next(HANGS)
    assert isinstance(await refuse(impatient_session, endpoints), UncertainError)


async def test_send_is_uncertain_when_a_success_is_not_from_telegram(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    for page in ("<html>Please sign in</html>", '{"ok":true,"result":{"a":' + "[" * 100_000):
        telegram.fail_next(answers(200, page))
        error = await refuse(session, endpoints)
        assert isinstance(error, UncertainError)


@pytest.mark.parametrize("quoted", [f"Cannot POST /bot{TOKEN}/sendMessage", f'{{"description":"no /bot{TOKEN}"}}'])
async def test_send_hides_the_token_when_a_proxy_quotes_the_address(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints, quoted: str
) -> None:
    telegram.fail_next(answers(404, quoted))
    error = await refuse(session, endpoints)
    assert error.reason in ("Telegram answered 404", "Telegram answered 404: no /bot…")


@pytest.mark.parametrize("token", ["", "abc", "123", "123:", "123:a/../b", "123:a b", "123:abc\n", "１２:abc"])
def test_config_refuses_a_token_that_could_change_the_address(token: str) -> None:
    with pytest.raises(ValueError, match="bot_token must be digits, a colon"):
        channel.Config(bot_token=token, chat_id=1)


def test_config_takes_a_chat_as_number_or_text() -> None:
    for chat_id in (-1001234567890, "-1001234567890", "@alerts"):
        given = {"bot_token": TOKEN, "chat_id": chat_id}
        assert msgspec.convert(given, channel.Config).chat_id == chat_id
    with pytest.raises(ValueError, match="chat_id must not be empty"):
        channel.Config(bot_token=TOKEN, chat_id=" ")


def test_limits_are_stricter_for_a_group_and_hold_no_secret() -> None:
    person = channel.limits(channel.Config(bot_token=TOKEN, chat_id=42))
    group = channel.limits(CONFIG)
    assert [(limit.every_s, limit.burst) for limit in person] == [(1.0, 1), (1 / 30, 1)]
    assert [(limit.every_s, limit.burst) for limit in group] == [(1.0, 1), (4.0, 5), (1 / 30, 1)]
    assert group[0].key == channel.destination(CONFIG)
    assert person[-1].key == group[-1].key
    assert person[0].key != group[0].key
    assert not any("ABC" in limit.key for limit in group)


async def test_limits_keep_a_group_within_twenty_messages_in_any_minute() -> None:
    clock = ManualClock()
    pacer, sent_at = Pacer(clock, clock.sleep), []
    for _ in range(100):
        await pacer.wait_turn(*channel.limits(CONFIG))
        sent_at.append(clock.now)
    assert all(later - earlier >= 59.999 for earlier, later in zip(sent_at, sent_at[20:], strict=False))
    assert all(later - earlier >= 0.999 for earlier, later in itertools.pairwise(sent_at))
    assert sent_at[-1] < 400


def test_config_shows_no_secret() -> None:
    assert repr(CONFIG) == str(CONFIG) == "<telegram.Config>"


async def test_send_adds_the_topic_and_drops_a_button_that_is_refused(
    session: aiohttp.ClientSession, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    config = channel.Config(bot_token=TOKEN, chat_id=77, message_thread_id="5")
    message = Message(title="Too warm", page="https://tide.example/#/alert/1")
    await channel.send(session, config, channel.render(message), endpoints)
    assert telegram.accepted[0].body["message_thread_id"] == 5
    button = {"text": "Open", "url": "https://tide.example/#/alert/1"}
    assert telegram.accepted[0].body["reply_markup"] == {"inline_keyboard": [[button]]}
    refusal = '{"ok": false, "error_code": 400, "description": "Bad Request: BUTTON_URL_INVALID"}'
    telegram.fail_next(answers(400, refusal))
    await channel.send(session, channel.Config(bot_token=TOKEN, chat_id=78), channel.render(message), endpoints)
    assert "reply_markup" not in telegram.accepted[1].body


def test_render_has_no_button_when_the_page_has_no_public_name() -> None:
    for page in ("http://localhost:8000/#/alert/1", "http://127.0.0.1:8000/#/alert/1", "http://tide/#/alert/1"):
        assert "reply_markup" not in channel.render(Message(title="t", page=page)).body
