"""What the bridge works with: its file of routes, and messages."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from app.mqtt.topics import Pattern, widest

Protocol = Literal["5", "3.1.1"]
PayloadKind = Literal["json", "plain", "ignore"]


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """The broker, and how the bridge presents itself to it."""

    host: str = "localhost"
    port: int = 1883
    has_tls: bool = False
    client_id: str = "tidegauge"
    protocol: Protocol = "5"
    #: How long the broker keeps messages for a bridge that is away, in seconds; of version 5 only.
    session_s: int = 7 * 86_400
    #: How many messages the broker may send before it waits for an acknowledgement; of version 5 only.
    in_flight: int = 1_000
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages it takes, by their topic, and what readings become of them."""

    pattern: Pattern
    payload: PayloadKind = "json"
    #: Templates of the sensor's name and of the metric's, with the names of the pattern's levels in braces.
    sensor: str = "{sensor}"
    metric: str | None = None
    #: Globs of the names in a JSON payload that are taken, none for all, and of those that are not.
    values: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    #: Metrics by names in a JSON payload; the others keep theirs.
    rename: dict[str, str] = {}
    #: Numbers that texts stand for.
    words: dict[str, float] = {}
    #: Units by metric.
    units: dict[str, str] = {}
    #: Where in a JSON payload the time of measurement is.
    time: str | None = None
    #: The zone of times that name none.
    timezone: str | None = None


class BridgePlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a file says."""

    broker: Broker
    routes: tuple[Route, ...]
    #: The name under which the readings are uploaded.
    gateway: str | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """Return what is subscribed to."""
        return widest(route.pattern.filter for route in self.routes if route.payload != "ignore")


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as the broker delivered it."""

    topic: str
    payload: bytes
    received_us: int
    qos: int = 1
    #: By which a message of QoS 1 is acknowledged, and known again when it is delivered again.
    packet_id: int = 0
    #: Delivered before, and not acknowledged since.
    is_repeated: bool = False
    #: Kept by the broker from before the subscription; nobody knows since when.
    is_retained: bool = False
    #: Which connection brought it; an acknowledgement counts on that connection alone.
    connection: int = 0


class Draft(msgspec.Struct, omit_defaults=True, gc=False):
    """A reading as it is uploaded; without a time until the bridge gives it that of its receipt."""

    sensor: str
    values: Any
    time: str | None = None
    tags: dict[str, str] | None = None
    units: dict[str, str] | None = None
