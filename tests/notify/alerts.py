"""Episodes as the evaluator stores them, and a small composer that tells of them: test data for the outbox."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import asyncpg

from app.db.pool import Connection, Pool
from app.metrics import Metrics
from app.notify.channels import Channel, slack, telegram, webhook
from app.notify.dispatcher import Dispatcher
from app.notify.message import Message
from app.notify.outbox import Compose, Composed, ToldItem, enqueue
from app.notify.pacing import Pacer
from app.notify.transport import ChannelConfig, Endpoints
from tests.receivers import Accepted, Receiver, SlackReceiver, TelegramReceiver, WebhookReceiver

Channels = dict[str, tuple[Channel, ChannelConfig]]

TOKEN = "123456:ABC-DEF_ghi"
_KINDS = "firing|raised|again|resolved|summary|reminder"
_RANKS = ("info", "warning", "error", "critical", "disaster")
_STATE = """
SELECT episode.id, episode.gateway AS name, episode.level, episode.resolved_at IS NOT NULL AS over, episode.revision,
       told.told, told.told_level, told.message_ref
  FROM alert_episode AS episode
  LEFT JOIN alert_told AS told ON told.channel = $1 AND told.episode_id = episode.id
 WHERE episode.rule = $2
 ORDER BY episode.id
"""


class Alerts:
    """Writes episodes of rules, and lets each change be told through some channels; the group is the rule."""

    def __init__(self, pool: Pool, *channels: str) -> None:
        self._pool = pool
        self._channels = channels

    async def fire(self, rule: str, name: str, level: str = "warning") -> int:
        """Begin an episode and return its id."""
        async with self._pool.acquire() as connection, connection.transaction():
            episode_id: int = await connection.fetchval(
                "INSERT INTO alert_episode (rule, gateway, started_at, fired_at, steps, level) "
                "VALUES ($1, $2, now(), now(), '[]', $3) RETURNING id",
                rule,
                name,
                level,
            )
            await self.enqueue(connection, rule)
        return episode_id

    async def raise_to(self, episode_id: int, level: str) -> None:
        """Raise an episode's level."""
        await self._change(episode_id, "level = $2, revision = revision + 1", level)

    async def resolve(self, episode_id: int) -> None:
        """End an episode."""
        await self._change(episode_id, "resolved_at = now(), revision = revision + 1")

    async def tell(self, rule: str) -> None:
        """Let the group's message be due, as a planner does that finds something untold."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self.enqueue(connection, rule)

    async def enqueue(self, connection: Connection, rule: str) -> None:
        """Enqueue the group's message in a transaction of the caller's."""
        for channel in self._channels:
            await enqueue(connection, channel, rule, datetime(2026, 1, 1, tzinfo=UTC))

    async def _change(self, episode_id: int, change: str, *values: str) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            rule = await connection.fetchval(
                f"UPDATE alert_episode SET {change} WHERE id = $1 RETURNING rule", episode_id, *values
            )
            await self.enqueue(connection, rule)


async def compose(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
    """Tell, for each episode of the rule, what the channel was not told: "freezer-1 firing, freezer-2 resolved"."""
    rows = await connection.fetch(_STATE, channel, group_key)
    telling = [(row, item) for row in rows if (item := _reconcile(row)) is not None]
    if not telling:
        return None
    title = ", ".join(f"{row['name']} {item.kind}" for row, item in telling)
    return Composed(
        Message(title=title, level="warning", reply_to=telling[0][0]["message_ref"]),
        tuple(item for _, item in telling),
    )


def _reconcile(row: asyncpg.Record) -> ToldItem | None:
    facts = (row["id"], row["revision"])
    match row["told"], row["over"]:
        case None, False:
            return ToldItem(*facts, "firing", row["level"], "firing")
        case None, True:
            return ToldItem(*facts, "summary", row["level"], "resolved")
        case "firing", True:
            return ToldItem(*facts, "resolved", row["level"], "resolved")
        case "firing", False if _RANKS.index(row["level"]) > _RANKS.index(row["told_level"]):
            return ToldItem(*facts, "raised", row["level"], "firing")
        case "resolved", False:
            return ToldItem(*facts, "again", row["level"], "firing")
        case _:
            return None


def said(messages: Receiver | Sequence[Accepted]) -> list[str]:
    """Give what messages told, in order, such as ["a firing", "b firing", "a resolved"]."""
    accepted = messages.accepted if isinstance(messages, Receiver) else messages
    # Slack's payload has each title twice.
    return [told for message in accepted for told in dict.fromkeys(re.findall(rf"[\w-]+ (?:{_KINDS})", message.text))]


def slack_channel(receiver: SlackReceiver, name: str = "duty") -> tuple[Channel, ChannelConfig]:
    """Configure a webhook of the receiver."""
    return slack, slack.Config(webhook_url=receiver.webhook_url(name))


def telegram_channel(
    receiver: TelegramReceiver, chat_id: int = 77, token: str = TOKEN
) -> tuple[Channel, ChannelConfig]:
    """Configure a chat of the receiver."""
    return telegram, telegram.Config(bot_token=token, chat_id=chat_id)


def webhook_channel(receiver: WebhookReceiver, path: str = "hook") -> tuple[Channel, ChannelConfig]:
    """Configure an endpoint of the receiver."""
    return webhook, webhook.Config(url=f"{receiver.url}/{path}")


def quick_pacer(speed: float = 100.0) -> Pacer:
    """Pace as usual, but that many times as fast."""
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
    """Make a dispatcher that reads `channels` anew each time."""
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
    """Wait until a query gives true; fail when it does not."""
    async with asyncio.timeout(20):
        while not await pool.fetchval(query, *values):  # noqa: ASYNC110 -- PostgreSQL sets no event
            await asyncio.sleep(0.01)


async def until_idle(pool: Pool) -> None:
    """Wait until nothing waits and nothing is being sent."""
    await until(pool, "SELECT NOT EXISTS (SELECT FROM notification WHERE state IN ('waiting', 'sending'))")
