"""Test messages: the API asks for one by a row, and the worker that holds the lease sends it and answers in the row."""

import asyncio
from time import monotonic

import msgspec

from app.db.lease import is_held, try_to_signal_leader
from app.db.pool import Connection, Pool
from app.errors import WorkerAwayError
from app.notify.outbox import AttemptOutcome
from app.notify.sql import SQL

#: Longest time that the API waits for an answer: for a turn of the destination, and for the service.
ANSWER_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1


class ChannelTest(msgspec.Struct, frozen=True):
    """The outcome of a test message, and whether it mended a broken channel."""

    channel: str
    outcome: AttemptOutcome
    error: str | None = None
    mended: bool = False


async def require_worker(pool: Pool) -> None:
    """Raise WorkerAwayError if no worker runs."""
    if not await is_held(pool):
        raise WorkerAwayError("No worker runs, so nothing was sent. Start `tidegauge work`, then try again.")


async def request_test(pool: Pool, channel: str) -> ChannelTest:
    """Have a test message sent and return its outcome; raise WorkerAwayError if no worker answers."""
    test_id = await pool.fetchval(SQL["insert_channel_test"], channel)
    await try_to_signal_leader(pool)
    deadline = monotonic() + ANSWER_WITHIN_S
    while monotonic() < deadline:
        answer = await pool.fetchval(SQL["get_channel_test"], test_id)
        if answer is not None:
            return msgspec.convert(answer, ChannelTest)
        await asyncio.sleep(_LOOK_EVERY_S)
    raise WorkerAwayError(f"The worker did not answer within {ANSWER_WITHIN_S:.0f} s; its log may say why.")


async def take_tests(connection: Connection | Pool) -> list[tuple[int, str]]:
    """Return (id, channel) of the tests for which the API still waits; delete older rows."""
    return [(row["id"], row["channel"]) for row in await connection.fetch(SQL["take_channel_tests"], ANSWER_WITHIN_S)]


async def answer_test(connection: Connection | Pool, test_id: int, outcome: ChannelTest) -> None:
    """Store the outcome of a test, which the API waits for."""
    await connection.execute(SQL["answer_channel_test"], test_id, msgspec.to_builtins(outcome))
