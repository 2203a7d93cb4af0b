"""`outside: [2.0, 8.0]`."""

import math

import msgspec


class Outside(msgspec.Struct, frozen=True, tag="outside"):
    """Accept value < lo and value > hi, the opposite of `Inside`; lo must not be greater than hi."""

    lo: float
    hi: float

    def ranges(self) -> tuple[tuple[float, float], ...]:
        return (
            (-math.inf, math.nextafter(self.lo, -math.inf)),
            (math.nextafter(self.hi, math.inf), math.inf),
        )
