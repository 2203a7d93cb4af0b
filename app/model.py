"""Words that several domains share."""

from typing import NewType

import msgspec

SeriesId = NewType("SeriesId", int)
SensorName = str
MetricName = str
Tags = dict[str, str]

#: Values beyond this are rejected: sums over them could overflow float8.
VALUE_LIMIT = 1e100


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one sensor measured at one time, checked and ready to store."""

    sensor: SensorName
    #: Microseconds since 1970, UTC.
    time_us: int
    #: Each value finite and within ±VALUE_LIMIT.
    values: dict[MetricName, float]
    tags: Tags | None = None
