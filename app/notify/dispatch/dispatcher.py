"""The dispatcher: sends due messages of the outbox, paced for each destination, and retries what fails.

The worker that holds the lease sends, so that the pacing holds for all messages. While a lease changes hands, two
dispatchers may send at once: rows are claimed with SKIP LOCKED, and no HTTP request is made inside a transaction.
"""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final

import aiohttp
import structlog

from app.db.pool import DATABASE_ERRORS, Connection, Pool
from app.metrics import Metrics
from app.notify.channel_states import (
    NOTICE_PREFIX,
    ChannelSource,
    ChannelState,
    ChannelStates,
    Fallbacks,
    compose_notice,
    mend_channel,
    note_move,
)
from app.notify.channels import Channel
from app.notify.dispatch.attempts import (
    AttemptResult,
    give_up_expired,
    name_outcome,
    record_attempt,
    requeue_for_broken_channels,
)
from app.notify.dispatch.channel_tests import ChannelTest, answer_test, take_tests
from app.notify.dispatch.claims import CLAIM_S, Claim, claim_next
from app.notify.message import Message, RenderedMessage
from app.notify.outbox import Compose, Composed
from app.notify.pacing import Pacer
from app.notify.sql import SQL
from app.notify.transport import Delivered, DeliveryError, Endpoints, UncertainError, open_session

#: How often the outbox is polled; `wake` makes the next poll happen at once.
POLL_S = 1.0
MEASURE_S = 15.0
#: Number of destinations to which messages are sent at the same time.
PARALLEL: Final = 16
# The pause between attempts doubles from the first to the longest.
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 300.0
#: A longer Retry-After is cut to this: a proxy may ask for a day by mistake.
LONGEST_RETRY_AFTER_S = 3_600.0
#: Time that messages being sent get to finish when the dispatcher stops, so that their answers are not lost.
GRACE_S = 5.0
#: Longest time that a test message waits for its turn.
TEST_WAIT_S = 10.0
_RECORD_PAUSE_S: Final = 1.0

log = structlog.get_logger()


#: Uses the rules in force by the database, if they have changed.
Follow = Callable[[Connection | Pool], Awaitable[None]]


async def follow_nothing(_connection: Connection | Pool) -> None:
    """Keep the channels as they are."""


