"""The dispatcher when its database, its rules or a service fails in the middle of a delivery."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.notify.dispatch import dispatcher as module
from app.notify.dispatch.channel_tests import ChannelTest
from app.notify.dispatch.dispatcher import Dispatcher
from app.notify.pacing import SendLimit
from app.notify.transport import Endpoints
from tests.conftest import Database, wait_until
from tests.notify.dispatch.test_dispatcher import SlowWebhook
from tests.notify.dispatchers import (
    Channels,
    make_dispatcher,
    quick_pacer,
    running,
    slack_channel,
    until,
    until_idle,
    webhook_channel,
)
from tests.notify.episodes import EpisodeWriter, compose, told_changes
from tests.receivers import SlackReceiver, WebhookReceiver, answers
from tests.wire import Wire

STATES = "SELECT state, attempts FROM notification ORDER BY id"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_BACKOFF_S", 0.05)
    monkeypatch.setattr(module, "_RECORD_PAUSE_S", 0.02)


@pytest.fixture
async def slow() -> AsyncIterator[SlowWebhook]:
    async with SlowWebhook() as receiver:
        yield receiver


async def test_result_is_stored_at_a_later_try_when_the_database_was_away(
    database: Database, wire: Wire, wired_pool: Pool, slow: SlowWebhook, endpoints: Endpoints
) -> None:
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    with capture_logs() as logs:
        async with running(make_dispatcher(endpoints, {"hook": webhook_channel(slow)}), wired_pool):
            await slow.arrived.wait()
            await wire.cut()
            slow.released.set()
            await wait_until(lambda: [line["event"] for line in logs].count("delivery_not_recorded") >= 2)
            await wire.mend()
            await until_idle(database.pool)
    assert told_changes(slow) == ["freezer-1 firing"]
    assert [tuple(row) for row in await database.pool.fetch(STATES)] == [("sent", 1)]
    outcomes = await database.pool.fetch("SELECT outcome FROM notification_attempt")
    assert [row["outcome"] for row in outcomes] == ["sent"]


async def test_delivery_is_put_off_when_its_result_cannot_be_stored_for_too_long(
    database: Database,
    wire: Wire,
    wired_pool: Pool,
    slow: SlowWebhook,
    endpoints: Endpoints,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLAIM_S", 2.0)
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    with capture_logs() as logs:
        async with running(make_dispatcher(endpoints, {"hook": webhook_channel(slow)}), wired_pool):
            await slow.arrived.wait()
            await wire.cut()
            slow.released.set()
            await wait_until(lambda: "delivery_put_off" in [line["event"] for line in logs])
            await wire.mend()
            # The claim lasts two minutes; until then the message is as if its process had died.
            await until(database.pool, "SELECT state = 'sending' AND attempts = 1 FROM notification")
    assert told_changes(slow) == ["freezer-1 firing"]


async def test_other_destinations_and_later_tries_go_on_when_a_delivery_fails_by_an_error_of_ours(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    is_broken = True

    async def follow(_connection: Connection | Pool) -> None:
        task = asyncio.current_task()
        if is_broken and task is not None and task.get_name().startswith("deliver webhook"):
            raise ValueError("of ours")

    channels: Channels = {"duty": slack_channel(slack), "hook": webhook_channel(webhook)}
    dispatcher = Dispatcher(
        metrics=Metrics(),
        endpoints=endpoints,
        compose=compose,
        channels=lambda: channels,
        fallbacks=lambda name: (),
        follow=follow,
        pacer=quick_pacer(1_000.0),
    )
    await EpisodeWriter(database.pool, *channels).fire("cold-room", "freezer-1")
    with capture_logs() as logs:
        async with running(dispatcher, database.pool):
            await wait_until(lambda: [line["event"] for line in logs].count("lane_failed") >= 2)
            await wait_until(lambda: told_changes(slack) == ["freezer-1 firing"])
            assert told_changes(webhook) == []
            is_broken = False
            await until_idle(database.pool)
    assert told_changes(webhook) == ["freezer-1 firing"]
    assert {line["destination"].partition(":")[0] for line in logs if line["event"] == "lane_failed"} == {"webhook"}


async def test_nothing_is_kept_of_destinations_when_their_deliveries_have_ended(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {f"hook-{number}": webhook_channel(webhook, str(number)) for number in range(5)}
    dispatcher = make_dispatcher(endpoints, channels)
    webhook.fail_next(answers(400), times=2)
    await EpisodeWriter(database.pool, *channels).fire("cold-room", "freezer-1")
    async with running(dispatcher, database.pool):
        await until(database.pool, "SELECT count(*) = 5 FROM notification WHERE state IN ('sent', 'dead')")
        assert await dispatcher.test_channel(database.pool, "hook-1") == ChannelTest("hook-1", "sent")
        await database.pool.execute("INSERT INTO channel_test (channel) VALUES ('hook-2')")
        await until(database.pool, "SELECT answer IS NOT NULL FROM channel_test")
        await wait_until(lambda: not dispatcher._deliveries and not dispatcher._tests)
        assert dispatcher._delivering == set()


async def test_message_is_tried_again_within_the_hour_when_its_service_asks_for_years(
    database: Database, slack: SlackReceiver, endpoints: Endpoints
) -> None:
    slack.fail_next(answers(429, "rate_limited", Retry_After="999999999999999999999"))
    dispatcher = make_dispatcher(endpoints, {"duty": slack_channel(slack)}, speed=1.0)
    await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
    async with running(dispatcher, database.pool):
        await until(database.pool, "SELECT error IS NOT NULL FROM notification")
    wait = await database.pool.fetchval("SELECT next_attempt_at - now() FROM notification")
    assert timedelta(seconds=3_500) < wait <= timedelta(seconds=3_600)
    (limit, *_) = dispatcher._channel_states.all()["duty"].limits
    assert 3_500 < dispatcher._pacer.wait_s(SendLimit(limit.key, 1.0)) <= 3_600


@pytest.mark.parametrize(("attempt", "longest_s"), [(1, 1.0), (2, 2.0), (9, 256.0), (10, 300.0), (5_000, 300.0)])
def test_pause_doubles_with_each_attempt_up_to_five_minutes(
    attempt: int, longest_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 1.0)
    monkeypatch.setattr(module, "LONGEST_BACKOFF_S", 300.0)
    pauses = [module._backoff_s(attempt) for _ in range(200)]
    assert longest_s * 0.5 <= min(pauses) < longest_s * 0.6
    assert longest_s * 0.9 < max(pauses) <= longest_s


async def test_nothing_is_sent_when_another_process_has_become_the_leader_during_the_wait(
    database: Database, slack: SlackReceiver, endpoints: Endpoints
) -> None:
    leads = True
    channels: Channels = {"duty": slack_channel(slack)}
    dispatcher = Dispatcher(
        metrics=Metrics(),
        endpoints=endpoints,
        compose=compose,
        channels=lambda: channels,
        fallbacks=lambda name: (),
        is_leader=lambda: leads,
        pacer=quick_pacer(10.0),
    )
    dispatcher._pacer.hold(dispatcher._channel_states.all()["duty"].limits[0].key, 20.0)
    await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
    async with running(dispatcher, database.pool):
        await wait_until(lambda: bool(dispatcher._deliveries))
        leads = False
        await wait_until(lambda: not dispatcher._deliveries)
        dispatcher._measured_at = float("-inf")
        await asyncio.sleep(0.1)  # time for some polls, each of which would measure the outbox
        assert dispatcher._measured_at == float("-inf")
        assert slack.accepted == []
        leads = True
        await until_idle(database.pool)
    assert told_changes(slack) == ["freezer-1 firing"]
