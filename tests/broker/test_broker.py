import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from app.auth.keys import ApiKey
from app.broker import broker as broker_module
from app.broker import delivery as broker_delivery
from app.broker.broker import Broker, SendAnswer
from app.broker.request import SendRequest
from app.errors import OverloadedError
from app.notify.transport import Endpoints
from tests.conftest import Database, wait_until
from tests.receivers import HANGS, SlackReceiver, TelegramReceiver, answers

KEY = ApiKey("shop", frozenset({"notify"}))
TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
TELEGRAM = {"bot_token": TOKEN, "chat_id": 5}


@pytest.fixture
async def open_broker(database: Database, endpoints: Endpoints) -> AsyncIterator[Broker]:
    """Yield a broker that is ready to send."""
    broker = Broker(endpoints)
    async with broker.opened(database.pool):
        yield broker


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Callable[[SlackReceiver, int], None]:
    """Return a function that lets requests to a receiver hang, and set the deadline to two seconds."""
    monkeypatch.setattr(broker_delivery, "DEADLINE_S", 2.0)
    return lambda receiver, times: receiver.fail_next(HANGS, times)


def request(**channels: Any) -> SendRequest:
    return SendRequest(title="T", message="M", level="info", source=None, metadata=None, channels=channels)


def slack_request(slack: SlackReceiver) -> SendRequest:
    return request(slack={"webhook_url": slack.webhook_url()})


def succeeded(answer: SendAnswer) -> dict[str, bool]:
    return {name: result.success for name, result in answer.data.channels.items()}


async def test_answer_has_an_error_or_a_response_for_each_channel(open_broker: Broker, slack: SlackReceiver) -> None:
    slack.fail_next(answers(404, "no_service"))
    failed = await open_broker.send(slack_request(slack), KEY)
    taken = await open_broker.send(slack_request(slack), KEY)
    assert msgspec.to_builtins(failed.data.channels) == {
        "slack": {"success": False, "error": "Network error sending to Slack: Slack answered 404: no_service"}
    }
    assert msgspec.to_builtins(taken.data.channels) == {
        "slack": {"success": True, "response": {"status": "sent", "response": "ok"}}
    }


async def test_channels_are_sent_to_at_the_same_time_when_there_are_two(
    open_broker: Broker, slack: SlackReceiver, telegram: TelegramReceiver, hanging: Callable[[SlackReceiver, int], None]
) -> None:
    hanging(slack, 1)
    sending = asyncio.create_task(
        open_broker.send(request(slack={"webhook_url": slack.webhook_url()}, telegram=TELEGRAM), KEY)
    )
    await wait_until(lambda: len(telegram.accepted) == 1)
    assert not sending.done()
    assert succeeded(await sending) == {"slack": False, "telegram": True}


async def test_notification_is_refused_when_too_many_are_under_way(
    open_broker: Broker,
    slack: SlackReceiver,
    hanging: Callable[[SlackReceiver, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_module, "UNDER_WAY", 3)
    hanging(slack, 3)
    sending = [asyncio.create_task(open_broker.send(slack_request(slack), KEY)) for _number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="3 notifications are under way already; this one was not sent"):
        await open_broker.send(slack_request(slack), KEY)
    await asyncio.gather(*sending)
    assert succeeded(await open_broker.send(slack_request(slack), KEY)) == {"slack": True}


async def test_destination_names_are_equal_only_when_the_webhooks_are_equal(
    open_broker: Broker, slack: SlackReceiver, database: Database
) -> None:
    for name in ("a", "b", "a"):
        await open_broker.send(request(slack={"webhook_url": slack.webhook_url(name)}), KEY)
    page = await open_broker.store.list_page(database.pool, level=None, source=None, cursor=None, limit=10)
    third, second, first = (item.channels["slack"].destination for item in page.items)
    assert first == third
    assert first != second


async def test_notification_is_logged_in_one_line_without_its_text(open_broker: Broker, slack: SlackReceiver) -> None:
    slack.fail_next(answers(404, "no_service"))
    with capture_logs() as logs:
        failed = await open_broker.send(slack_request(slack), KEY)
        taken = await open_broker.send(slack_request(slack), KEY)
    assert logs == [
        {
            "event": "notification_failed",
            "log_level": "warning",
            "id": failed.data.notification_id,
            "key": "shop",
            "channels": ["slack"],
            "errors": {"slack": "Network error sending to Slack: Slack answered 404: no_service"},
        },
        {
            "event": "notification_sent",
            "log_level": "info",
            "id": taken.data.notification_id,
            "key": "shop",
            "channels": ["slack"],
        },
    ]


async def test_notifications_are_stored_when_the_broker_closes(
    database: Database, endpoints: Endpoints, slack: SlackReceiver
) -> None:
    closing = Broker(endpoints)
    async with closing.opened(database.pool):
        for _number in range(5):
            await closing.send(slack_request(slack), KEY)
        assert closing.store.waiting == 5
    assert await database.pool.fetchval("SELECT count(*) FROM broker_notification") == 5
