"""Test data for the outbox: alert episodes as the evaluator stores them, and a composer of messages about them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from app.db.pool import Connection, Pool
from app.notify.message import Message
from app.notify.outbox import Composed, ToldItem, enqueue
from tests.receivers import Accepted, Receiver

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


class EpisodeWriter:
    """Writes episodes of rules and enqueues a message for each change, in some channels; the group is the rule."""

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
            await self.enqueue_in(connection, rule)
        return episode_id

    async def raise_to(self, episode_id: int, level: str) -> None:
        """Raise an episode's level."""
        await self._change(episode_id, "level = $2, revision = revision + 1", level)

    async def resolve(self, episode_id: int) -> None:
        """End an episode."""
        await self._change(episode_id, "resolved_at = now(), revision = revision + 1")

    async def enqueue(self, rule: str) -> None:
        """Enqueue the group's message, as the planner does when something is untold."""
        async with self._pool.acquire() as connection, connection.transaction():
            await self.enqueue_in(connection, rule)

    async def enqueue_in(self, connection: Connection, rule: str) -> None:
        """Enqueue the group's message in the caller's transaction."""
        for channel in self._channels:
            await enqueue(connection, channel, rule, datetime(2026, 1, 1, tzinfo=UTC))

    async def _change(self, episode_id: int, change: str, *values: str) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            rule = await connection.fetchval(
                f"UPDATE alert_episode SET {change} WHERE id = $1 RETURNING rule", episode_id, *values
            )
            await self.enqueue_in(connection, rule)


async def compose(connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
    """Compose a message with the untold change of each episode of the rule: "freezer-1 firing, freezer-2 resolved"."""
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


def told_changes(messages: Receiver | Sequence[Accepted]) -> list[str]:
    """Return the changes told by messages, in order, such as ["a firing", "b firing", "a resolved"]."""
    accepted = messages.accepted if isinstance(messages, Receiver) else messages
    # Slack's payload has each title twice.
    return [told for message in accepted for told in dict.fromkeys(re.findall(rf"[\w-]+ (?:{_KINDS})", message.text))]
