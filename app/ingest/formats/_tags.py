"""The sensor that a measurement's tags name, as Influx clients and Prometheus send them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from app.model import Tags
from app.names import tidy_name

#: The tags that name a sensor, the first that there is.
SENSOR_TAGS: Final = ("sensor", "sensor_id", "device", "device_id", "entity_id", "host")


class Origin(NamedTuple):
    """Where a value comes from."""

    sensor: str
    tags: Tags


def find_origin(measurement: str, tags: Mapping[str, str]) -> Origin:
    """Return the sensor that the tags name, else that of the measurement's name, and the tags that it has.

    All other tags become tags of the sensor, and part of its name, so that two series are never stored as one.
    """
    named_by = next((tag for tag in SENSOR_TAGS if tag in tags), None)
    others = {tag: value for tag, value in sorted(tags.items()) if tag != named_by}
    sensor = measurement if named_by is None else tags[named_by]
    name = ",".join([sensor, *(f"{tag}={value}" for tag, value in others.items())])
    return Origin(tidy_name(name), others)
