"""Channels that send to the local receivers, and dispatchers that deliver to them faster than in production."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.notify.channels import Channel, slack, telegram, webhook
from app.notify.dispatch.claims import ChannelsOf
from app.notify.dispatch.dispatcher import Dispatcher
from app.notify.outbox import Compose
from app.notify.pacing import Pacer
from app.notify.transport import ChannelConfig, Endpoints
from tests.notify.episodes import compose
from tests.receivers import SlackReceiver, TelegramReceiver, WebhookReceiver

Channels = dict[str, tuple[Channel, ChannelConfig]]

TOKEN = "123456:ABC-DEF_ghi"


def always(channels: Mapping[str, Channel]) -> ChannelsOf:
    """Return a function for claims by which these channels may be used."""

    async def channels_of(_connection: Connection) -> Mapping[str, Channel]:
        return channels

    return channels_of


def slack_channel(receiver: SlackReceiver, name: str = "duty") -> tuple[Channel, ChannelConfig]:
    """Return a Slack channel that sends to a webhook of the receiver."""
    return slack, slack.Config(webhook_url=receiver.webhook_url(name))


def telegram_channel(
    receiver: TelegramReceiver, chat_id: int = 77, token: str = TOKEN
) -> tuple[Channel, ChannelConfig]:
    """Return a Telegram channel that sends to a chat of the receiver."""
    return telegram, telegram.Config(bot_token=token, chat_id=chat_id)


def webhook_channel(receiver: WebhookReceiver, path: str = "hook") -> tuple[Channel, ChannelConfig]:
    """Return a webhook channel that sends to a path of the receiver."""
    return webhook, webhook.Config(url=f"{receiver.url}/{path}")


def quick_pacer(speed: float = 100.0) -> Pacer:
    """Return a pacer whose clock and sleeps are `speed` times as fast as real time."""
    return Pacer(lambda: time.monotonic() * speed, lambda delay_s: asyncio.sleep(delay_s / speed))


def make_dispatcher(
    endpoints: Endpoints,
    channels: Mapping[str, tuple[Channel, ChannelConfig]],
    *,
    fallbacks: Sequence[str] = (),
    compose: Compose = compose,
    metrics: Metrics | None = None,
    speed: float = 100.0,
) -> Dispatcher:
    """Return a dispatcher that uses `channels` as they are at each poll."""
    return Dispatcher(
        metrics=metrics or Metrics(),
        endpoints=endpoints,
        compose=compose,
        channels=lambda: channels,
        fallbacks=lambda name: fallbacks,
        pacer=quick_pacer(speed),
    )


@asynccontextmanager
async def running(dispatcher: Dispatcher, pool: Pool) -> AsyncIterator[None]:
    """Run a dispatcher until the block ends."""
    task = asyncio.create_task(dispatcher.run(pool))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(pool: Pool, query: str, *values: object) -> None:
    """Wait until a query returns true; fail after 20 seconds."""
    async with asyncio.timeout(20):
        while not await pool.fetchval(query, *values):  # noqa: ASYNC110 -- PostgreSQL sets no event
            await asyncio.sleep(0.01)


async def until_one_waits(pool: Pool) -> None:
    """Wait until a statement on the database waits for a lock."""
    await until(
        pool,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
    )


async def until_idle(pool: Pool) -> None:
    """Wait until no message is waiting or being sent."""
    await until(pool, "SELECT NOT EXISTS (SELECT FROM notification WHERE state IN ('waiting', 'sending'))")
