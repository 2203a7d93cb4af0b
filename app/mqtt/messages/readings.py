"""Conversion of a message to a reading, or to the reason for having none."""

from collections.abc import Sequence
from typing import Literal

from app.mqtt.messages.payloads import PayloadError, Values, read_json, read_plain, units_of
from app.mqtt.messages.topics import fill_in
from app.mqtt.model import Draft, MqttMessage, TopicRoute

#: Reasons for which a message becomes no reading: no route takes it, its route ignores it, it has no number, or the
#: broker had retained it and it has no time, so that the time of measurement is unknown.
NoReading = Literal["unmatched", "ignored", "empty", "retained"]


def read_message(message: MqttMessage, routes: Sequence[TopicRoute]) -> Draft | NoReading:
    """Return the reading that the first route that matches makes of a message; without a time if it has none."""
    for route in routes:
        names = route.pattern.match(message.topic)
        if names is not None:
            return "ignored" if route.payload == "ignore" else _read(message, route, names)
    return "unmatched"


def _read(message: MqttMessage, route: TopicRoute, names: dict[str, str]) -> Draft | NoReading:
    metric = None if route.metric is None else fill_in(route.metric, names)
    time: str | None = None
    values: Values | str
    try:
        if route.payload == "plain":
            values = read_plain(route, message.payload, metric)
        else:
            values, time = read_json(route, message.payload, metric)
    except PayloadError as error:
        # The server refuses a text in place of values and shows it, so that all refusals are in one place.
        values = str(error)
    if not values:
        return "empty"
    if message.is_retained and time is None:
        return "retained"
    tags = {name: text for name, text in names.items() if name not in ("sensor", "metric")}
    units = None if isinstance(values, str) else units_of(route, values)
    return Draft(fill_in(route.sensor, names), values, time, tags or None, units)
