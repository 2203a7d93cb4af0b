"""What becomes of a message: sent, tried again, put back because its channel broke, or dead."""

from datetime import timedelta

import msgspec
import structlog

from app.db.pool import Connection, Pool
from app.notify.channel_states import NOTICE_PREFIX, ChannelState, break_channel, note_move
from app.notify.claims import Claim
from app.notify.outbox import AttemptOutcome, take_told_back
from app.notify.sql import SQL
from app.notify.transport import Delivered, DeliveryError, PermanentError, TransientError

#: From the claim to giving up.
DEADLINE_S = 3_600.0

log = structlog.get_logger()


class Ended(msgspec.Struct, frozen=True):
    """How an attempt ended, how long it took, and after what time there is another, if there is."""

    outcome: Delivered | DeliveryError
    seconds: float
    retry_in_s: float


def name_outcome(outcome: Delivered | DeliveryError) -> AttemptOutcome:
    """Say in a word what an attempt proved."""
    match outcome:
        case Delivered():
            return "sent"
        case PermanentError():
            return "refused"
        case TransientError():
            return "failed"
        case _:
            return "unknown"


async def record_attempt(pool: Pool, claim: Claim, state: ChannelState, ended: Ended) -> None:
    """Write down how an attempt ended and what follows from it, all or nothing.

    When another process has taken over in the meantime, only a success still changes the message.
    """
    outcome = ended.outcome
    reason = outcome.reason if isinstance(outcome, DeliveryError) else None
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(SQL["lock_attempt"], claim.id)
        if row is None:
            return
        await connection.execute(SQL["insert_attempt"], claim.id, name_outcome(outcome), reason, ended.seconds)
        if outcome.moved_to is not None:
            await note_move(connection, state, outcome.moved_to)
        if row["state"] != "sending":
            return
        if isinstance(outcome, Delivered):
            await connection.execute(SQL["finish_sent"], claim.id)
            if outcome.message_ref is not None:
                await connection.execute(SQL["write_message_ref"], claim.id, outcome.message_ref)
        elif row["attempts"] == claim.attempt:
            await _record_failure(connection, claim, state, outcome, timedelta(seconds=ended.retry_in_s))


async def bury_expired(pool: Pool, channels: list[str]) -> None:
    """Give up messages past their deadline that will not be tried again before long; `channels` are all there are."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(SQL["lock_expired"], timedelta(seconds=DEADLINE_S), channels)
        for row in rows:
            await _bury(connection, row["id"])
            log.warning("delivery_abandoned", notification=row["id"], channel=row["channel"], error=row["error"])


async def put_back_stranded(pool: Pool) -> None:
    """Let messages of broken channels wait, to be rendered anew; what they had told is taken back.

    Those that tell of another broken channel are dropped: that is then told through another one.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(SQL["withdraw_notices"], NOTICE_PREFIX)
        for row in await connection.fetch(SQL["lock_stranded"]):
            await take_told_back(connection, row["id"])
            waiting_id = await connection.fetchval(SQL["enqueue_again"], row["id"])
            await connection.execute(SQL["move_attempts"], row["id"], waiting_id)
            await connection.execute(SQL["delete_notification"], row["id"])


async def _record_failure(
    connection: Connection, claim: Claim, state: ChannelState, error: DeliveryError, retry_in: timedelta
) -> None:
    deadline = timedelta(seconds=DEADLINE_S)
    is_late = await connection.fetchval(SQL["end_attempt"], claim.id, error.reason, retry_in, deadline)
    match error:
        case PermanentError(channel_broken=True):
            # put_back_stranded does the rest, as for the channel's other messages.
            await break_channel(connection, state, error.reason)
        case PermanentError():
            await _bury(connection, claim.id)
        case _ if is_late:
            await _bury(connection, claim.id)


async def _bury(connection: Connection, notification_id: int) -> None:
    """Make a dead letter; what it told is taken back unless it may have arrived."""
    may_have_arrived = await connection.fetchval(SQL["may_have_arrived"], notification_id)
    await connection.execute(SQL["bury"], notification_id)
    if not may_have_arrived:
        await take_told_back(connection, notification_id)
