"""Delivery with retries while the client waits; after the deadline nothing is sent."""

import asyncio
import random
from typing import Any, Final

import aiohttp
import msgspec

from app.broker.pacing import RetryAfterPacing
from app.broker.request import Target
from app.db.shared import SharedState
from app.notify.transport import Delivered, DeliveryError, Endpoints, PermanentError, UnknownAnswerError

#: Time for all attempts and waits together.
DEADLINE_S: Final = 10.0
#: Pauses between attempts if the service asks for no wait, each with a jitter of a quarter.
BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0)
_NO_ANSWER: Final = "no answer came in time"


class DeliveryOutcome(msgspec.Struct, frozen=True):
    """The outcome of a delivery: the service's answer, or an error without secrets."""

    attempts: int
    response: Any = None
    error: str | None = None


class _Progress(msgspec.Struct):
    """The progress of a delivery."""

    attempts: int = 0
    #: The reason of the failure if the deadline passes now.
    reason: str = _NO_ANSWER


class BrokerDelivery:
    """Delivers to targets; several deliveries may run at once."""

    def __init__(
        self, session: aiohttp.ClientSession, endpoints: Endpoints, pacing: RetryAfterPacing | None = None
    ) -> None:
        self._session = session
        self._endpoints = endpoints
        self._pacing = pacing or RetryAfterPacing(SharedState())

    async def deliver(self, target: Target) -> DeliveryOutcome:
        """Send the message until it is accepted or refused for good, or DEADLINE_S has passed; return the outcome."""
        progress = _Progress()
        try:
            async with asyncio.timeout(DEADLINE_S) as deadline:
                delivered = await self._send_until(deadline, target, progress)
                return DeliveryOutcome(progress.attempts, response=delivered.response)
        except TimeoutError:
            reason = progress.reason
        except DeliveryError as error:
            reason = error.reason
        return DeliveryOutcome(progress.attempts, error=f"Network error sending to {target.service}: {reason}")

    async def _send_until(self, deadline: asyncio.Timeout, target: Target, progress: _Progress) -> Delivered:
        """Send until the message is accepted; raise the last error if it is final or no time is left for a retry.

        An attempt is repeated also if its answer was lost or proves nothing (a broken connection, a 502), because the
        client would have to repeat the request itself otherwise. It is not repeated if the message was probably
        accepted.
        """
        while True:
            await self._pacing.wait_turn(target, _left_s(deadline))
            progress.attempts += 1
            progress.reason = _NO_ANSWER
            try:
                return await target.channel.send(self._session, target.config, target.rendered, self._endpoints)
            except (PermanentError, UnknownAnswerError):
                raise
            except DeliveryError as error:
                progress.reason = error.reason
                await self._pause(error, _left_s(deadline), target, progress.attempts)

    async def _pause(self, error: DeliveryError, left_s: float, target: Target, attempts: int) -> None:
        """Wait before the next attempt; raise the error if that would be too late."""
        if error.retry_after_s is not None:
            await self._pacing.hold(target, error.retry_after_s)
            if error.retry_after_s > left_s:
                raise error
            return
        pause_s = _backoff_s(attempts)
        if pause_s > left_s:
            raise error
        await asyncio.sleep(pause_s)


def _left_s(deadline: asyncio.Timeout) -> float:
    return (deadline.when() or 0.0) - asyncio.get_running_loop().time()


def _backoff_s(attempts: int) -> float:
    """Return the pause in seconds after an attempt, with jitter so that many deliveries do not retry at once."""
    return BACKOFF_S[min(attempts, len(BACKOFF_S)) - 1] * random.uniform(0.75, 1.25)  # noqa: S311
