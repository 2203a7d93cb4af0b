"""How gateways differ, and what goes wrong with them: each has habits of its own."""

from typing import Literal

import msgspec

from app.clock import MINUTE_US, SECOND_US
from app.simulate.world.chance import fraction, key_of

#: Longer than the five minutes of silence after which an alert says that a gateway is offline.
LONGEST_OFFLINE_US = 8 * MINUTE_US

Encoding = Literal["identity", "gzip", "zstd"]


class Spells(msgspec.Struct, frozen=True):
    """When a gateway is offline: for `last_us` in every `every_us`, from `begin_us` on."""

    every_us: int
    last_us: int
    begin_us: int

    def cover(self, time_us: int) -> bool:
        """Tell whether the gateway is offline at a time."""
        return (time_us - self.begin_us) % self.every_us < self.last_us


class Habits(msgspec.Struct, frozen=True):
    """What is peculiar to one gateway."""

    encoding: Encoding = "identity"
    #: Its clock is ahead of ours by so much; behind when negative.
    skew_us: int = 0
    spells: Spells | None = None
    #: Of its uploads, this share is stored without the gateway ever seeing the answer.
    lost_answers: float = 0.0
    #: Whether it sends an Idempotency-Key: then a retry gets the first answer instead of duplicates.
    idempotent: bool = False


def habits_of(seed: int, number: int, cued_at_us: int | None = None) -> Habits:
    """Choose the habits of a gateway, counted from 0; every third one stays offline for long."""
    encoding, skew_us, every_us, last_us, cue_us = _HABITS[number % len(_HABITS)]
    drawn = int(fraction(key_of(seed, number, "spells")) * every_us)
    begin_us = drawn if cued_at_us is None else cued_at_us + cue_us
    return Habits(
        encoding,
        skew_us,
        Spells(every_us, last_us, begin_us),
        lost_answers=0.1,
        idempotent=number % len(_HABITS) == 1,
    )


#: Encoding, skew, how often and how long offline, and when first in the demo, counted from its start.
_HABITS: tuple[tuple[Encoding, int, int, int, int], ...] = (
    ("gzip", 2 * SECOND_US, 15 * MINUTE_US, 75 * SECOND_US, 10 * MINUTE_US),
    ("zstd", -3 * SECOND_US, 10 * MINUTE_US, 90 * SECOND_US, 90 * SECOND_US),
    ("identity", SECOND_US // 4, 45 * MINUTE_US, LONGEST_OFFLINE_US, 4 * MINUTE_US),
)
