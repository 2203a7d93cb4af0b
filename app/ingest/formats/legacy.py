"""The replaced sensor server's format: one reading of temperature, humidity and pressure, at the time of receipt."""

from contextlib import suppress
from typing import Any

import msgspec

from app.ingest.checks import check_value, is_metric_name, is_sensor_name, refuse_sensor
from app.model import LEGACY_METRICS

Problems = list[dict[str, Any]]


def parse(body: bytes) -> tuple[Problems, str, dict[str, float]]:
    """Give the sensor and its values, or what is wrong in the shape that FastAPI gives it.

    Further numeric fields are stored as metrics of their own, as that server's firmware clients send them.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [_problem("json_invalid", [], f"JSON decode error: {error}")], "", {}
    if not isinstance(fields, dict):
        return [_problem("model_attributes_type", [], "Input should be a valid dictionary")], "", {}
    problems: Problems = []
    values = {metric: _read_number(fields, metric, problems) for metric in LEGACY_METRICS}
    sensor = _read_sensor(fields, problems)
    for name, value in fields.items():
        if name not in values and is_metric_name(name) and check_value(name, value) is None:
            values[name] = float(value)
    return problems, sensor, values


def _read_number(fields: dict[str, Any], name: str, problems: Problems) -> float:
    """Take a number, or a text that is one: the replaced server took both."""
    value: Any = fields.get(name)
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if name not in fields:
        problems.append(_problem("missing", [name], "Field required"))
    elif refusal := check_value(name, value):
        problems.append(_problem("float_type", [name], refusal[1]))
    else:
        return float(value)
    return 0.0


def _read_sensor(fields: dict[str, Any], problems: Problems) -> str:
    sensor = fields.get("sensor_id")
    if "sensor_id" not in fields:
        problems.append(_problem("missing", ["sensor_id"], "Field required"))
    elif not isinstance(sensor, str) or not is_sensor_name(sensor):
        problems.append(_problem("string_type", ["sensor_id"], refuse_sensor(sensor)[1]))
    return str(sensor)


def _problem(kind: str, place: list[str], message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["body", *place], "msg": message}
