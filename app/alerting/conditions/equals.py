"""`equals: 1.0`."""

import msgspec


class Equals(msgspec.Struct, frozen=True, tag="equals"):
    """Accept exactly one value."""

    value: float

    def ranges(self) -> tuple[tuple[float, float], ...]:
        return ((self.value, self.value),)
