"""Attempts to deliver while the client waits: what is not delivered by the deadline never will be."""

import asyncio
import random
from typing import Any, Final

import aiohttp
import msgspec

from app.broker.pacing import AskedPacing
from app.broker.request import Target
from app.notify.transport import Delivered, DeliveryError, Endpoints, PermanentError, UnknownAnswerError

#: From the request to the answer, all attempts and waits together.
DEADLINE_S: Final = 10.0
#: Between attempts where the service names no time, each give or take a quarter.
BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0)
_NO_ANSWER: Final = "no answer came in time"


class DeliveryOutcome(msgspec.Struct, frozen=True):
    """How a delivery ended: with the service's answer, or with an error fit to be shown."""

    attempts: int
    response: Any = None
    error: str | None = None


class _Course(msgspec.Struct):
    """How far a delivery has come; `reason` is why it failed, should time run out now."""

    attempts: int = 0
    reason: str = _NO_ANSWER


class BrokerDelivery:
    """Delivers to one target at a time; many at once may run."""

    def __init__(self, session: aiohttp.ClientSession, endpoints: Endpoints, pacing: AskedPacing | None = None) -> None:
        self._session = session
        self._endpoints = endpoints
        self._pacing = pacing or AskedPacing()

    async def deliver(self, target: Target) -> DeliveryOutcome:
        """Try until the message is taken, refused for good, or DEADLINE_S has passed."""
        course = _Course()
        try:
            async with asyncio.timeout(DEADLINE_S) as deadline:
                delivered = await self._try_until(deadline, target, course)
                return DeliveryOutcome(course.attempts, response=delivered.response)
        except TimeoutError:
            reason = course.reason
        except DeliveryError as error:
            reason = error.reason
        return DeliveryOutcome(course.attempts, error=f"Network error sending to {target.service}: {reason}")

    async def _try_until(self, deadline: asyncio.Timeout, target: Target, course: _Course) -> Delivered:
        """Try again after what may pass; raises the error of the last attempt when there is no time for another.

        Also after an answer that was lost or proves nothing (a broken connection, a 502): the client would have to
        ask again itself. Left alone are what hangs, for it has used up the time, and what was likely taken.
        """
        while True:
            await self._pacing.turn(target, _left_s(deadline))
            course.attempts += 1
            course.reason = _NO_ANSWER
            try:
                return await target.channel.send(self._session, target.config, target.rendered, self._endpoints)
            except (PermanentError, UnknownAnswerError):
                raise
            except DeliveryError as error:
                course.reason = error.reason
                await self._wait(error, _left_s(deadline), target, course.attempts)

    async def _wait(self, error: DeliveryError, left_s: float, target: Target, attempts: int) -> None:
        """Wait before another attempt; raises the error when that would be too late."""
        if error.retry_after_s is not None:
            self._pacing.hold(target, error.retry_after_s)
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
    """Spread retries, so that a thousand clients of a service that fell over do not return as one."""
    return BACKOFF_S[min(attempts, len(BACKOFF_S)) - 1] * random.uniform(0.75, 1.25)  # noqa: S311
