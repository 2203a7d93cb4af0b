import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from app.broker import delivery as broker_delivery
from app.broker.delivery import BrokerDelivery, DeliveryOutcome
from app.broker.format import BrokerNotification
from app.broker.request import Target, make_target
from app.notify.transport import Endpoints, open_session
from tests.notify.unreachable_servers import closed_port_url
from tests.receivers import HANGS, HANGS_AFTER, RESETS_AFTER, RESETS_BEFORE, SlackReceiver, TelegramReceiver, answers

TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
CHAT_ID = -1001234567890


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a deadline of two seconds and short pauses."""
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 2.0)
    monkeypatch.setattr(broker_delivery, "BACKOFF_S", (0.02, 0.04))


@pytest.fixture
def delivery(session: aiohttp.ClientSession, endpoints: Endpoints) -> BrokerDelivery:
    return BrokerDelivery(session, endpoints)


def target(name: str, endpoints: Endpoints, message: str = "Message", **settings: Any) -> Target:
    notification = BrokerNotification(
        id="123e4567-e89b-12d3-a456-426614174000",
        title="Title",
        message=message,
        level="info",
        at=datetime(2024, 6, 11, 14, 30, tzinfo=UTC),
    )
    return make_target(name, settings, notification, endpoints)


def slack_target(endpoints: Endpoints, slack: SlackReceiver) -> Target:
    return target("slack", endpoints, webhook_url=slack.webhook_url())


def telegram_target(endpoints: Endpoints, message: str = "Message") -> Target:
    return target("telegram", endpoints, message, bot_token=TOKEN, chat_id=CHAT_ID)


async def test_delivery_returns_slacks_answer(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    assert await delivery.deliver(slack_target(endpoints, slack)) == DeliveryOutcome(1, "ok")
    assert len(slack.accepted) == 1


async def test_delivery_returns_telegrams_json(
    delivery: BrokerDelivery, endpoints: Endpoints, telegram: TelegramReceiver
) -> None:
    outcome = await delivery.deliver(telegram_target(endpoints))
    assert (outcome.attempts, outcome.error) == (1, None)
    assert (outcome.response["ok"], outcome.response["result"]["chat"]["id"]) == (True, CHAT_ID)
    assert telegram.accepted[0].body["chat_id"] == CHAT_ID


async def test_delivery_waits_as_long_as_the_service_asks(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(answers(429, "rate_limited", Retry_After="1"))
    started = time.monotonic()
    assert await delivery.deliver(slack_target(endpoints, slack)) == DeliveryOutcome(2, "ok")
    assert 0.95 <= time.monotonic() - started < 2.0


async def test_delivery_fails_at_once_when_the_service_asks_to_wait_past_the_deadline(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(answers(429, "rate_limited", Retry_After="3"))
    started = time.monotonic()
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert outcome == DeliveryOutcome(1, error="Network error sending to Slack: Slack answered 429: rate_limited")
    assert time.monotonic() - started < 1.0


async def test_delivery_sends_nothing_when_the_destination_has_asked_to_wait(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(answers(429, "rate_limited", Retry_After="30"))
    await delivery.deliver(slack_target(endpoints, slack))
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert outcome == DeliveryOutcome(
        0, error="Network error sending to Slack: Slack has asked to wait, 30 s from now on"
    )
    other = target("slack", endpoints, webhook_url=slack.webhook_url("another"))
    assert await delivery.deliver(other) == DeliveryOutcome(1, "ok")
    assert slack.refused == [429]


async def test_delivery_is_repeated_when_the_service_fails_for_a_moment(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(answers(503))
    slack.fail_next(answers(502))
    slack.fail_next(RESETS_BEFORE)
    assert await delivery.deliver(slack_target(endpoints, slack)) == DeliveryOutcome(4, "ok")
    assert len(slack.accepted) == 1


async def test_delivery_is_repeated_and_may_arrive_twice_when_the_answer_was_lost(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(RESETS_AFTER)
    assert await delivery.deliver(slack_target(endpoints, slack)) == DeliveryOutcome(2, "ok")
    assert len(slack.accepted) == 2


async def test_delivery_is_not_repeated_when_a_relay_answers_with_its_own_success(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    slack.fail_next(answers(200, '{"status": "accepted"}'))
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert outcome == DeliveryOutcome(1, error="Network error sending to Slack: Slack answered 200")


async def test_delivery_fails_by_the_deadline_when_the_service_keeps_failing(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 0.5)
    slack.fail_next(answers(500), times=1_000)
    started = time.monotonic()
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    # The deadline may come within an attempt.
    reasons = ("Slack answered 500", "no answer came in time")
    assert outcome.error in [f"Network error sending to Slack: {reason}" for reason in reasons]
    assert outcome.attempts > 2
    assert time.monotonic() - started < 5


async def test_delivery_fails_at_once_when_the_next_attempt_would_come_after_the_deadline(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 30.0)
    monkeypatch.setattr(broker_delivery, "BACKOFF_S", (60.0,))
    slack.fail_next(answers(500), times=2)
    started = time.monotonic()
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert (outcome.attempts, outcome.error) == (1, "Network error sending to Slack: Slack answered 500")
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize("fault", [HANGS, HANGS_AFTER])
async def test_delivery_fails_at_the_deadline_and_is_not_repeated_when_the_service_hangs(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 1.5)
    slack.fail_next(fault)
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert outcome == DeliveryOutcome(1, error="Network error sending to Slack: no answer came in time")
    assert len(slack.accepted) == (1 if fault is HANGS_AFTER else 0)


async def test_delivery_fails_when_the_connection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for some attempts on a busy machine.
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 2.0)
    endpoints = Endpoints(telegram_api_base=closed_port_url())
    async with open_session() as session:
        outcome = await BrokerDelivery(session, endpoints).deliver(telegram_target(endpoints))
    assert outcome.error == "Network error sending to Telegram: the connection was refused"
    assert outcome.attempts > 1


@pytest.mark.parametrize(
    ("status", "code"), [(404, "no_service"), (403, "invalid_token"), (410, "channel_is_archived")]
)
async def test_delivery_fails_at_once_when_slack_refuses_for_good(
    delivery: BrokerDelivery, endpoints: Endpoints, slack: SlackReceiver, status: int, code: str
) -> None:
    slack.refuse(slack.webhook_url(), status, code)
    outcome = await delivery.deliver(slack_target(endpoints, slack))
    assert outcome == DeliveryOutcome(1, error=f"Network error sending to Slack: Slack answered {status}: {code}")
    assert slack.refused == [status]


async def test_delivery_fails_at_once_when_the_bot_is_blocked(
    delivery: BrokerDelivery, endpoints: Endpoints, telegram: TelegramReceiver
) -> None:
    telegram.block(CHAT_ID)
    assert await delivery.deliver(telegram_target(endpoints)) == DeliveryOutcome(
        1,
        error="Network error sending to Telegram: Telegram answered 403: Forbidden: bot was blocked by the user",
    )


async def test_delivery_sends_the_escaped_text_when_the_markup_of_the_message_is_refused(
    delivery: BrokerDelivery, endpoints: Endpoints, telegram: TelegramReceiver
) -> None:
    telegram.fail_next(
        answers(400, '{"ok":false,"error_code":400,"description":"Bad Request: can\'t parse entities: at byte 3"}')
    )
    outcome = await delivery.deliver(telegram_target(endpoints, "*bold* and snake_case_"))
    assert (outcome.attempts, outcome.error) == (1, None)
    assert "*bold* and snake_case_" in telegram.texts[0]


async def test_delivery_goes_to_the_new_chat_when_a_chat_has_moved(
    delivery: BrokerDelivery, endpoints: Endpoints, telegram: TelegramReceiver
) -> None:
    telegram.moved[str(CHAT_ID)] = -1009999
    outcome = await delivery.deliver(telegram_target(endpoints))
    assert outcome.response["result"]["chat"]["id"] == -1009999


async def test_deliveries_are_paced_when_the_destination_has_asked_to_wait(endpoints: Endpoints) -> None:
    async with SlackReceiver(every_s=1.0) as strict, open_session() as session:
        endpoints = Endpoints(slack_webhook_prefix=strict.prefix)
        delivery = BrokerDelivery(session, endpoints)
        outcomes = await asyncio.gather(*(delivery.deliver(slack_target(endpoints, strict)) for _number in range(12)))
        taken = [outcome for outcome in outcomes if outcome.error is None]
        assert 2 <= len(taken) <= 3
        assert len(strict.accepted) == len(taken)
        # At first all twelve are sent at once; after the refusals one a second.
        assert len(strict.refused) <= 11
