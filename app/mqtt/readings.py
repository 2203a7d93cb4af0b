"""From a message to the reading that is uploaded, or to the reason why there is none."""

from collections.abc import Sequence
from typing import Literal

from app.mqtt.model import Draft, Message, Route
from app.mqtt.payloads import PayloadError, Values, read_json, read_plain, units_of
from app.mqtt.topics import fill_in

#: Why a message becomes no reading: no route takes it, its route ignores it, it has no number, or it was kept by the
#: broker from before and says no time, so that nobody knows when its values were measured.
NoReading = Literal["unmatched", "ignored", "empty", "retained"]


def read_message(message: Message, routes: Sequence[Route]) -> Draft | NoReading:
    """Return the reading that the first route that matches makes of a message; without a time if it has none."""
    for route in routes:
        names = route.pattern.match(message.topic)
        if names is not None:
            return "ignored" if route.payload == "ignore" else _read(message, route, names)
    return "unmatched"


def _read(message: Message, route: Route, names: dict[str, str]) -> Draft | NoReading:
    metric = None if route.metric is None else fill_in(route.metric, names)
    time: str | None = None
    values: Values | str
    try:
        if route.payload == "plain":
            values = read_plain(route, message.payload, metric)
        else:
            values, time = read_json(route, message.payload, metric)
    except PayloadError as error:
        # The server refuses a text in place of values, by what it says; so all refusals are in one place.
        values = str(error)
    if not values:
        return "empty"
    if message.is_retained and time is None:
        return "retained"
    tags = {name: text for name, text in names.items() if name not in ("sensor", "metric")}
    units = None if isinstance(values, str) else units_of(route, values)
    return Draft(fill_in(route.sensor, names), values, time, tags or None, units)
