"""Reading of the bridge's file; all its problems are reported together, each with its line and column."""

from pathlib import Path
from typing import Any

from app.clock import SECOND_US
from app.hints import did_you_mean, listed
from app.mqtt.messages.topics import covers, overlap, placeholders
from app.mqtt.model import BridgePlan, MqttBroker, TopicRoute
from app.mqtt.plan.grammar import FILE
from app.yaml_files.kinds import UNFIT, read_logged
from app.yaml_files.mappings import Given
from app.yaml_files.nodes import compose
from app.yaml_files.problems import FileErrors, ProblemLog
from app.yaml_files.texts import read_text

_FIELDS = {"except": "without", "topic": "pattern"}


def load_plan(file: Path) -> BridgePlan:
    """Read a file; raise FileErrors with every problem in it."""
    log = ProblemLog()
    text = read_text(file, log)
    if text is None:
        raise FileErrors(log.problems)
    return parse_plan(text, str(file), file.parent)


def parse_plan(text: str, name: str, folder: Path = Path()) -> BridgePlan:
    """Return the plan in the text of a file, whose paths are relative to a folder; raise FileErrors."""
    log = ProblemLog()
    root = compose(text, name)
    given: Given = read_logged(FILE, root, "this file", log)
    if given is UNFIT:
        raise FileErrors(log.problems)
    topics: tuple[Given, ...] = given.get("topics", ())
    routes = tuple(route for topic in topics if (route := _read_route(topic, log)) is not None)
    _check_overlaps(topics, log)
    broker = _read_broker(given.get("broker", Given(given.place)), folder)
    if log.problems:
        raise FileErrors(log.problems)
    return BridgePlan(broker=broker, routes=routes, gateway=given.get("gateway"))


def _read_broker(given: Given, folder: Path) -> MqttBroker:
    has_tls, host, port = given.get("address", (False, "", 0))
    files = {name: folder / path for name in ("ca", "certificate", "key") if (path := given.get(name)) is not None}
    others: dict[str, Any] = {
        name: given.values[name] for name in ("client_id", "protocol", "in_flight") if name in given.values
    }
    if "session" in given.values:
        others["session_s"] = max(given.values["session"] // SECOND_US, 1)
    return MqttBroker(host=host, port=port, has_tls=has_tls, **files, **others)


def _read_route(given: Given, log: ProblemLog) -> TopicRoute | None:
    if "topic" not in given.values:
        return None
    values = {_FIELDS.get(name, name): value for name, value in given.values.items()}
    for name in ("rename", "words", "units"):
        if name in values:
            values[name] = dict(values[name].values)
    names = values["pattern"].names
    if "metric" in names:
        values.setdefault("metric", "{metric}")
    route = TopicRoute(**values)
    if route.payload != "ignore":
        _check_names(route, given, log)
        _check_payload(route, given, log)
    return route


def _check_names(route: TopicRoute, given: Given, log: ProblemLog) -> None:
    """Log each name that the topic does not have, and a missing sensor or metric."""
    for key, template in (("sensor", route.sensor), ("metric", route.metric or "")):
        for name in placeholders(template):
            if name in route.pattern.names:
                continue
            if key in given.places:
                accepted = listed(route.pattern.names) if route.pattern.names else "none"
                meant = did_you_mean(name, route.pattern.names)
                log.add(given.places[key], f'"{key}": the topic has no level {{{name}}}{meant} (it has: {accepted})')
            else:
                log.add(given.place, 'which sensor? Name a level of the topic {sensor}, or give its name by "sensor"')
    if route.payload == "plain" and route.metric is None and given.lacks("metric"):
        log.add(given.place, 'which metric? Name a level of the topic {metric}, or give its name by "metric"')


def _check_payload(route: TopicRoute, given: Given, log: ProblemLog) -> None:
    if route.payload == "plain":
        for key in ("values", "except", "rename", "time", "timezone"):
            if key in given.places:
                log.add(given.places[key], f'"{key}" is for JSON; a plain payload is one number')
    elif "timezone" in given.places and given.lacks("time"):
        log.add(given.places["timezone"], '"timezone" is the zone of the times in "time", which is missing')


def _check_overlaps(topics: tuple[Given, ...], log: ProblemLog) -> None:
    """Log each topic that can never be reached, and each two that overlap although neither covers the other.

    A broker may deliver a message once for each subscription that matches it, which would be two readings.
    """
    seen: list[Given] = []
    for given in (topic for topic in topics if "topic" in topic.values):
        own = given.values["topic"]
        for earlier in seen:
            before = earlier.values["topic"]
            if covers(before.filter, own.filter):
                log.add(given.places["topic"], f'this is never used: "{before.text}" before it takes the same topics')
            elif "ignore" in (given.get("payload"), earlier.get("payload")):
                continue  # what is ignored is not subscribed to
            elif not covers(own.filter, before.filter) and overlap(own.filter, before.filter):
                log.add(
                    given.places["topic"],
                    f'some topics match both "{own.text}" and "{before.text}", and a broker may deliver them twice; '
                    "write one pattern that takes both, or two that differ in a level",
                )
        seen.append(given)
