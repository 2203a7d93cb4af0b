"""Gets batches through: again and again until the server acknowledges them, as gateways do."""

from hashlib import sha256
from itertools import count
from time import monotonic

import msgspec

from app.errors import SettingsError
from app.simulate.plan import Plan
from app.simulate.uplink import Measurement, Uplink, UplinkAnswer, UploadBatch
from app.simulate.world.chance import bits, fraction, key_of
from app.simulate.world.habits import Habits
from app.simulate.world.timeline import Timeline

_LONGEST_PAUSE_S = 30.0


class DeliveryCounts(msgspec.Struct):
    """What a gateway has done; all are values, one for each metric of each reading.

    When nothing waits any more, made = accepted + duplicates + rejected + dropped.
    """

    made: int = 0
    #: Posted, each try that reached the server counted.
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    #: Lost on this side: no room, or nobody answered until the end.
    dropped: int = 0


class Tries(msgspec.Struct):
    """How its uploads went."""

    uploads: int = 0
    retries: int = 0
    lost_answers: int = 0
    last_answer: str = "–"
    #: Why the server last refused something.
    last_refusal: str = ""


class GivenUpError(Exception):
    """The simulation is over, and nobody takes what is left."""


class UploadDelivery:
    """Sends the readings of one gateway, one batch at a time."""

    def __init__(self, gateway: str, plan: Plan, habits: Habits, timeline: Timeline, counts: DeliveryCounts) -> None:
        self.tries = Tries()
        self.is_pausing = False
        self._gateway = gateway
        self._habits = habits
        self._timeline = timeline
        self._counts = counts
        self._plan = plan
        self._key = key_of(plan.seed, gateway, "delivery")
        self._parts: list[list[Measurement]] = []
        self._was_welcome = False
        self._last_success = monotonic()

    @property
    def under_way(self) -> int:
        """Count the values that were taken over and are not acknowledged yet."""
        return sum(len(reading.values) for part in self._parts for reading in part)

    async def deliver(self, uplink: Uplink, readings: list[Measurement]) -> None:
        """Send readings until they are acknowledged or refused for good.

        Raises GivenUpError when that takes too long after the end, SettingsError when the very first answer says
        that the key or the address is wrong.
        """
        self._parts = [readings]
        while self._parts:
            batch = self._pack(self._parts[0])
            answer = await self._send_until_answered(uplink, batch)
            if answer.outcome == "too_large" and batch.reading_count > 1:
                self._halve()
            else:
                self._settle(batch, answer)

    def clear(self) -> None:
        """Forget what is not acknowledged."""
        self._parts.clear()

    def _halve(self) -> None:
        part = self._parts[0]
        self._parts[:1] = [part[: len(part) // 2], part[len(part) // 2 :]]

    def _pack(self, readings: list[Measurement]) -> UploadBatch:
        """Make an upload, in no order: readings that come by radio come as they come."""
        shuffled = sorted(readings, key=lambda reading: bits(key_of(self._key, reading.sensor), reading.time))
        body = msgspec.json.encode({"gateway": self._gateway, "readings": shuffled})
        key = sha256(body).hexdigest() if self._habits.idempotent else None
        return UploadBatch(body, len(readings), sum(len(reading.values) for reading in readings), key)

    async def _send_until_answered(self, uplink: Uplink, batch: UploadBatch) -> UplinkAnswer:
        """Repeat while that makes sense."""
        self.tries.uploads += 1
        lose_answer = fraction(self._key, self.tries.uploads) < self._habits.lost_answers
        for number in count():
            answer = await uplink.send(batch, lose_answer=lose_answer and number == 0)
            self.tries.last_answer = answer.text
            self.tries.lost_answers += answer.outcome == "lost"
            self._counts.sent += batch.value_count if answer.outcome != "unreachable" else 0
            if answer.outcome == "unwelcome" and not self._was_welcome:
                raise SettingsError(_explain(answer))
            if answer.outcome not in ("later", "lost", "unreachable", "unwelcome"):
                break
            await self._pause(answer, number)
            self.tries.retries += 1
        return answer

    def _settle(self, batch: UploadBatch, answer: UplinkAnswer) -> None:
        """Count what came of a batch, which is the server's now, or nobody's."""
        del self._parts[0]
        self._was_welcome = True
        self._last_success = monotonic()
        self.tries.last_refusal = answer.reason or self.tries.last_refusal
        if answer.outcome == "stored":
            self._counts.accepted += answer.accepted
            self._counts.duplicates += answer.duplicates
            self._counts.rejected += answer.rejected
        else:
            self._counts.rejected += batch.value_count

    async def _pause(self, answer: UplinkAnswer, number: int) -> None:
        """Wait as long as the server asks, else longer each time, and never the same as the other gateways."""
        pause_s = min(self._plan.retry_s * 2 ** min(number, 10), _LONGEST_PAUSE_S)
        pause_s *= 0.5 + fraction(self._key, -self.tries.retries)
        if answer.retry_after_s is not None:
            pause_s = answer.retry_after_s
            self.tries.last_answer += f", again in {pause_s:g} s"
        if self._timeline.is_over:
            patience_s = max(self._last_success, self._timeline.over_since) + self._plan.patience_s - monotonic()
            if patience_s <= 0:
                raise GivenUpError
            pause_s = min(pause_s, patience_s)
        self.is_pausing = True
        try:
            await self._timeline.sleep(pause_s)
        finally:
            self.is_pausing = False


def _explain(answer: UplinkAnswer) -> str:
    remedy = "give a key with the scope ingest by --key or API_KEY" if answer.text in ("401", "403") else "check --url"
    reason = f" ({answer.reason.rstrip('.')})" if answer.reason else ""
    return f"The server answers {answer.text}{reason}; {remedy}"
