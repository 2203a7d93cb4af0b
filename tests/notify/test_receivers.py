"""The local receivers answer as the real services do, so that the tests that use them prove something."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.notify.channels import slack as slack_channel
from app.notify.message import Message
from app.notify.pacing import Pacer
from app.notify.transport import Endpoints
from tests.notify.manual_clock import ManualClock
from tests.receivers import (
    HANGS_AFTER,
    RESETS_AFTER,
    RESETS_BEFORE,
    Fault,
    SlackReceiver,
    TelegramReceiver,
    WebhookReceiver,
    answers,
)

ROOT = Path(__file__).parents[2]


async def post(session: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, str]:
    async with session.post(url, json=body) as response:
        return response.status, await response.text()


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"text": "hello"}, (200, "ok")),
        ({"attachments": [{"text": "hello"}]}, (200, "ok")),
        ({}, (400, "no_text")),
        ([], (400, "invalid_payload")),
        ({"text": "x" * 40_001}, (400, "msg_too_long")),
        ({"blocks": [section("x")] * 50}, (200, "ok")),
        ({"blocks": [section("x")] * 51}, (400, "invalid_blocks")),
        ({"blocks": [section("x")], "attachments": [{"blocks": [section("x")] * 50}]}, (400, "invalid_blocks")),
        ({"blocks": [section("x" * 3_001)]}, (400, "invalid_blocks")),
        ({"blocks": [section("")]}, (400, "invalid_blocks")),
        ({"blocks": [section("x" * 2_900)] * 5}, (400, "msg_too_long")),
        ({"attachments": [{"text": "x"}] * 101}, (400, "too_many_attachments")),
    ],
)
async def test_slack_receiver_answers_as_slack_does(
    session: aiohttp.ClientSession, slack: SlackReceiver, body: Any, answer: tuple[int, str]
) -> None:
    assert await post(session, slack.webhook_url(), body) == answer
    assert len(slack.accepted) == (answer[0] == 200)


async def test_slack_receiver_refuses_a_webhook_when_it_is_archived_or_unknown(
    session: aiohttp.ClientSession, slack: SlackReceiver
) -> None:
    slack.archive(slack.webhook_url())
    assert await post(session, slack.webhook_url(), {"text": "a"}) == (410, "channel_is_archived")
    assert await post(session, slack.webhook_url("other"), {"text": "a"}) == (200, "ok")
    assert await post(session, f"{slack.url}/elsewhere", {"text": "a"}) == (404, "no_team")
    assert slack.refused == [410, 404]


@pytest.mark.parametrize(
    ("body", "status", "description"),
    [
        ({"chat_id": 1, "text": "a"}, 200, None),
        ({"chat_id": 1, "text": "💀" * 2_048}, 200, None),
        ({"chat_id": 1, "text": "💀" * 2_049}, 400, "Bad Request: message is too long"),
        ({"chat_id": 1, "text": "<b>" + "x" * 4_096 + "</b>", "parse_mode": "HTML"}, 200, None),
        ({"chat_id": 1, "text": "x" * 32_769}, 400, "Bad Request: text is too long"),
        ({"chat_id": 1, "text": " \n"}, 400, "Bad Request: message text is empty"),
        ({"chat_id": 1, "text": "<b></b>", "parse_mode": "HTML"}, 400, "Bad Request: message text is empty"),
        ({"chat_id": 1, "text": "a", "parse_mode": "bbcode"}, 400, "Bad Request: unsupported parse_mode"),
        ({"text": "a"}, 400, "Bad Request: chat_id is empty"),
        (
            {"chat_id": 1, "text": "<b>", "parse_mode": "HTML"},
            400,
            "Bad Request: can't parse entities: Can't find end tag corresponding to start tag \"b\"",
        ),
    ],
)
async def test_telegram_receiver_answers_as_the_bot_api_does(
    session: aiohttp.ClientSession,
    telegram: TelegramReceiver,
    body: dict[str, Any],
    status: int,
    description: str | None,
) -> None:
    async with session.post(f"{telegram.url}/bot1:a/sendMessage", json=body) as response:
        answer = await response.json()
    assert (response.status, answer["ok"], answer.get("description")) == (status, status == 200, description)


async def test_telegram_receiver_refuses_other_methods_blocked_chats_and_revoked_tokens(
    session: aiohttp.ClientSession, telegram: TelegramReceiver
) -> None:
    telegram.block(7)
    telegram.revoked_tokens.add("1:gone")
    body = {"chat_id": 7, "text": "a"}
    assert (await post(session, f"{telegram.url}/bot1:a/sendMessage", body))[0] == 403
    assert (await post(session, f"{telegram.url}/bot1:a/getMe", body))[0] == 404
    assert (await post(session, f"{telegram.url}/bot1:gone/sendMessage", body))[0] == 401
    assert telegram.refused == [403, 404, 401]


async def test_telegram_receiver_limits_chats_groups_and_bots(session: aiohttp.ClientSession) -> None:
    clock = ManualClock()
    async with TelegramReceiver(clock=clock) as telegram:

        async def send(token: str, chat_id: int) -> int:
            url = f"{telegram.url}/bot{token}/sendMessage"
            return (await post(session, url, {"chat_id": chat_id, "text": "a"}))[0]

        assert [await send("1:a", 1), await send("1:a", 1), await send("2:b", 1)] == [200, 429, 200]
        assert [await send("1:a", chat) for chat in range(2, 32)] == [200] * 29 + [429]
        for second in range(10, 30):
            clock.now = second
            assert await send("1:a", -1) == 200
        clock.now = 30.0
        assert await send("1:a", -1) == 429
        clock.now = 64.0
        assert await send("1:a", -1) == 200


async def test_faults_happen_in_order_then_at_random_and_repeatably_when_the_seed_is_the_same(
    session: aiohttp.ClientSession,
) -> None:
    async def run() -> list[int]:
        async with WebhookReceiver() as webhook:
            webhook.fail_next(answers(500), times=2)
            webhook.fail_next(answers(410))
            webhook.fail_ratio(0.5, answers(502), answers(503), seed=7)
            return [(await post(session, webhook.url, {}))[0] for _ in range(30)]

    first = await run()
    assert first[:3] == [500, 500, 410]
    assert set(first[3:]) == {204, 502, 503}
    assert await run() == first


@pytest.mark.parametrize(("fault", "taken"), [(RESETS_BEFORE, 0), (RESETS_AFTER, 1), (answers(500), 0)])
async def test_message_is_recorded_when_the_fault_accepts_it(
    session: aiohttp.ClientSession, webhook: WebhookReceiver, fault: Fault, taken: int
) -> None:
    webhook.fail_next(fault)
    await asyncio.gather(post(session, webhook.url, {}), return_exceptions=True)
    assert len(webhook.accepted) == taken


async def test_hanging_receiver_records_the_message_and_ends_the_request_when_it_closes(
    session: aiohttp.ClientSession,
) -> None:
    taken = asyncio.Event()
    async with WebhookReceiver(on_accept=lambda *_: taken.set()) as webhook, asyncio.timeout(10):
        webhook.fail_next(HANGS_AFTER)
        hanging = asyncio.create_task(post(session, webhook.url, {}))
        await taken.wait()
        assert not hanging.done()
    with pytest.raises(aiohttp.ClientError):
        await hanging


async def test_sender_is_never_refused_when_it_is_paced(session: aiohttp.ClientSession) -> None:
    clock = ManualClock()
    async with SlackReceiver(clock=clock) as slack:
        config = slack_channel.Config(webhook_url=slack.webhook_url())
        rendered = slack_channel.render(Message(title="Too warm"))
        pacer = Pacer(clock, clock.sleep)
        for _ in range(5):
            await pacer.wait_turn(*slack_channel.limits(config))
            await slack_channel.send(session, config, rendered, Endpoints(slack_webhook_prefix=slack.prefix))
    assert slack.refused == []
    assert slack.texts == ["ℹ️ Too warm\nℹ️ *Too warm*"] * 5
    assert clock.now == 4.0


async def test_receivers_print_what_arrives_when_run_by_hand(session: aiohttp.ClientSession) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.receivers", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            head = [(await process.stdout.readline()).decode().rstrip() for _ in range(4)]
            addresses = dict(line.split("=", 1) for line in head[:3])
            assert await post(session, addresses["SLACK_WEBHOOK_URL"], {"text": "Too warm\nsite A"}) == (200, "ok")
            shown = [(await process.stdout.readline()).decode().rstrip() for _ in range(4)]
    finally:
        process.send_signal(signal.SIGTERM)
        status = await process.wait()
    assert list(addresses) == ["SLACK_WEBHOOK_PREFIX", "SLACK_WEBHOOK_URL", "TELEGRAM_API_BASE"]
    assert head[3].startswith("# any webhook: http://127.0.0.1:")
    assert shown[0].endswith(" slack")
    assert shown[1:] == ["  | Too warm", "  | site A", ""]
    assert status == 0
