"""The outbox: alert messages from the moment that something is to be told until they are sent or dead."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from app.db.pool import Connection, Pool
from app.errors import ConflictError, NotFoundError
from app.notify.message import Message
from app.notify.sql import SQL

#: How long messages are kept once they are through.
SENT_AGE = timedelta(days=30)
DEAD_AGE = timedelta(days=90)

ToldState = Literal["firing", "resolved"]
#: `failed`: was dead, and was sent anew since.
NotificationState = Literal["waiting", "sending", "sent", "dead", "failed"]
AttemptOutcome = Literal["sent", "refused", "unknown", "failed"]


class ToldItem(msgspec.Struct, frozen=True):
    """What a message tells of one episode; an episode is in a message once."""

    episode_id: int
    #: The episode's; no channel is told the same one twice, reminders apart.
    revision: int
    #: firing, raised, again, resolved, retracted, summary, reminder, no_data, …
    kind: str
    level: str
    #: What the channel counts as told once this is claimed; None leaves that as it is.
    told: ToldState | None


class Composed(msgspec.Struct, frozen=True):
    """A message, and which episodes it is about."""

    message: Message
    items: tuple[ToldItem, ...]


#: Takes a connection that is in the claim's transaction, a channel, a group, and whether to tell it even before its
#: turn; None: nothing is left to say for now, and what is said later is enqueued anew.
Compose = Callable[[Connection, str, str, bool], Awaitable[Composed | None]]


class Attempt(msgspec.Struct, frozen=True):
    """One try to deliver: refused and failed prove that nothing arrived, unknown proves nothing."""

    at: datetime
    outcome: AttemptOutcome
    error: str | None
    seconds: float


class ListedItem(msgspec.Struct, frozen=True):
    """An episode that a message tells of."""

    episode_id: int
    revision: int
    kind: str
    level: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the outbox and what became of it; `body` is as sent, None until it is claimed."""

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
    """Let a message of a group be due, no later than the one that waits already.

    Its text is made when it is claimed. Call it after writing what there is to say, in the same transaction.
    """
    await connection.execute(SQL["enqueue"], channel, group_key, due_at)


async def resend(pool: Pool, notification_id: int) -> int:
    """Send a dead letter anew: what is still true and untold, headed "delayed"; return the new message's id.

    What it had told is taken back even where its answer was lost: whoever asks knows that it did not arrive.
    Raises NotFoundError, and ConflictError when the message is not dead.
    """
    async with pool.acquire() as connection, connection.transaction():
        state = await connection.fetchval(SQL["lock_dead"], notification_id)
        if state is None:
            raise NotFoundError(f"There is no notification {notification_id}; /api/v1/notifications/outbox lists them")
        if state != "dead":
            raise ConflictError(f"Notification {notification_id} is {state}; only dead ones can be sent anew")
        await take_told_back(connection, notification_id)
        new_id: int = await connection.fetchval(SQL["enqueue_delayed"], notification_id)
        await connection.execute(SQL["mark_resent"], notification_id)
    return new_id


async def take_told_back(connection: Connection, notification_id: int) -> None:
    """Restore what its channel had been told before this message, where nothing has been told since."""
    await connection.execute(SQL["take_told_back"], notification_id)


async def list_notifications(pool: Pool, state: NotificationState, before_id: int, limit: int) -> list[Notification]:
    """List the newest messages in a state with an id under `before_id`, newest first."""
    rows = await pool.fetch(SQL["list_notifications"], state, before_id, limit)
    return [msgspec.convert({**row, "group": row["group_key"]}, Notification) for row in rows]


async def prune_notifications(pool: Pool, sent_age: timedelta = SENT_AGE, dead_age: timedelta = DEAD_AGE) -> None:
    """Forget messages that were sent, or died, that long ago; their items and attempts go with them."""
    await pool.execute(SQL["prune_notifications"], sent_age, dead_age)
