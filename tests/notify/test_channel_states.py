"""Broken channels, the notices about them, and how they are mended; chats that have moved."""

from datetime import UTC, datetime

import pytest

from app.notify.channel_states import ChannelStates, ChannelStatus, list_channel_statuses
from app.notify.channels import webhook as webhook_module
from app.notify.dispatch import dispatcher as module
from app.notify.dispatch.channel_tests import ChannelTest
from app.notify.transport import Endpoints
from tests.conftest import Database, wait_until
from tests.notify.dispatchers import (
    TOKEN,
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
from tests.receivers import RESETS_BEFORE, SlackReceiver, TelegramReceiver, WebhookReceiver

BROKEN = "SELECT EXISTS (SELECT FROM channel_state WHERE channel = $1)"
TOLD_THROUGH = "SELECT EXISTS (SELECT FROM channel_state WHERE channel = $1 AND told_through = $2)"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)


async def test_messages_wait_and_people_are_told_once_when_a_channel_breaks(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    slack.archive(slack.webhook_url())
    channels: Channels = {"duty": slack_channel(slack, "xyzABC123"), "hook": webhook_channel(webhook)}
    episodes = EpisodeWriter(database.pool, "duty")
    dispatcher = make_dispatcher(endpoints, channels, fallbacks=["gone", "duty", "hook"])
    async with running(dispatcher, database.pool):
        for rule in ("one", "two", "three"):
            await episodes.fire(rule, "freezer-1")
        await wait_until(lambda: bool(webhook.accepted))
        await until(database.pool, "SELECT count(*) = 1 FROM notification WHERE state = 'sent'")
        await until(database.pool, "SELECT count(*) = 3 FROM notification WHERE state = 'waiting'")
    assert slack.refused == [410]
    (notice,) = webhook.accepted
    assert notice.body["title"] == "Channel duty is broken"
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert notice.body["text"].startswith(f"Since {today} ")
    assert notice.body["text"].endswith(
        " UTC: Slack answered 410: channel_is_archived. Its messages wait. They are sent once its settings are "
        "corrected, or once a test succeeds: POST /api/v1/channels/duty/test"
    )
    assert await database.pool.fetchval("SELECT count(*) FROM alert_told") == 0
    await database.pool.execute(
        "UPDATE worker_status SET channels = $1",
        [{"name": "duty", "type": "slack"}, {"name": "hook", "type": "webhook"}],
    )
    duty, hook = await list_channel_statuses(database.pool)
    assert (duty.name, duty.type, duty.state, duty.reason, duty.told_through) == (
        "duty",
        "slack",
        "broken",
        "Slack answered 410: channel_is_archived",
        "hook",
    )
    assert duty.broken_since is not None
    assert hook == ChannelStatus("hook", "webhook", "working")


async def test_channel_is_mended_when_its_configuration_changes(
    database: Database, slack: SlackReceiver, endpoints: Endpoints
) -> None:
    slack.archive(slack.webhook_url("old"))
    channels: Channels = {"duty": slack_channel(slack, "old")}
    async with running(make_dispatcher(endpoints, channels), database.pool):
        await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
        await until(database.pool, BROKEN, "duty")
        channels["duty"] = slack_channel(slack, "new")
        await until_idle(database.pool)
    assert told_changes(slack) == ["freezer-1 firing"]
    assert await database.pool.fetchval("SELECT count(*) FROM channel_state") == 0


async def test_channel_stays_broken_when_its_configuration_is_the_same(
    database: Database, slack: SlackReceiver, endpoints: Endpoints
) -> None:
    slack.archive(slack.webhook_url("old"))
    channels: Channels = {"duty": slack_channel(slack, "old")}
    async with running(make_dispatcher(endpoints, channels), database.pool):
        await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
        await until(database.pool, BROKEN, "duty")
    states = ChannelStates(lambda: {"duty": slack_channel(slack, "old")}, lambda name: ())
    assert list(await states.refresh(database.pool)) == ["duty"]
    states = ChannelStates(dict, lambda name: ())
    assert list(await states.refresh(database.pool)) == ["duty"]
    states = ChannelStates(lambda: {"duty": slack_channel(slack, "new")}, lambda name: ())
    assert list(await states.refresh(database.pool)) == []


async def test_channel_is_mended_when_a_test_message_arrives(
    database: Database, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.revoked_tokens.add(TOKEN)
    dispatcher = make_dispatcher(endpoints, {"ops": telegram_channel(telegram)})
    async with running(dispatcher, database.pool):
        await EpisodeWriter(database.pool, "ops").fire("cold-room", "freezer-1")
        await until(database.pool, BROKEN, "ops")
        failed = await dispatcher.test_channel(database.pool, "ops")
        assert failed == ChannelTest("ops", "refused", "Telegram answered 401: Unauthorized", False)
        telegram.revoked_tokens.clear()
        assert await dispatcher.test_channel(database.pool, "ops") == ChannelTest("ops", "sent", None, True)
        await until_idle(database.pool)
    assert telegram.texts[0].startswith("ℹ️ Test\n")
    assert told_changes(telegram) == ["freezer-1 firing"]


async def test_people_are_told_through_the_next_channel_when_the_first_breaks_too(
    database: Database, slack: SlackReceiver, telegram: TelegramReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    telegram.block(77)
    # The first attempt of the notice fails, so that the notice is between attempts when its channel breaks.
    telegram.fail_next(RESETS_BEFORE)
    slack.archive(slack.webhook_url("duty"))
    channels: Channels = {
        "duty": slack_channel(slack),
        "ops": telegram_channel(telegram),
        "hook": webhook_channel(webhook),
    }
    async with running(make_dispatcher(endpoints, channels, fallbacks=["ops", "hook"]), database.pool):
        await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
        await wait_until(lambda: len(webhook.accepted) == 2)
        await until(database.pool, TOLD_THROUGH, "duty", "hook")
    titles = {message.body["title"] for message in webhook.accepted}
    assert titles == {"Channel duty is broken", "Channel ops is broken"}
    assert await database.pool.fetchval("SELECT count(*) FROM notification WHERE channel = 'ops'") == 0


async def test_nobody_is_told_when_the_channel_is_mended_before_a_fallback_works(
    database: Database, slack: SlackReceiver, webhook: WebhookReceiver, endpoints: Endpoints
) -> None:
    slack.archive(slack.webhook_url("old"))
    channels: Channels = {"duty": slack_channel(slack, "old")}
    async with running(make_dispatcher(endpoints, channels, fallbacks=["hook"]), database.pool):
        await EpisodeWriter(database.pool, "duty").fire("cold-room", "freezer-1")
        await until(database.pool, BROKEN, "duty")
        # Until now there was no other channel for the notice.
        channels |= {"duty": slack_channel(slack, "new"), "hook": webhook_channel(webhook)}
        await until_idle(database.pool)
    assert told_changes(slack) == ["freezer-1 firing"]
    assert webhook.accepted == []


async def test_messages_go_to_the_new_chat_also_after_a_restart_when_a_chat_has_moved(
    database: Database, telegram: TelegramReceiver, endpoints: Endpoints
) -> None:
    telegram.moved["77"] = -100_500
    episodes = EpisodeWriter(database.pool, "ops")
    episode_id = await episodes.fire("cold-room", "freezer-1")
    async with running(make_dispatcher(endpoints, {"ops": telegram_channel(telegram)}), database.pool):
        await until_idle(database.pool)
    await episodes.resolve(episode_id)
    async with running(make_dispatcher(endpoints, {"ops": telegram_channel(telegram)}), database.pool):
        await until_idle(database.pool)
    assert told_changes(telegram) == ["freezer-1 firing", "freezer-1 resolved"]
    assert [message.body["chat_id"] for message in telegram.accepted] == [-100_500, -100_500]
    # Only the very first request went to the old chat.
    assert telegram.refused == [400]


async def test_config_hash_differs_when_any_setting_differs() -> None:
    configs = (
        webhook_module.Config(url="http://a.example/"),
        webhook_module.Config(url="http://a.example/", headers={"X-A": "1", "X-B": "2"}),
        webhook_module.Config(url="http://a.example/", headers={"X-B": "2", "X-A": "1"}),
        webhook_module.Config(url="http://a.example/", headers={"X-A": "1", "X-B": "3"}),
    )
    states = ChannelStates(lambda: {str(n): (webhook_module, each) for n, each in enumerate(configs)}, lambda name: ())
    first, second, reordered, third = (state.config_hash for state in states.all().values())
    assert second == reordered
    assert len({first, second, third}) == 3
    assert "a.example" not in first
