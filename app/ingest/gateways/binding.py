"""Uploads of bound keys: they count as sent by the key's gateway, and reach only sensors that the key may write to."""

from collections.abc import Mapping

import msgspec

from app.auth.keys import ApiKey, Binding
from app.globs import compile_glob
from app.ingest.checks import Refusal
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.upload import Upload
from app.model import SensorName
from app.names import SENSOR_NAME_LIMIT, show, tidy_name


def bind(upload: Upload, binding: Binding) -> Upload:
    """Return an upload as sent by the key's gateway: with the prefix, without the sensors that it may not write to.

    The name of the gateway in the body does not count.
    """
    readings = upload.readings
    if binding.prefix:
        readings = _put_before(binding.prefix, readings)
    sensors = {sensor for sensor, _ in readings.series}
    refused = {sensor: refusal for sensor in sensors if (refusal := _refuse(sensor, upload.api_key, binding))}
    bound = msgspec.structs.replace(upload, readings=readings, gateway=binding.gateway)
    return reject_sensors(bound, refused)


def reject_sensors(upload: Upload, refused: Mapping[SensorName, Refusal]) -> Upload:
    """Return the upload without the readings of the refused sensors, which it rejects."""
    readings = upload.readings
    series = {series for series in readings.series if series[0] in refused}
    if not series:
        return upload
    rejected = upload.rejected.copy()
    rows = zip(readings.indexes, readings.codes, strict=True)
    for index, sensor in dict.fromkeys((index, readings.series[code][0]) for index, code in rows):
        if sensor in refused:
            rejected.add(index, *refused[sensor])
    return msgspec.structs.replace(upload, readings=readings.without(series), rejected=rejected)


def _put_before(prefix: str, readings: Readings) -> Readings:
    return msgspec.structs.replace(
        readings,
        series=[(tidy_name(prefix + sensor), metric) for sensor, metric in readings.series],
        described=[
            msgspec.structs.replace(each, sensor=tidy_name(prefix + each.sensor)) for each in readings.described
        ],
    )


def _refuse(sensor: SensorName, api_key: ApiKey, binding: Binding) -> Refusal | None:
    if len(sensor) > SENSOR_NAME_LIMIT:
        return "sensor_invalid", (
            f"sensor is {show(sensor)}, which has more than {SENSOR_NAME_LIMIT} characters with the prefix "
            f"{binding.prefix!r} of the key {api_key.label!r}; send a shorter name"
        )
    if binding.sensors is None or compile_glob(binding.sensors)(sensor):
        return None
    return "sensor_not_allowed", (
        f"sensor is {sensor!r}, and the key {api_key.label!r} may write to {binding.sensors!r} alone; correct the "
        "name, or make a key for this sensor"
    )
