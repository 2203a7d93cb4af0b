"""Delivery from a real database over real HTTP: in order and once, also when attempts fail."""

import asyncio
import contextlib
import time
from collections import defaultdict
from random import Random
from typing import Any

import pytest
from aiohttp import web

from app.db.pool import Pool
from app.metrics import Metrics
from app.notify.dispatch import attempts, claims
from app.notify.dispatch import dispatcher as module
from app.notify.dispatch.channel_tests import ChannelTest
from app.notify.transport import Endpoints
from tests.conftest import Database, wait_until
from tests.notify.dispatchers import (
    Channels,
    make_dispatcher,
    running,
    slack_channel,
    telegram_channel,
    until,
    until_idle,
    webhook_channel,
)
from tests.notify.episodes import EpisodeWriter, told_changes
from tests.receivers import (
    RESETS_AFTER,
    RESETS_BEFORE,
    Accepted,
    SlackReceiver,
    TelegramReceiver,
    WebhookReceiver,
    answers,
)

#: Faults with which the message is not accepted.
FAULTS = (answers(503), answers(500), answers(429, Retry_After="0"), RESETS_BEFORE)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_BACKOFF_S", 0.05)


class SlowWebhook(WebhookReceiver):
    """Accepts messages only after `released` is set, and only if the sender is still connected."""

    def __init__(self) -> None:
        super().__init__()
        #: Set when a message has arrived.
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def _receive(self, request: web.Request) -> web.Response:
        self.arrived.set()
        await self.released.wait()
        if request.transport is None:
            return web.Response(status=499)
        return await super()._receive(request)


