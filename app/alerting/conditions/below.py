"""`below: 7.0`."""

import math

import msgspec


class Below(msgspec.Struct, frozen=True, tag="below"):
    """Accept values strictly less than the threshold."""

    threshold: float

    def ranges(self) -> tuple[tuple[float, float], ...]:
        return ((-math.inf, math.nextafter(self.threshold, -math.inf)),)
