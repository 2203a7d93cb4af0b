"""`inside: [2.0, 8.0]`."""

import msgspec


class Inside(msgspec.Struct, frozen=True, tag="inside"):
    """Accept lo ≤ value ≤ hi; lo must not be greater than hi."""

    lo: float
    hi: float

    def ranges(self) -> tuple[tuple[float, float], ...]:
        return ((self.lo, self.hi),)
