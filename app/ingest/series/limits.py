"""Limits of the numbers of sensors and series, and the refusal of more."""

from collections.abc import Mapping

import msgspec

from app.ingest.checks import Refusal
from app.ingest.gateways.binding import reject_sensors
from app.ingest.uploads.readings import Series
from app.ingest.uploads.upload import Upload
from app.model import SensorName

#: Number of sensors that one API key may register in all, unless the key has its own limit.
SENSORS_PER_KEY = 100_000
#: Number of metrics that one sensor may have, and of series that the sensors of one API key may have in all.
METRICS_PER_SENSOR = 1_000
SERIES_PER_KEY = 1_000_000


def refuse_series(sensor: SensorName, metrics: int, label: str, series: int) -> Refusal | None:
    """Return the refusal of a new metric of a sensor, or None if there is room for it.

    `metrics` is the number that the sensor has, and `series` the number that the sensors of the key `label` have.
    """
    if metrics >= METRICS_PER_SENSOR:
        return "too_many_metrics", (
            f"sensor {sensor!r} has {METRICS_PER_SENSOR:,} metrics already; stop whatever invents new names, or spread "
            "the metrics over several sensors"
        )
    if series >= SERIES_PER_KEY:
        return "too_many_series", (
            f"the sensors of the key {label!r} have {SERIES_PER_KEY:,} series already; stop whatever invents new "
            "names, or use another key for some of the sensors"
        )
    return None


def reject_series(upload: Upload, refused: Mapping[Series, Refusal]) -> Upload:
    """Return the upload without the values of the refused series, which it rejects one by one."""
    readings = upload.readings
    codes = {code: series for code, series in enumerate(readings.series) if series in refused}
    if not codes:
        return upload
    rejected = upload.rejected.copy()
    for index, code in zip(readings.indexes, readings.codes, strict=True):
        if code in codes:
            rejected.add(index, *refused[codes[code]], metric=codes[code][1])
    return msgspec.structs.replace(upload, readings=readings.without({*codes.values()}), rejected=rejected)


def reject_new_sensors(upload: Upload, names: set[SensorName]) -> Upload:
    """Return the upload without the readings of these sensors, which are too many for its key."""
    return reject_sensors(upload, {name: _too_many_sensors(name, upload.api_key.label) for name in names})


def _too_many_sensors(name: SensorName, label: str) -> Refusal:
    return "too_many_sensors", (
        f"sensor {name!r} is new, and the key {label!r} has brought as many sensors as it may; raise its limit, or "
        "stop whatever invents new names"
    )