async def test_message_is_sent_and_noted_as_told_when_due(
    database: Database, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {"ops": telegram_channel(telegram)}
    episode_id = await EpisodeWriter(database.pool, "ops").fire("cold-room", "freezer-1")
    async with running(make_dispatcher(endpoints, channels), database.pool):
        await until_idle(database.pool)
    assert telegram.texts == ["⚠️ freezer-1 firing"]
    told = await database.pool.fetchrow("SELECT channel, episode_id, told, told_level, message_ref FROM alert_told")
    assert tuple(told or ()) == ("ops", episode_id, "firing", "warning", "1")
    sent = await database.pool.fetchrow(
        "SELECT state, attempts, error, finished_at >= claimed_at, text -> 'body' ->> 'text' FROM notification"
    )
    assert tuple(sent or ()) == ("sent", 1, None, True, "⚠️ <b>freezer-1 firing</b>")
    items = await database.pool.fetch(
        "SELECT channel, episode_id, revision, kind, level, told_before FROM notification_item"
    )
    assert [tuple(item) for item in items] == [("ops", episode_id, 1, "firing", "warning", None)]
    attempts = await database.pool.fetch("SELECT outcome, error, seconds > 0 FROM notification_attempt")
    assert [tuple(attempt) for attempt in attempts] == [("sent", None, True)]


async def test_message_waits_when_it_is_not_due_yet(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {"ops": webhook_channel(webhook)}
    episodes = EpisodeWriter(database.pool, "ops")
    await episodes.fire("later", "a")
    await database.pool.execute("UPDATE notification SET due_at = now() + INTERVAL '1 minute'")
    await episodes.fire("now", "b")
    dispatcher = make_dispatcher(endpoints, channels)
    async with running(dispatcher, database.pool):
        await wait_until(lambda: told_changes(webhook) == ["b firing"])
        # Once it is due it is sent: it was not held back by anything else.
        await database.pool.execute("UPDATE notification SET due_at = now() WHERE state = 'waiting'")
        dispatcher.wake()
        await until_idle(database.pool)
    assert told_changes(webhook) == ["b firing", "a firing"]


async def test_reply_refers_to_the_earlier_message_when_the_service_has_replies(
    database: Database, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {"ops": telegram_channel(telegram)}
    episodes = EpisodeWriter(database.pool, "ops")
    async with running(make_dispatcher(endpoints, channels), database.pool):
        episode_id = await episodes.fire("cold-room", "freezer-1")
        await until_idle(database.pool)
        await episodes.resolve(episode_id)
        await until_idle(database.pool)
    assert told_changes(telegram) == ["freezer-1 firing", "freezer-1 resolved"]
    assert telegram.accepted[1].body["reply_parameters"]["message_id"] == 1


async def test_everything_arrives_once_and_in_order_when_a_third_fails_and_rates_are_limited(
    database: Database,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        slack = await stack.enter_async_context(SlackReceiver(every_s=0.008))
        telegram = await stack.enter_async_context(TelegramReceiver(every_s=0.008))
        webhook = await stack.enter_async_context(WebhookReceiver())
        receivers = {"duty": slack, "ops": telegram, "hook": webhook}
        for seed, receiver in enumerate(receivers.values()):
            receiver.fail_ratio(1 / 3, *FAULTS, seed=seed)
        channels: Channels = {
            "duty": slack_channel(slack),
            "ops": telegram_channel(telegram),
            "hook": webhook_channel(webhook),
        }
        endpoints = Endpoints(slack_webhook_prefix=slack.prefix, telegram_api_base=telegram.url)
        names = [f"sensor-{number}" for number in range(30)]
        async with running(make_dispatcher(endpoints, channels), database.pool):
            await _fire_and_resolve_all(database.pool, channels, names, Random(5))
            await until_idle(database.pool)
        for channel, receiver in receivers.items():
            assert _changes_by_sensor(receiver.accepted) == dict.fromkeys(names, COMPLETE), channel
    failed = await database.pool.fetchval("SELECT count(*) FROM notification_attempt WHERE outcome <> 'sent'")
    assert failed > 20


async def test_everything_arrives_once_and_in_order_when_two_dispatchers_run(
    database: Database, webhook: WebhookReceiver, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    for seed, receiver in enumerate((webhook, telegram)):
        receiver.fail_ratio(1 / 3, *FAULTS, seed=seed)
    channels: Channels = {"hook": webhook_channel(webhook), "ops": telegram_channel(telegram)}
    names = [f"sensor-{number}" for number in range(30)]
    first, second = (make_dispatcher(endpoints, channels) for _ in range(2))
    async with running(first, database.pool), running(second, database.pool):
        await _fire_and_resolve_all(database.pool, channels, names, Random(6))
        await until_idle(database.pool)
    for receiver in (webhook, telegram):
        assert _changes_by_sensor(receiver.accepted) == dict.fromkeys(names, COMPLETE)
    assert await database.pool.fetchval("SELECT count(*) FROM notification WHERE state <> 'sent'") == 0


async def test_everything_arrives_in_order_when_processes_are_killed_and_answers_are_lost(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    monkeypatch.setattr(claims, "CLAIM_S", 0.2)
    webhook.fail_ratio(1 / 3, *FAULTS, RESETS_AFTER, seed=3)
    channels: Channels = {"hook": webhook_channel(webhook)}
    names = [f"sensor-{number}" for number in range(30)]
    random = Random(7)

    async def keep_restarting() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                dispatcher = make_dispatcher(endpoints, channels)
                await asyncio.wait_for(dispatcher.run(database.pool), random.uniform(0.05, 0.2))

    restarting = [asyncio.create_task(keep_restarting()) for _ in range(2)]
    await _fire_and_resolve_all(database.pool, channels, names, Random(8))
    await until_idle(database.pool)
    for task in restarting:
        task.cancel()
    await asyncio.gather(*restarting, return_exceptions=True)
    assert _changes_by_sensor(webhook.accepted, twice=True) == dict.fromkeys(names, COMPLETE)


async def test_resolved_waits_for_its_firing_when_the_firing_keeps_failing(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    webhook.fail_next(answers(503), times=4)
    episodes = EpisodeWriter(database.pool, "hook")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    async with running(make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}), database.pool):
        await wait_until(lambda: bool(webhook.refused))
        await episodes.resolve(episode_id)
        await until_idle(database.pool)
    assert told_changes(webhook) == ["freezer-1 firing", "freezer-1 resolved"]
    rows = await database.pool.fetch(
        "SELECT array_agg(outcome ORDER BY id) AS outcomes FROM notification_attempt GROUP BY notification_id "
        "ORDER BY notification_id"
    )
    assert [row["outcomes"] for row in rows] == [["failed"] * 4 + ["sent"], ["sent"]]


async def test_messages_to_one_destination_are_sent_in_order_of_their_due_times(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    episodes = EpisodeWriter(database.pool, "hook")
    for minutes, rule in ((1, "third"), (3, "first"), (2, "second")):
        await episodes.fire(rule, rule)
        await database.pool.execute(
            "UPDATE notification SET due_at = now() - make_interval(mins => $2) WHERE group_key = $1", rule, minutes
        )
    async with running(make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}), database.pool):
        await until_idle(database.pool)
    assert told_changes(webhook) == ["first firing", "second firing", "third firing"]


async def test_destination_is_sent_nothing_for_as_long_as_it_asks_while_others_go_on(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {"duty": slack_channel(slack), "hook": webhook_channel(webhook)}
    slack.fail_next(answers(429, "rate_limited", Retry_After="2"))
    episodes = EpisodeWriter(database.pool, *channels)
    await episodes.fire("one", "a")
    started_at = time.monotonic()
    async with running(make_dispatcher(endpoints, channels, speed=2.0), database.pool):
        await wait_until(lambda: slack.refused == [429])
        await episodes.fire("two", "b")
        await until_idle(database.pool)
    assert told_changes(webhook) == ["a firing", "b firing"]
    # The pacer's clock runs twice as fast, so its hold lasts 1 s; the refused message itself waits the whole 2 s.
    assert told_changes(slack) == ["b firing", "a firing"]
    assert slack.accepted[0].at - started_at > 1.0
    assert slack.accepted[1].at - started_at > 2.0
    assert webhook.accepted[1].at < slack.accepted[0].at
    assert slack.refused == [429]


async def test_message_is_sent_again_with_the_same_text_when_its_process_died(
    database: Database, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    async with SlowWebhook() as webhook:
        channels: Channels = {"hook": webhook_channel(webhook)}
        episodes = EpisodeWriter(database.pool, "hook")
        episode_id = await episodes.fire("cold-room", "freezer-1")
        async with running(make_dispatcher(endpoints, channels), database.pool):
            await webhook.arrived.wait()
        webhook.released.set()
        await episodes.resolve(episode_id)
        async with running(make_dispatcher(endpoints, channels), database.pool):
            await episodes.fire("other", "b")
            await wait_until(lambda: told_changes(webhook) == ["b firing"])
            # End the lease of the first attempt.
            await database.pool.execute(
                "UPDATE notification SET attempt_started_at = now() - INTERVAL '2 minutes', next_attempt_at = now() "
                "WHERE state = 'sending'"
            )
            await until_idle(database.pool)
    assert told_changes(webhook) == ["b firing", "freezer-1 firing", "freezer-1 resolved"]
    attempts = await database.pool.fetch(
        "SELECT outcome, attempt.error FROM notification_attempt AS attempt "
        "JOIN notification ON notification.id = notification_id WHERE group_key = 'cold-room' ORDER BY attempt.id"
    )
    lost = ("unknown", "its process stopped before the answer was noted")
    assert [tuple(attempt) for attempt in attempts] == [lost, ("sent", None), ("sent", None)]


async def test_message_becomes_a_dead_letter_with_its_error_at_its_deadline(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 60.0)
    monkeypatch.setattr(module, "LONGEST_BACKOFF_S", 60.0)
    monkeypatch.setattr(attempts, "DEADLINE_S", 0.1)
    webhook.fail_next(answers(503))
    await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
    async with running(make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}), database.pool):
        await until(database.pool, "SELECT EXISTS (SELECT FROM notification WHERE state = 'dead')")
    assert await database.pool.fetchval("SELECT error FROM notification") == "the webhook answered 503"
    assert await database.pool.fetchval("SELECT count(*) FROM alert_told") == 0


async def test_message_is_not_sent_again_when_it_finishes_while_the_dispatcher_stops(
    database: Database, endpoints: Endpoints
) -> None:
    async with SlowWebhook() as webhook:
        await EpisodeWriter(database.pool, "hook").fire("cold-room", "freezer-1")
        task = asyncio.create_task(make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}).run(database.pool))
        await webhook.arrived.wait()
        task.cancel()
        webhook.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await database.pool.fetchval("SELECT state FROM notification") == "sent"


async def test_message_goes_to_the_new_address_when_the_channel_changed_while_it_waited_for_its_turn(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    channels: Channels = {"ops": slack_channel(slack)}
    slack.fail_next(answers(429, "rate_limited", Retry_After="1"))
    episodes = EpisodeWriter(database.pool, "ops")
    await episodes.fire("one", "a")
    async with running(make_dispatcher(endpoints, channels, speed=1.0), database.pool):
        await wait_until(lambda: slack.refused == [429])
        await episodes.fire("two", "b")
        channels["ops"] = webhook_channel(webhook)
        await wait_until(lambda: told_changes(webhook) == ["b firing"])
        # The first message keeps the text that was rendered for Slack, but it goes to the webhook too.
        await until_idle(database.pool)
    assert slack.accepted == []
    assert len(webhook.accepted) == 2


async def test_metrics_count_attempts_and_unsent_messages(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEASURE_S", 0.0)
    webhook.fail_next(answers(503))
    webhook.fail_next(answers(400))
    metrics = Metrics()
    episodes = EpisodeWriter(database.pool, "hook", "unknown")
    await episodes.fire("one", "a")
    dispatcher = make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}, metrics=metrics)
    async with running(dispatcher, database.pool):
        await until(database.pool, "SELECT EXISTS (SELECT FROM notification WHERE state = 'dead')")
        await episodes.enqueue("one")
        await wait_until(lambda: told_changes(webhook) == ["a firing"])
        await wait_until(lambda: b"tidegauge_dead_letters 1.0" in metrics.render())
        await wait_until(lambda: b"tidegauge_notifications_waiting 1.0" in metrics.render())
        await wait_until(lambda: b'tidegauge_deliveries_total{outcome="sent",type="webhook"} 1.0' in metrics.render())
    shown = metrics.render().decode()
    assert 'tidegauge_deliveries_total{outcome="failed",type="webhook"} 1.0' in shown
    assert 'tidegauge_deliveries_total{outcome="refused",type="webhook"} 1.0' in shown
    assert metrics.notifications_oldest_due_seconds._value.get() > 3_600


async def test_channel_test_returns_its_outcome(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    dispatcher = make_dispatcher(endpoints, {"duty": slack_channel(slack), "hook": webhook_channel(webhook)})
    assert await dispatcher.test_channel(database.pool, "duty") == ChannelTest("duty", "sent")
    assert slack.texts[0].startswith("ℹ️ Test\nThe channel duty works.")
    slack.archive(slack.webhook_url("duty"))
    refused = await dispatcher.test_channel(database.pool, "duty")
    assert refused == ChannelTest("duty", "refused", "Slack answered 410: channel_is_archived")
    gone = await dispatcher.test_channel(database.pool, "dury")
    assert gone == ChannelTest("dury", "failed", "the rules in force no longer define the channel")


async def test_channel_test_does_not_wait_when_the_service_asked_for_a_long_wait(
    database: Database, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    dispatcher = make_dispatcher(endpoints, {"hook": webhook_channel(webhook)}, speed=1.0)
    webhook.fail_next(answers(503, Retry_After="120"))
    assert await dispatcher.test_channel(database.pool, "hook") == ChannelTest(
        "hook", "failed", "the webhook answered 503"
    )
    asked = await dispatcher.test_channel(database.pool, "hook")
    assert asked == ChannelTest("hook", "failed", "the service asked to wait for another 120 s")
    assert webhook.accepted == []


#: Stands for all changes of an episode, told once each: firing and resolved, or a summary when it was over.
COMPLETE = "complete"


async def _fire_and_resolve_all(pool: Pool, channels: Channels, names: list[str], random: Random) -> None:
    """Start an episode of each sensor, two for each rule, then end them in random order while messages are sent."""
    episodes = EpisodeWriter(pool, *channels)
    firing = [await episodes.fire(f"rule-{number // 2}", name) for number, name in enumerate(names)]
    random.shuffle(firing)
    for number, episode_id in enumerate(firing):
        await until(pool, "SELECT count(*) >= $1 FROM notification WHERE state = 'sent'", min(number, 20))
        await episodes.resolve(episode_id)


def _changes_by_sensor(accepted: list[Accepted], *, twice: bool = False) -> dict[str, Any]:
    """Return COMPLETE for each sensor whose changes all arrived, in order and once, else the changes that arrived.

    `twice`: a change may be repeated directly after itself.
    """
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for told in told_changes(accepted):
        name, _, kind = told.partition(" ")
        if not twice or kinds[name][-1:] != [kind]:
            kinds[name].append(kind)
    complete = (["firing", "resolved"], ["summary"])
    return {name: COMPLETE if changes in complete else changes for name, changes in kinds.items()}
