"""The outbox: alert messages from when they are enqueued until they are sent or become dead letters."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from app.db.pool import Connection, Pool
from app.errors import ConflictError, NotFoundError
from app.notify.message import Message
from app.notify.sql import SQL

#: How long finished messages are kept.
SENT_AGE = timedelta(days=30)
DEAD_AGE = timedelta(days=90)

ToldState = Literal["firing", "resolved"]
#: `failed`: the message was dead and has been sent again since.
NotificationState = Literal["waiting", "sending", "sent", "dead", "failed"]
AttemptOutcome = Literal["sent", "refused", "unknown", "failed"]


class ToldItem(msgspec.Struct, frozen=True):
    """The part of a message that is about one episode; a message has at most one item for an episode."""

    episode_id: int
    #: The episode's revision. A channel is told each revision at most once, except in reminders.
    revision: int
    #: A value of ActionKind in `alerting.telling.decisions`.
    kind: str
    level: str
    #: What counts as told to the channel from the claim on; None leaves the earlier state.
    told: ToldState | None


class Composed(msgspec.Struct, frozen=True):
    """A message and the episodes it is about."""

    message: Message
    items: tuple[ToldItem, ...]


#: Takes a connection inside the claim's transaction, a channel, a group, and whether to tell what is not due yet.
#: Returns None if there is nothing to tell now; what comes later is enqueued again.
Compose = Callable[[Connection, str, str, bool], Awaitable[Composed | None]]


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to deliver. `refused` and `failed` prove that nothing arrived; `unknown` proves nothing."""

    at: datetime
    outcome: AttemptOutcome
    error: str | None
    seconds: float


class ListedItem(msgspec.Struct, frozen=True):
    """An episode that a message is about."""

    episode_id: int
    revision: int
    kind: str
    level: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the outbox and its attempts. `body` is the body as sent, null until the message is claimed."""

    id: int
    channel: str
    group: str
    state: NotificationState
    due_at: datetime
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
    error: str | None
    delayed_from: int | None
    items: list[ListedItem]
    attempts: list[Attempt]
    body: Any


async def enqueue(connection: Connection, channel: str, group_key: str, due_at: datetime) -> None:
    """Enqueue a message for a group, or make the group's waiting message due at `due_at` if that is earlier.

    The message is composed when it is claimed. Call this after writing what it has to tell, in the same transaction.
    """
    await connection.execute(SQL["enqueue"], channel, group_key, due_at)


async def resend(pool: Pool, notification_id: int) -> int:
    """Send a dead letter again and return the new message's id.

    The new message tells what is still true and untold, and its title begins with "Delayed". What the channel had
    been told is restored even if an answer was lost: whoever asks for this knows that the message did not arrive.
    Raise NotFoundError for an unknown id, ConflictError if the message is not dead.
    """
    async with pool.acquire() as connection, connection.transaction():
        state = await connection.fetchval(SQL["lock_dead"], notification_id)
        if state is None:
            raise NotFoundError(f"There is no notification {notification_id}; /api/v1/notifications/outbox lists them")
        if state != "dead":
            raise ConflictError(f"Notification {notification_id} is {state}; only dead ones can be sent anew")
        await restore_told(connection, notification_id)
        new_id: int = await connection.fetchval(SQL["enqueue_delayed"], notification_id)
        await connection.execute(SQL["mark_resent"], notification_id)
    return new_id


async def restore_told(connection: Connection, notification_id: int) -> None:
    """Restore what the channel had been told before this message, for each episode not told about since."""
    await connection.execute(SQL["restore_told"], notification_id)


async def list_notifications(pool: Pool, state: NotificationState, before_id: int, limit: int) -> list[Notification]:
    """Return at most `limit` messages in a state with ids below `before_id`, newest first."""
    rows = await pool.fetch(SQL["list_notifications"], state, before_id, limit)
    return [msgspec.convert({**row, "group": row["group_key"]}, Notification) for row in rows]


async def prune_notifications(pool: Pool, sent_age: timedelta = SENT_AGE, dead_age: timedelta = DEAD_AGE) -> None:
    """Delete messages that were sent or became dead letters this long ago, with their items and attempts."""
    await pool.execute(SQL["prune_notifications"], sent_age, dead_age)
