"""Results of delivery attempts: a message is sent, retried, dead, or waiting again because its channel is broken."""

from datetime import timedelta

import msgspec
import structlog

from app.db.pool import Connection, Pool
from app.notify.channel_states import NOTICE_PREFIX, ChannelState, break_channel, note_move
from app.notify.dispatch.claims import Claim
from app.notify.outbox import AttemptOutcome, restore_told
from app.notify.sql import SQL
from app.notify.transport import Delivered, DeliveryError, PermanentError, TransientError

#: Time from the first claim of a message after which it is given up.
DEADLINE_S = 3_600.0

log = structlog.get_logger()


class AttemptResult(msgspec.Struct, frozen=True):
    """The outcome of an attempt and its duration in seconds."""

    outcome: Delivered | DeliveryError
    seconds: float
    #: Time until the next attempt, if there is one.
    retry_in_s: float


def name_outcome(outcome: Delivered | DeliveryError) -> AttemptOutcome:
    """Return the outcome in one word: what the attempt proved about the message."""
    match outcome:
        case Delivered():
            return "sent"
        case PermanentError():
            return "refused"
        case TransientError():
            return "failed"
        case _:
            return "unknown"


async def record_attempt(pool: Pool, claim: Claim, state: ChannelState, result: AttemptResult) -> None:
    """Store the result of an attempt and what follows from it, in one transaction.

    If another process has taken over the message in the meantime, only a success changes the message.
    """
    outcome = result.outcome
    reason = outcome.reason if isinstance(outcome, DeliveryError) else None
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["lock_attempt"], claim.id)
        if row is None:
            return
        await connection.execute(SQL["insert_attempt"], claim.id, name_outcome(outcome), reason, result.seconds)
        if outcome.moved_to is not None:
            await note_move(connection, state, outcome.moved_to)
        if row["state"] != "sending":
            return
        if isinstance(outcome, Delivered):
            await connection.execute(SQL["finish_sent"], claim.id)
            if outcome.message_ref is not None:
                await connection.execute(SQL["write_message_ref"], claim.id, outcome.message_ref)
        elif row["attempts"] == claim.attempt:
            await _record_failure(connection, claim, state, outcome, timedelta(seconds=result.retry_in_s))


async def give_up_expired(pool: Pool, channels: list[str]) -> None:
    """Make dead letters of messages past their deadline, except those that can be attempted now.

    `channels` are the names of all configured channels.
    """
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SQL["lock_expired"], timedelta(seconds=DEADLINE_S), channels)
        for row in rows:
            await _make_dead_letter(connection, row["id"])
            log.warning("delivery_abandoned", notification=row["id"], channel=row["channel"], error=row["error"])


async def requeue_for_broken_channels(pool: Pool) -> None:
    """Set claimed messages of broken channels back to waiting, and restore what these channels had been told.

    They are rendered again when they are claimed again. A notice about another broken channel is deleted instead,
    so that it goes out through a working channel.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(SQL["withdraw_notices"], NOTICE_PREFIX)
        for row in await connection.fetch(SQL["lock_sending_through_broken"]):
            await restore_told(connection, row["id"])
            waiting_id = await connection.fetchval(SQL["enqueue_again"], row["id"])
            await connection.execute(SQL["move_attempts"], row["id"], waiting_id)
            await connection.execute(SQL["delete_notification"], row["id"])


async def _record_failure(
    connection: Connection, claim: Claim, state: ChannelState, error: DeliveryError, retry_in: timedelta
) -> None:
    deadline = timedelta(seconds=DEADLINE_S)
    is_past_deadline = await connection.fetchval(SQL["end_attempt"], claim.id, error.reason, retry_in, deadline)
    match error:
        case PermanentError(channel_broken=True):
            # requeue_for_broken_channels does the rest, as for the channel's other messages.
            await break_channel(connection, state, error.reason)
        case PermanentError():
            await _make_dead_letter(connection, claim.id)
        case _ if is_past_deadline:
            await _make_dead_letter(connection, claim.id)


async def _make_dead_letter(connection: Connection, notification_id: int) -> None:
    """Make a message a dead letter; restore what its channel had been told, unless the message may have arrived."""
    may_have_arrived = await connection.fetchval(SQL["may_have_arrived"], notification_id)
    await connection.execute(SQL["mark_dead"], notification_id)
    if not may_have_arrived:
        await restore_told(connection, notification_id)
