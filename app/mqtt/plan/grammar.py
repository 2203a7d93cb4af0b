"""The grammar of the bridge's file: the keys of each mapping, the values that they accept, and their descriptions."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.hints import shown
from app.mqtt.messages.topics import parse_pattern
from app.yaml_files.kinds import Kind, Leaf
from app.yaml_files.leaves import NUMBER, POSITIVE_DURATION, TEXT_SCHEMA, TIME_ZONE, VERSION, one_of, parse_text
from app.yaml_files.lists import ListOf
from app.yaml_files.mappings import Field, Fields, MapOf
from app.yaml_files.nodes import ScalarNode

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


def _text(scalar: ScalarNode) -> str:
    text = parse_text(scalar)
    if "${" in text:
        raise ValueError("variables of the environment are not filled in here; write the text itself")
    return text


def _topic(scalar: ScalarNode) -> Any:
    return parse_pattern(parse_text(scalar))


def _address(scalar: ScalarNode) -> tuple[bool, str, int]:
    text = parse_text(scalar)
    try:
        address = urlsplit(text)
        port = address.port or DEFAULT_PORTS.get(address.scheme, 0)
    except ValueError:
        address, port = urlsplit(""), 0
    if address.scheme not in DEFAULT_PORTS or not address.hostname or address.path not in ("", "/"):
        raise ValueError(f"{shown(text)} is not the address of a broker; write mqtt://HOST:1883, or mqtts:// for TLS")
    if address.username or address.password:
        raise ValueError("a file holds no secrets; set MQTT_USERNAME and MQTT_PASSWORD in the environment")
    return address.scheme == "mqtts", address.hostname, port


def _in_flight(scalar: ScalarNode) -> int:
    if not scalar.text.isascii() or not scalar.text.isdecimal() or not 1 <= int(scalar.text[:9]) <= 65_535:
        raise ValueError(f"{shown(scalar.text)} is not a whole number from 1 to 65535")
    return int(scalar.text)


def _file(scalar: ScalarNode) -> Path:
    return Path(parse_text(scalar))


def _word(scalar: ScalarNode) -> str:
    return scalar.text


_TOPIC: Kind = Leaf('a topic in quotes, such as "tele/{sensor}/SENSOR"', _topic, TEXT_SCHEMA)
_ADDRESS: Kind = Leaf(
    "an address, such as mqtt://localhost:1883", _address, {"type": "string", "pattern": "^mqtts?://"}
)
_IN_FLIGHT: Kind = Leaf(
    "a whole number, such as 1000", _in_flight, {"type": "integer", "minimum": 1, "maximum": 65_535}
)
_FILE: Kind = Leaf("the path of a file", _file, TEXT_SCHEMA)
_NAME: Kind = Leaf('text, such as "{room}-{sensor}"', parse_text, TEXT_SCHEMA)
_TEXT: Kind = Leaf('text, such as "tidegauge"', _text, TEXT_SCHEMA)
_UNIT: Kind = Leaf('text, such as "°C"', _word, {"type": "string"})
_GLOBS = ListOf(_TEXT, 'a list of names in the payload, such as ["*.Temperature"]', unique=True, least=1)

_BROKER = Fields(
    "broker",
    "{address: mqtt://localhost:1883}",
    {
        "address": Field(_ADDRESS, "the broker's address; mqtts:// is with TLS", required=True),
        "client_id": Field(_TEXT, "the name of the bridge's session at the broker; left out: tidegauge"),
        "protocol": Field(one_of(("5", "3.1.1")), "the version of MQTT; left out: 5"),
        "session": Field(
            POSITIVE_DURATION, "how long the broker keeps messages for a bridge that is away; left out: 7d"
        ),
        "in_flight": Field(_IN_FLIGHT, "how many messages may wait for an acknowledgement; left out: 1000"),
        "ca": Field(_FILE, "certificates that are trusted; left out: those of the system"),
        "certificate": Field(_FILE, "the bridge's own certificate"),
        "key": Field(_FILE, "the key of that certificate; left out: it is in the same file"),
    },
)
_ROUTE = Fields(
    "topic",
    '{topic: "tele/{sensor}/SENSOR"}',
    {
        "topic": Field(
            _TOPIC, "the topics that it takes; the first topic of the file that matches is used", required=True
        ),
        "payload": Field(one_of(("json", "plain", "ignore")), "what the payload is; left out: json"),
        "sensor": Field(_NAME, "the sensor's name; left out: {sensor}"),
        "metric": Field(_NAME, "the metric of a plain payload, before the names in a JSON payload; left out: {metric}"),
        "values": Field(_GLOBS, "the names in a JSON payload that are stored; left out: all that are numbers"),
        "except": Field(_GLOBS, "the names in a JSON payload that are not stored"),
        "rename": Field(
            MapOf(_TEXT, "a mapping, such as {AM2301.Temperature: temperature}"), "metrics by names in a JSON payload"
        ),
        "words": Field(MapOf(NUMBER, "a mapping, such as {ON: 1, OFF: 0}"), "numbers that texts stand for"),
        "units": Field(MapOf(_UNIT, 'a mapping, such as {temperature: "°C"}'), "units by metric"),
        "time": Field(_TEXT, "the name of the time in a JSON payload; left out: the time of receipt counts"),
        "timezone": Field(TIME_ZONE, "the zone of times that name none"),
    },
)
FILE = Fields(
    "mqtt",
    "{version: 1, broker: {…}, topics: […]}",
    {
        "version": Field(VERSION, "the version of this file's form, always 1", required=True),
        "broker": Field(_BROKER, "the broker", required=True),
        "gateway": Field(_TEXT, "the gateway's name in the uploads; left out: none"),
        "topics": Field(ListOf(_ROUTE, "a list of topics", least=1), "the topics", required=True),
    },
)
