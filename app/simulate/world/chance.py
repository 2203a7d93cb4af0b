"""Reproducible random numbers: each is a function of a key and a number, and independent of earlier draws."""

from hashlib import blake2b

_MASK = 2**64 - 1


def key_of(*parts: object) -> int:
    """Return a key of 64 bits for a sequence of draws, such as the noise of one sensor."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def bits(key: int, number: int) -> int:
    """Return 64 random bits: output `number` of splitmix64 (Steele, Lea, Flood 2014) with the key as its seed."""
    x = (key + (number & _MASK) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def fraction(key: int, number: int = 0) -> float:
    """Return a random number in [0, 1), uniformly distributed."""
    return (bits(key, number) >> 11) / 2**53


def noise(key: int, number: int) -> float:
    """Return a random number in (-1, 1), the difference of two uniform ones, so that small values are more frequent."""
    drawn = bits(key, number)
    return ((drawn >> 32) - (drawn & 0xFFFFFFFF)) / 2**32
