"""Delivery of readings: each batch is sent again until the server has stored or refused it."""

from hashlib import sha256
from itertools import count
from time import monotonic

import msgspec

from app.errors import SettingsError
from app.simulate.buffer import Measurement
from app.simulate.plan import Plan
from app.simulate.world.behaviour import Behaviour
from app.simulate.world.chance import bits, fraction, key_of
from app.simulate.world.sites import UNITS
from app.simulate.world.timeline import EventTimeline
from app.uplink import Uplink, UplinkAnswer, UploadBatch

_LONGEST_PAUSE_S = 30.0


class DeliveryCounts(msgspec.Struct):
    """Counts of the values of a gateway, one value for each metric of each reading.

    Once no value is buffered, made = accepted + duplicates + rejected + dropped.
    """

    made: int = 0
    #: Values in requests that reached the server; a retry counts again.
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    #: Values lost by the gateway: the buffer was full, or the server did not answer before the gateway gave up.
    dropped: int = 0


class Tries(msgspec.Struct):
    """Counts of the requests of a gateway, and the server's last answers."""

    uploads: int = 0
    retries: int = 0
    lost_answers: int = 0
    last_answer: str = "–"
    #: The server's reason for its last refusal.
    last_refusal: str = ""


class GivenUpError(Exception):
    """The timeline has ended, and the server has not stored or refused a batch for `Plan.patience_s`."""


class UploadDelivery:
    """Sends the readings of one gateway, one batch at a time."""

    def __init__(
        self, gateway: str, plan: Plan, behaviour: Behaviour, timeline: EventTimeline, counts: DeliveryCounts
    ) -> None:
        self.tries = Tries()
        self.is_pausing = False
        self._gateway = gateway
        self._behaviour = behaviour
        self._timeline = timeline
        self._counts = counts
        self._plan = plan
        self._key = key_of(plan.seed, gateway, "delivery")
        self._parts: list[list[Measurement]] = []
        self._has_settled = False
        self._last_success = monotonic()

    @property
    def unacknowledged(self) -> int:
        """Number of values that were passed to `deliver` and that the server has neither stored nor refused."""
        return sum(len(reading.values) for part in self._parts for reading in part)

    async def deliver(self, uplink: Uplink, readings: list[Measurement]) -> None:
        """Send readings until the server has stored or refused them.

        Raise GivenUpError when the server does not do so in time after the end of the timeline. Raise SettingsError
        when the key or the address is wrong and the server has not stored or refused any batch before.
        """
        self._parts = [readings]
        while self._parts:
            batch = self._make_batch(self._parts[0])
            answer = await self._send_until_answered(uplink, batch)
            if answer.outcome == "too_large" and batch.reading_count > 1:
                self._halve()
            else:
                self._count_outcome(batch, answer)

    def clear(self) -> None:
        """Remove all readings that are not acknowledged."""
        self._parts.clear()

    def _halve(self) -> None:
        part = self._parts[0]
        self._parts[:1] = [part[: len(part) // 2], part[len(part) // 2 :]]

    def _make_batch(self, readings: list[Measurement]) -> UploadBatch:
        """Encode readings as an upload, in random order, because a gateway receives them by radio in any order."""
        shuffled = sorted(readings, key=lambda reading: bits(key_of(self._key, reading.sensor), reading.time))
        body = msgspec.json.encode({"gateway": self._gateway, "units": UNITS, "readings": shuffled})
        key = sha256(body).hexdigest() if self._behaviour.idempotent else None
        return UploadBatch(body, len(readings), sum(len(reading.values) for reading in readings), key)

    async def _send_until_answered(self, uplink: Uplink, batch: UploadBatch) -> UplinkAnswer:
        """Send a batch until the server answers that it is stored, refused or too large."""
        self.tries.uploads += 1
        lose_answer = fraction(self._key, self.tries.uploads) < self._behaviour.lost_answers
        for number in count():
            answer = await uplink.send(batch, lose_answer=lose_answer and number == 0)
            self.tries.last_answer = answer.text
            self.tries.lost_answers += answer.outcome == "lost"
            self._counts.sent += batch.value_count if answer.outcome != "unreachable" else 0
            if answer.outcome == "denied" and not self._has_settled:
                raise SettingsError(_explain(answer))
            if answer.outcome not in ("later", "lost", "unreachable", "denied"):
                break
            await self._pause(answer, number)
            self.tries.retries += 1
        return answer

    def _count_outcome(self, batch: UploadBatch, answer: UplinkAnswer) -> None:
        """Remove the first part, which the server has stored or refused, and count its values accordingly."""
        del self._parts[0]
        self._has_settled = True
        self._last_success = monotonic()
        self.tries.last_refusal = answer.reason or self.tries.last_refusal
        if answer.outcome == "stored":
            self._counts.accepted += answer.accepted
            self._counts.duplicates += answer.duplicates
            self._counts.rejected += answer.rejected
        else:
            self._counts.rejected += batch.value_count

    async def _pause(self, answer: UplinkAnswer, number: int) -> None:
        """Wait as long as the server asks, or else for an exponential backoff with a jitter of this gateway's own.

        Raise GivenUpError when the timeline has ended and the time that the gateway waits after that is used up.
        """
        pause_s = min(self._plan.retry_s * 2 ** min(number, 10), _LONGEST_PAUSE_S)
        pause_s *= 0.5 + fraction(self._key, -self.tries.retries)
        if answer.retry_after_s is not None:
            pause_s = answer.retry_after_s
            self.tries.last_answer += f", again in {pause_s:g} s"
        if self._timeline.is_over:
            left_s = max(self._last_success, self._timeline.over_since) + self._plan.patience_s - monotonic()
            if left_s <= 0:
                raise GivenUpError
            pause_s = min(pause_s, left_s)
        self.is_pausing = True
        try:
            await self._timeline.sleep(pause_s)
        finally:
            self.is_pausing = False


def _explain(answer: UplinkAnswer) -> str:
    remedy = "give a key with the scope ingest by --key or API_KEY" if answer.text in ("401", "403") else "check --url"
    reason = f" ({answer.reason.rstrip('.')})" if answer.reason else ""
    return f"The server answers {answer.text}{reason}; {remedy}"
