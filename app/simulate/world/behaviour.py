"""The behaviour of gateways: encoding, clock, offline periods and lost answers."""

import msgspec

from app.clock import MINUTE_US, SECOND_US
from app.simulate.world.chance import fraction, key_of
from app.uplink import Encoding

#: Longer than the five minutes of silence after which the alert gateway-offline fires.
LONGEST_OFFLINE_US = 8 * MINUTE_US


class OfflinePeriods(msgspec.Struct, frozen=True):
    """The offline periods of a gateway: one begins at `begin_us` and at every multiple of `every_us` from there."""

    every_us: int
    duration_us: int
    begin_us: int

    def cover(self, time_us: int) -> bool:
        """Return whether the gateway is offline at a time."""
        return (time_us - self.begin_us) % self.every_us < self.duration_us


class Behaviour(msgspec.Struct, frozen=True):
    """The behaviour of one gateway."""

    encoding: Encoding = "identity"
    #: How much its clock is ahead of real time; negative when behind.
    skew_us: int = 0
    offline: OfflinePeriods | None = None
    #: Fraction of its uploads whose first answer is lost after the server has stored the readings.
    lost_answers: float = 0.0
    #: Whether it sends an Idempotency-Key, so that a retry gets the first answer and no count of duplicates.
    idempotent: bool = False
    #: Whether it replays the history; otherwise it begins with the present.
    has_history: bool = True


def behaviour_of(seed: int, number: int, demo_start_us: int | None = None) -> Behaviour:
    """Return the behaviour of gateway `number`, counted from 0; every third one has long offline periods."""
    encoding, skew_us, every_us, duration_us, demo_offset_us = _BEHAVIOURS[number % len(_BEHAVIOURS)]
    drawn_us = int(fraction(key_of(seed, number, "spells")) * every_us)
    begin_us = drawn_us if demo_start_us is None else demo_start_us + demo_offset_us
    return Behaviour(
        encoding,
        skew_us,
        OfflinePeriods(every_us, duration_us, begin_us),
        lost_answers=0.1,
        idempotent=number % len(_BEHAVIOURS) == 1,
    )


#: Encoding, clock skew, time between the beginnings of two offline periods, duration of an offline period, and its
#: beginning in the demo, counted from the demo's start.
_BEHAVIOURS: tuple[tuple[Encoding, int, int, int, int], ...] = (
    ("gzip", 2 * SECOND_US, 15 * MINUTE_US, 75 * SECOND_US, 10 * MINUTE_US),
    ("zstd", -3 * SECOND_US, 10 * MINUTE_US, 90 * SECOND_US, 90 * SECOND_US),
    ("identity", SECOND_US // 4, 45 * MINUTE_US, LONGEST_OFFLINE_US, 4 * MINUTE_US),
)
