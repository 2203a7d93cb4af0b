"""`above: 8.0`."""

import math

import msgspec


class Above(msgspec.Struct, frozen=True, tag="above"):
    """Accept values strictly greater than the threshold."""

    threshold: float

    def ranges(self) -> tuple[tuple[float, float], ...]:
        return ((math.nextafter(self.threshold, math.inf), math.inf),)
