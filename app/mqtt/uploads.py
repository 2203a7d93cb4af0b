"""Uploads of readings to the API, repeated until the server has stored or refused them."""

import asyncio
from collections.abc import Sequence
from random import uniform
from time import monotonic_ns

import msgspec
import structlog

from app.clock import database_clock, to_us
from app.mqtt.model import Draft
from app.uplink import Refusal, Uplink, UplinkAnswer, UploadBatch

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
log = structlog.get_logger()


class Stored(msgspec.Struct):
    """The result of uploading some readings; counts are of values, and `refusals` are those that the server lists."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    refusals: list[Refusal] = []


class Uploader:
    """Uploads batches, one after another."""

    def __init__(self, uplink: Uplink, gateway: str | None) -> None:
        self._uplink = uplink
        self._gateway = gateway
        #: The reason for which the last batch waits; empty if it does not.
        self.problem = ""

    async def store(self, readings: Sequence[Draft]) -> Stored:
        """Upload readings until each is stored or refused; this takes as long as the server is away."""
        stored = Stored()
        parts = [(0, readings)] if readings else []
        while parts:
            start, part = parts.pop()
            answer = await self._send(part)
            if answer.outcome == "stored":
                stored.accepted += answer.accepted
                stored.duplicates += answer.duplicates
                stored.rejected += answer.rejected
                stored.refusals += [msgspec.structs.replace(each, index=each.index + start) for each in answer.refusals]
            elif len(part) > 1:
                # Part of it cannot be uploaded. Halving isolates that part, and the rest is stored.
                half = len(part) // 2
                parts += [(start + half, part[half:]), (start, part[:half])]
            else:
                stored.rejected += 1
                stored.refusals.append(Refusal(start, f"status_{answer.text}", answer.reason))
        return stored

    async def _send(self, readings: Sequence[Draft]) -> UplinkAnswer:
        """Send a part until the answer is that it is stored, refused or too large."""
        batch = UploadBatch(self._encode(readings), len(readings), len(readings))
        pause_s = FIRST_PAUSE_S
        while True:
            asked_ns = monotonic_ns()
            answer = await self._uplink.send(batch)
            if answer.server_time is not None:
                # Messages without a time get the server's, whatever the clock of this machine says.
                database_clock.follow(to_us(answer.server_time), asked_ns, monotonic_ns())
            is_final = answer.outcome in ("stored", "refused", "too_large")
            if is_final and not (answer.outcome == "refused" and await self._refuses_every_upload()):
                self.problem = ""
                return answer
            wait_s = answer.retry_after_s or pause_s * uniform(0.5, 1.0)  # noqa: S311 -- no secret
            self._note(answer, wait_s)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _refuses_every_upload(self) -> bool:
        """Return whether an upload without readings is refused, too: its gateway or the key is at fault, no reading."""
        return (await self._uplink.send(UploadBatch(self._encode([]), 0, 0))).outcome == "refused"

    def _encode(self, readings: Sequence[Draft]) -> bytes:
        envelope = {"readings": readings} if self._gateway is None else {"gateway": self._gateway, "readings": readings}
        return msgspec.json.encode(envelope)

    def _note(self, answer: UplinkAnswer, wait_s: float) -> None:
        self.problem = f"the server does not store: {answer.text} {answer.reason}".rstrip()
        facts = {"answer": answer.text, "reason": answer.reason, "again_in_s": round(wait_s, 1)}
        if answer.outcome in ("denied", "refused"):
            self.problem += "; check the key with the scope ingest, the server's address and the gateway's name"
            log.error("mqtt_upload_denied", **facts)
        else:
            log.warning("mqtt_upload_waits", **facts)
