"""Types and constants that several domains share."""

from collections.abc import Callable
from datetime import tzinfo
from typing import Any, Literal, NewType, Self, get_args

import msgspec

from app.clock import from_us

SeriesId = NewType("SeriesId", int)
SensorName = str
MetricName = str
Tags = dict[str, str]
LevelName = Literal["info", "warning", "error", "critical", "disaster"]
#: Long work calls this with the amount done so far and the total amount.
ReportProgress = Callable[[int, int], None]
#: The levels of severity, least severe first.
LEVEL_NAMES: tuple[LevelName, ...] = get_args(LevelName)

#: Values beyond this are rejected: sums over them could overflow float8.
VALUE_LIMIT = 1e100


def severity(level: str) -> int:
    """Return the rank of a level's name; 0 is the least severe."""
    return LEVEL_NAMES.index(level)


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The values that one sensor measured at one time, checked and ready to store."""

    sensor: SensorName
    #: Microseconds since 1970, UTC.
    time_us: int
    #: Each value finite and within ±VALUE_LIMIT.
    values: dict[MetricName, float]
    tags: Tags | None = None
    #: Position in the upload, from 0; messages about the reading name it.
    index: int = 0
    #: Units of some of the values.
    units: dict[MetricName, str] | None = None


class FeedReading(msgspec.Struct, frozen=True, gc=False):
    """A reading as the live feed sends it: stored by ingest, sent by live; `time` is RFC 3339 in UTC."""

    sensor: SensorName
    time: str
    values: dict[MetricName, float]


#: The metrics in a record of the replaced sensor server.
LEGACY_METRICS: tuple[MetricName, ...] = ("temperature", "humidity", "pressure")


class LegacyRecord(msgspec.Struct, frozen=True):
    """A reading in the form of the replaced sensor server: stored by ingest, sent by the live feed."""

    id: int
    sensor: SensorName
    time_us: int
    temperature: float
    humidity: float
    pressure: float
    client_ip: str

    @classmethod
    def make(
        cls, record_id: int, sensor: SensorName, time_us: int, values: dict[MetricName, float], client_ip: str
    ) -> Self:
        """Make a record from a reading's values, which must contain the three metrics."""
        temperature, humidity, pressure = (values[metric] for metric in LEGACY_METRICS)
        return cls(record_id, sensor, time_us, temperature, humidity, pressure, client_ip)

    def as_sent(self, timezone: tzinfo) -> dict[str, Any]:
        """Return the JSON object of that server; date and time are in `timezone` and in whole seconds."""
        local = from_us(self.time_us).astimezone(timezone).isoformat()
        return {
            "id": self.id,
            "temperature": self.temperature,
            "humidity": self.humidity,
            "pressure": self.pressure,
            "date_recorded": local[:10],
            "time_recorded": local[11:19],
            "sensor_id": self.sensor,
            "client_ip": self.client_ip,
        }