class Dispatcher:
    """Sends messages, one at a time to each destination, in order of `due_at`."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        endpoints: Endpoints,
        compose: Compose,
        channels: ChannelSource,
        fallbacks: Fallbacks,
        follow: Follow = follow_nothing,
        is_leader: Callable[[], bool] = lambda: True,
        pacer: Pacer | None = None,
    ) -> None:
        self._metrics = metrics
        self._endpoints = endpoints
        self._compose_message = compose
        self._channel_states = ChannelStates(channels, fallbacks)
        self._follow = follow
        self._is_leader = is_leader
        self._pacer = pacer or Pacer()
        self._woken = asyncio.Event()
        self._measured_at = float("-inf")
        #: Running deliveries, by destination.
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        #: Destinations whose wait is over: their messages are being claimed or sent, or their results stored.
        self._delivering: set[str] = set()
        self._parallel = asyncio.Semaphore(PARALLEL)
        self._tests: set[asyncio.Task[None]] = set()

    async def run(self, pool: Pool) -> None:
        """Send due messages while this process is the leader, until cancelled.

        Then messages that are being sent get GRACE_S to finish.
        """
        async with open_session() as session:
            try:
                while True:
                    self._woken.clear()
                    try:
                        if self._is_leader():
                            await self._poll(pool, session)
                    except DATABASE_ERRORS as error:
                        log.warning("outbox_unreadable", error=repr(error))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._woken.wait()
            finally:
                await self._stop_deliveries()

    def wake(self) -> None:
        """Poll the outbox at once, because something became due."""
        self._woken.set()

    async def test_channel(self, pool: Pool, name: str) -> ChannelTest:
        """Send a test message and return its outcome; a message that arrives mends a broken channel."""
        await self._channel_states.refresh(pool)
        state = self._channel_states.all().get(name)
        if state is None:
            return ChannelTest(name, "failed", "the rules in force no longer define the channel")
        wait_s = self._pacer.wait_s(*state.limits)
        if wait_s > TEST_WAIT_S:
            return ChannelTest(name, "failed", f"the service asked to wait for another {wait_s:.0f} s")
        await self._pacer.wait_turn(*state.limits)
        outcome = await self._send_test(pool, state)
        mended = isinstance(outcome, Delivered) and await mend_channel(pool, name)
        self.wake()
        reason = outcome.reason if isinstance(outcome, DeliveryError) else None
        return ChannelTest(name, name_outcome(outcome), reason, mended)

    async def _poll(self, pool: Pool, session: aiohttp.ClientSession) -> None:
        await self._follow(pool)
        broken = await self._channel_states.refresh(pool)
        states = self._channel_states.all()
        if broken:
            await requeue_for_broken_channels(pool)
            # Read again: a channel whose notice was to go through a broken one now counts as not announced.
            await self._channel_states.announce(pool, await self._channel_states.refresh(pool))
        await give_up_expired(pool, list(states))
        await self._start_tests(pool)
        for row in await pool.fetch(SQL["list_ready_channels"]):
            if row["channel"] in states:
                self._start_delivery(pool, session, states[row["channel"]])
        if monotonic() - self._measured_at >= MEASURE_S:
            await self._measure(pool)

    def _start_delivery(self, pool: Pool, session: aiohttp.ClientSession, state: ChannelState) -> None:
        destination = state.destination
        if destination not in self._deliveries:
            task = asyncio.create_task(self._run_delivery(pool, session, state), name=f"deliver {destination}")
            self._deliveries[destination] = task

    async def _run_delivery(self, pool: Pool, session: aiohttp.ClientSession, state: ChannelState) -> None:
        """Send one message to a destination; log any error, so that deliveries to other destinations go on."""
        try:
            # The message is claimed after the wait, so that it tells what is true when it is sent.
            await self._pacer.wait_turn(*state.limits)
            if not self._is_leader():
                return
            with self._mark_delivering(state.destination):
                async with self._parallel:
                    sent = await self._deliver_next(pool, session, state.destination)
        except DATABASE_ERRORS as error:
            log.warning("delivery_put_off", destination=state.destination, error=repr(error))
        except Exception as error:
            log.error("lane_failed", destination=state.destination, exc_info=error)
        else:
            if sent:
                self.wake()
        finally:
            self._deliveries.pop(state.destination, None)

    async def _deliver_next(self, pool: Pool, session: aiohttp.ClientSession, destination: str) -> bool:
        """Claim and send the next message and store the result; return whether there was a message."""
        states: dict[str, ChannelState] = {}

        async def channels_of(connection: Connection) -> Mapping[str, Channel]:
            # Read again, because the wait may have been long: a channel that now has another destination, or is no
            # longer defined by the rules in force, must not be used.
            await self._follow(connection)
            states.clear()
            states.update(
                (name, each) for name, each in self._channel_states.all().items() if each.destination == destination
            )
            return {name: state.channel for name, state in states.items()}

        claim = await claim_next(pool, channels_of, self._compose)
        if claim is None:
            return False
        await self._deliver(pool, session, states[claim.channel], claim)
        return True

    async def _start_tests(self, pool: Pool) -> None:
        """Send the test messages that were asked for, each in a task of its own, because a service may be slow."""
        for test_id, channel in await take_tests(pool):
            task = asyncio.create_task(self._answer_test(pool, test_id, channel), name=f"test {channel}")
            self._tests.add(task)
            task.add_done_callback(self._tests.discard)

    async def _answer_test(self, pool: Pool, test_id: int, channel: str) -> None:
        try:
            await answer_test(pool, test_id, await self.test_channel(pool, channel))
        except DATABASE_ERRORS as error:
            log.warning("channel_test_not_answered", channel=channel, error=repr(error))

    async def _deliver(self, pool: Pool, session: aiohttp.ClientSession, state: ChannelState, claim: Claim) -> None:
        started = monotonic()
        outcome = await self._send(session, state, claim.rendered)
        seconds = monotonic() - started
        retry_in_s = max(_backoff_s(claim.attempt), self._pause_for_retry_after(state, outcome))
        await self._record(pool, claim, state, AttemptResult(outcome, seconds, retry_in_s))
        self._report(claim, state, outcome, seconds)

    async def _send(
        self, session: aiohttp.ClientSession, state: ChannelState, rendered: RenderedMessage
    ) -> Delivered | DeliveryError:
        try:
            return await state.channel.send(session, state.config, rendered, self._endpoints)
        except DeliveryError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- a bug of ours; it is unknown what was sent before
            where = "".join(traceback.format_tb(error.__traceback__))  # without values, which may be secret
            log.error("channel_failed", channel=state.name, error=type(error).__name__, traceback=where)
            return UncertainError(f"the channel failed: {type(error).__name__}")

    def _pause_for_retry_after(self, state: ChannelState, outcome: Delivered | DeliveryError) -> float:
        """After HTTP 429 or 503, send nothing to the destination until its Retry-After is over; return the seconds.

        Without a Retry-After there is no such pause, and 0 is returned.
        """
        asked_s = outcome.retry_after_s if isinstance(outcome, DeliveryError) else None
        if asked_s is None:
            return 0.0
        hold_s = min(asked_s, LONGEST_RETRY_AFTER_S)
        self._pacer.hold(state.limits[0].key, hold_s)
        return hold_s

    async def _record(self, pool: Pool, claim: Claim, state: ChannelState, result: AttemptResult) -> None:
        """Store the result, with retries for half of CLAIM_S.

        Otherwise a message would be sent twice when the database is away for a moment.
        """
        give_up_at = monotonic() + CLAIM_S / 2
        while True:
            try:
                return await record_attempt(pool, claim, state, result)
            except DATABASE_ERRORS as error:
                if monotonic() > give_up_at:
                    raise
                log.warning("delivery_not_recorded", notification=claim.id, error=repr(error))
                await asyncio.sleep(_RECORD_PAUSE_S)

    def _report(self, claim: Claim, state: ChannelState, outcome: Delivered | DeliveryError, seconds: float) -> None:
        kind = state.channel.TYPE
        self._metrics.deliveries.labels(kind, name_outcome(outcome)).inc()
        facts = {"notification": claim.id, "channel": state.name, "type": kind, "attempt": claim.attempt}
        if isinstance(outcome, Delivered):
            log.info("delivery_sent", **facts, seconds=round(seconds, 3))
        else:
            log.warning("delivery_failed", **facts, outcome=name_outcome(outcome), error=outcome.reason)

    async def _send_test(self, pool: Pool, state: ChannelState) -> Delivered | DeliveryError:
        rendered = state.channel.render(Message(title="Test", text=f"The channel {state.name} works."))
        async with open_session() as session:
            outcome = await self._send(session, state, rendered)
        self._pause_for_retry_after(state, outcome)
        if outcome.moved_to is not None:
            await note_move(pool, state, outcome.moved_to)
        log.info("channel_tested", channel=state.name, outcome=name_outcome(outcome))
        return outcome

    async def _compose(self, connection: Connection, channel: str, group_key: str, at_once: bool) -> Composed | None:
        if group_key.startswith(NOTICE_PREFIX):
            return await compose_notice(connection, group_key)
        return await self._compose_message(connection, channel, group_key, at_once)

    async def _measure(self, pool: Pool) -> None:
        row = await pool.fetchrow(SQL["measure_outbox"])
        assert row is not None  # noqa: S101 -- an aggregate without GROUP BY always returns a row
        self._metrics.notifications_waiting.set(row["waiting"])
        self._metrics.notifications_oldest_due_seconds.set(row["oldest_due_s"])
        self._metrics.dead_letters.set(row["dead"])
        self._metrics.channels_broken.set(row["channels_broken"])
        self._measured_at = monotonic()

    @contextmanager
    def _mark_delivering(self, destination: str) -> Iterator[None]:
        self._delivering.add(destination)
        try:
            yield
        finally:
            self._delivering.discard(destination)

    async def _stop_deliveries(self) -> None:
        """Cancel deliveries that wait for their turn at once, and those that send after GRACE_S."""
        tasks = [*self._deliveries.values(), *self._tests]
        for destination, task in self._deliveries.items():
            if destination not in self._delivering:
                task.cancel()
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before it started has not removed itself.
        self._deliveries.clear()


def _backoff_s(attempt: int) -> float:
    """Return the pause in seconds after an attempt, counted from 1: it doubles each time, with jitter down to half."""
    longest_s = min(FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 30), LONGEST_BACKOFF_S)
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311
