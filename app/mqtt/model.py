"""The data of the bridge: its file of routes, and messages."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from app.mqtt.messages.topics import Pattern, widest

Protocol = Literal["5", "3.1.1"]
PayloadKind = Literal["json", "plain", "ignore"]


class MqttBroker(msgspec.Struct, frozen=True, kw_only=True):
    """The broker, and how the bridge presents itself to it."""

    host: str = "localhost"
    port: int = 1883
    has_tls: bool = False
    client_id: str = "tidegauge"
    protocol: Protocol = "5"
    #: Time in seconds for which the broker keeps messages for a bridge that is away; version 5 only.
    session_s: int = 7 * 86_400
    #: Number of messages that the broker may send before it waits for an acknowledgement; version 5 only.
    in_flight: int = 1_000
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class TopicRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Selects messages by their topic, and describes how they become readings."""

    pattern: Pattern
    payload: PayloadKind = "json"
    #: Templates of the sensor's name and of the metric's, with the names of the pattern's levels in braces.
    sensor: str = "{sensor}"
    metric: str | None = None
    #: Globs of the names in a JSON payload that are taken (empty: all), and of those that are not taken.
    values: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    #: Metrics by names in a JSON payload; the others keep theirs.
    rename: dict[str, str] = {}
    #: Numbers that texts stand for.
    words: dict[str, float] = {}
    #: Units by metric.
    units: dict[str, str] = {}
    #: Name of the time of measurement in a JSON payload.
    time: str | None = None
    #: The zone of times without a zone.
    timezone: str | None = None


class BridgePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a file of the bridge."""

    broker: MqttBroker
    routes: tuple[TopicRoute, ...]
    #: The name under which the readings are uploaded.
    gateway: str | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """Return the filters of the subscriptions."""
        return widest(route.pattern.filter for route in self.routes if route.payload != "ignore")


class MqttMessage(msgspec.Struct, frozen=True, gc=False):
    """A message as the broker delivered it."""

    topic: str
    payload: bytes
    received_us: int
    qos: int = 1
    #: Identifies a message of QoS 1 in its acknowledgement, and when it is delivered again.
    packet_id: int = 0
    #: The broker has delivered it before, and has no acknowledgement.
    is_repeated: bool = False
    #: The broker kept it from before the subscription; its age is unknown.
    is_retained: bool = False
    #: Number of the connection that delivered it; only there can it be acknowledged.
    connection: int = 0


class Draft(msgspec.Struct, omit_defaults=True, gc=False):
    """A reading as it is uploaded; without a time until the bridge gives it that of its receipt."""

    sensor: str
    values: Any
    time: str | None = None
    tags: dict[str, str] | None = None
    units: dict[str, str] | None = None
