"""Chance that can be repeated: every draw is a function of who asks and what for, never of what was drawn before."""

from hashlib import blake2b

_MASK = 2**64 - 1


def key_of(*parts: object) -> int:
    """Make a key of 64 bits for a sequence of draws, such as one sensor's noise."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def bits(key: int, number: int) -> int:
    """Draw 64 bits: the finisher of splitmix64 (Steele, Lea, Flood 2014), over both arguments."""
    x = (key + (number & _MASK) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def fraction(key: int, number: int = 0) -> float:
    """Draw from [0, 1)."""
    return (bits(key, number) >> 11) / 2**53


def noise(key: int, number: int) -> float:
    """Draw from (-1, 1), small values more often: the difference of two fractions."""
    drawn = bits(key, number)
    return ((drawn >> 32) - (drawn & 0xFFFFFFFF)) / 2**32
