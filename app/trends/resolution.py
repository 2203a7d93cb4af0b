"""How wide a bucket, and from which aggregate, for a range of time and a number of points."""

from datetime import timedelta

import msgspec


class Resolution(msgspec.Struct, frozen=True):
    """A bucket width and the coarsest relation whose buckets divide it."""

    name: str
    width: timedelta
    query: str


RESOLUTIONS = (
    *(Resolution(f"{n}m", timedelta(minutes=n), "list_buckets_1m") for n in (1, 2, 5, 10, 15, 30)),
    *(Resolution(f"{n}h", timedelta(hours=n), "list_buckets_1h") for n in (1, 2, 3, 6, 12)),
    *(Resolution(f"{n}d", timedelta(days=n), "list_buckets_1d") for n in (1, 7)),
)


def choose_resolution(span: timedelta, points: int) -> Resolution:
    """Choose the narrowest width that gives at most about `points` buckets, or the widest there is."""
    for resolution in RESOLUTIONS:
        if span <= resolution.width * points:
            return resolution
    return RESOLUTIONS[-1]
