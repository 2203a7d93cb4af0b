"""The choice of bucket width and aggregate by the length of a time range and the number of points."""

from datetime import timedelta

import msgspec


class Resolution(msgspec.Struct, frozen=True):
    """A bucket width, and the query over the coarsest aggregate whose buckets divide it."""

    name: str
    width: timedelta
    query: str


RESOLUTIONS = (
    *(Resolution(f"{n}m", timedelta(minutes=n), "list_buckets_1m") for n in (1, 2, 5, 10, 15, 30)),
    *(Resolution(f"{n}h", timedelta(hours=n), "list_buckets_1h") for n in (1, 2, 3, 6, 12)),
    *(Resolution(f"{n}d", timedelta(days=n), "list_buckets_1d") for n in (1, 7)),
)


def choose_resolution(span: timedelta, points: int) -> Resolution:
    """Return the narrowest width that gives at most about `points` buckets, or the widest of all."""
    for resolution in RESOLUTIONS:
        if span <= resolution.width * points:
            return resolution
    return RESOLUTIONS[-1]
