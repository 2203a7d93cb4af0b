"""Claims: the transaction that renders a message and notes its content as told, before the message is sent."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import asyncpg
import msgspec
import structlog

from app.db.pool import Connection, Pool
from app.db.rights.locks import wait_for_evaluation
from app.notify.channels import Channel
from app.notify.message import Message, RenderedMessage
from app.notify.outbox import Compose, ToldItem
from app.notify.sql import SQL
from app.problems import is_database_away

#: An attempt without a stored result after this time counts as lost, and the message is sent again.
CLAIM_S = 120.0
#: A message that cannot be composed is postponed by this time, so that it does not hold up others.
PUT_OFF_S = 60.0

log = structlog.get_logger()


#: Returns the channels that may be used now, by the rules in force in the transaction.
ChannelsOf = Callable[[Connection], Awaitable[Mapping[str, Channel]]]


class Claim(msgspec.Struct, frozen=True):
    """The right to send a message once. `attempt` counts from 1."""

    id: int
    channel: str
    group_key: str
    rendered: RenderedMessage
    attempt: int


async def claim_next(pool: Pool, channels_of: ChannelsOf, compose: Compose) -> Claim | None:
    """Claim the first message that may be sent now through one of the channels; return None if there is none.

    A message with nothing left to tell is deleted on the way. One that cannot be composed is postponed and logged.
    """
    async with pool.acquire() as connection:
        found = True
        claim = None
        while found and claim is None:
            found, claim = await _claim_first(connection, channels_of, compose)
        return claim


def is_passing(error: BaseException) -> bool:
    """Return whether a transaction failed because of others or a lost connection, so that a retry may succeed."""
    return is_database_away(error) or isinstance(
        error,
        asyncpg.DeadlockDetectedError
        | asyncpg.SerializationError
        | asyncpg.UniqueViolationError
        | asyncpg.ForeignKeyViolationError,
    )


async def _claim_first(connection: Connection, channels_of: ChannelsOf, compose: Compose) -> tuple[bool, Claim | None]:
    """Return whether a message was found, and the claim to it; None if it was deleted or postponed."""
    row = None
    try:
        async with connection.transaction():
            await wait_for_evaluation(connection)
            channels = await channels_of(connection)
            row = await connection.fetchrow(SQL["lock_ready"], list(channels))
            if row is None:
                return False, None
            if row["state"] == "sending":
                return True, await _claim_again(connection, row)
            return True, await _claim_waiting(connection, row, channels[row["channel"]], compose)
    except Exception as error:
        if row is None or is_passing(error):
            raise
        # Otherwise this message would fail again at each claim, and hold up all others of its destination.
        log.error("message_not_composed", notification=row["id"], group=row["group_key"], exc_info=error)
        what = "composed" if row["state"] == "waiting" else "read"
        reason = f"it could not be {what}: {type(error).__name__}"
        await connection.execute(SQL["put_off"], row["id"], timedelta(seconds=PUT_OFF_S), reason, row["state"])
        return True, None


async def _claim_waiting(
    connection: Connection, row: asyncpg.Record, channel: Channel, compose: Compose
) -> Claim | None:
    """Render what is true now and note it as told; delete the message and return None if nothing is left to tell."""
    is_delayed = row["delayed_from"] is not None
    composed = await compose(connection, row["channel"], row["group_key"], is_delayed)
    new_items = await _insert_items(connection, row, composed.items) if composed else ()
    if composed is None or (composed.items and not new_items):
        await connection.execute(SQL["delete_notification"], row["id"])
        return None
    await _write_told(connection, row["channel"], new_items)
    rendered = channel.render(_mark_delayed(composed.message) if is_delayed else composed.message)
    await connection.execute(SQL["begin_sending"], row["id"], rendered, timedelta(seconds=CLAIM_S))
    return Claim(row["id"], row["channel"], row["group_key"], rendered, 1)


async def _claim_again(connection: Connection, row: asyncpg.Record) -> Claim:
    """Claim another attempt of a message that has been claimed before; its text stays the same."""
    if row["attempt_started_at"] is not None:
        lost = "its process stopped before the answer was noted"
        await connection.execute(SQL["insert_lost_attempt"], row["id"], lost)
    attempt = await connection.fetchval(SQL["begin_attempt"], row["id"], timedelta(seconds=CLAIM_S))
    rendered = msgspec.convert(row["text"], RenderedMessage)
    return Claim(row["id"], row["channel"], row["group_key"], rendered, attempt)


async def _insert_items(
    connection: Connection, row: asyncpg.Record, items: tuple[ToldItem, ...]
) -> tuple[ToldItem, ...]:
    """Store the items of a message, and return those that no other message has told in the meantime."""
    columns = [[getattr(item, name) for item in items] for name in ("episode_id", "revision", "kind", "level")]
    inserted = await connection.fetch(SQL["insert_items"], row["id"], row["channel"], *columns)
    ids = {each["episode_id"] for each in inserted}
    return tuple(item for item in items if item.episode_id in ids)


async def _write_told(connection: Connection, channel: str, items: tuple[ToldItem, ...]) -> None:
    telling = [item for item in items if item.told is not None]
    columns = [[getattr(item, name) for item in telling] for name in ("episode_id", "told", "level")]
    await connection.execute(SQL["write_told"], channel, *columns)


def _mark_delayed(message: Message) -> Message:
    return msgspec.structs.replace(message, title=f"Delayed: {message.title}")
