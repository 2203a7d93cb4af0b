"""The protocol of /ws/live: messages, cursors, filters and close codes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal, Self

import msgspec
import structlog
from asyncpg import Record

from app.errors import InvalidRequestError
from app.globs import compile_glob
from app.hints import find_meant, shown
from app.model import FeedReading, MetricName, SensorName
from app.names import tidy_name
from app.parameters import check_text
from app.rule_texts import fill_in_message

PATTERNS_LIMIT = 100
#: A connection is closed after this many bad messages within a minute.
BAD_MESSAGES_LIMIT = 20
#: A sensor's state, and the level of its worst open alert.
SensorStatus = tuple[str, str | None]
RETIRED: SensorStatus = ("retired", None)
_encode = msgspec.json.Encoder().encode


class CloseCode(IntEnum):
    """Reasons to close a connection. 4400 to 4403 are final; after any other code the client should reconnect.

    A client of the replaced sensor server that is too slow gets TRY_AGAIN_LATER, which it knows.
    """

    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    #: The client fell too far behind; the reason is the cursor to resume from.
    TOO_SLOW = 4408
    TOO_MANY_CONNECTIONS = 4429
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013


class Auth(msgspec.Struct, tag="auth", frozen=True, forbid_unknown_fields=True):
    """The first message of a client that sent no key in its headers."""

    key: str


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True, forbid_unknown_fields=True):
    """A client's subscription; `sensors` and `metrics` are patterns with * and ?."""

    sensors: tuple[str, ...] = ("*",)
    metrics: tuple[str, ...] = ("*",)
    mode: Literal["all", "latest"] = "all"
    alerts: bool = False
    #: The last cursor of an earlier connection, to receive what was missed since.
    resume: str | None = None
    #: Tags that a sensor must have, by name; values are globs.
    tags: dict[str, str] = {}
    #: A glob for the gateway that sends a sensor's readings.
    gateway: str | None = None
    #: Also send changes of sensors' states.
    states: bool = False


class Ping(msgspec.Struct, tag="ping", frozen=True):
    """A message that is answered by a pong, for clients whose library hides the pings of the WebSocket protocol."""


ClientMessage = Auth | Subscribe | Ping
_decode = msgspec.json.Decoder(ClientMessage).decode
_KINDS: dict[str, type[Auth | Subscribe | Ping]] = {"auth": Auth, "subscribe": Subscribe, "ping": Ping}
#: What others call the fields, in lower case without separators.
_OTHER_NAMES = {
    **dict.fromkeys(("device", "devices", "topics", "names"), "sensors"),
    **dict.fromkeys(("cursor", "since", "from", "after"), "resume"),
    **dict.fromkeys(("token", "apikey", "password"), "key"),
    **dict.fromkeys(("labels",), "tags"),
}
#: Names of unknown fields that were logged, at most _REMEMBERED.
_logged: set[str] = set()
_REMEMBERED = 1_000
log = structlog.get_logger()


def parse_message(text: str | bytes) -> ClientMessage:
    """Parse a client's message; raise InvalidRequestError."""
    try:
        try:
            message: ClientMessage = _decode(text)
        except msgspec.ValidationError:
            message = msgspec.convert(_without_unknown(msgspec.json.decode(text)), ClientMessage)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequestError(f"Send an auth, a subscribe or a ping message: {error}") from None
    if not isinstance(message, Subscribe):
        return message
    _check_patterns(message)
    return msgspec.structs.replace(
        message,
        sensors=tuple(map(tidy_name, message.sensors)),
        metrics=tuple(map(tidy_name, message.metrics)),
        gateway=None if message.gateway is None else tidy_name(message.gateway),
    )


def _without_unknown(message: Any) -> Any:
    """Return a message without the fields that its type does not have; raise InvalidRequestError for a misspelt one."""
    told = message.get("type") if isinstance(message, dict) else None
    kind = _KINDS.get(told) if isinstance(told, str) else None
    if kind is None:
        return message
    known = ("type", *kind.__struct_fields__)
    for name in message.keys() - {*known}:
        meant = find_meant(name, known, _OTHER_NAMES)
        if meant is not None and meant not in message:
            raise InvalidRequestError(f"The message has the field {shown(name)}; did you mean {meant}?")
        if shown(name) not in _logged and len(_logged) < _REMEMBERED:
            _logged.add(shown(name))
            log.warning("unknown_message_fields_ignored", field=shown(name))
    return {name: value for name, value in message.items() if name in known}


def _check_patterns(asked: Subscribe) -> None:
    """Raise InvalidRequestError for too many patterns, or for one that is too long or cannot be a name."""
    if max(len(asked.sensors), len(asked.metrics), len(asked.tags)) > PATTERNS_LIMIT:
        raise InvalidRequestError(f"Send at most {PATTERNS_LIMIT} patterns each for sensors, metrics and tags")
    texts = {
        "a pattern of sensors": asked.sensors,
        "a pattern of metrics": asked.metrics,
        "the name of a tag": asked.tags,
        "a pattern of tags": asked.tags.values(),
        "gateway": () if asked.gateway is None else (asked.gateway,),
        "resume": () if asked.resume is None else (asked.resume,),
    }
    for name, of_name in texts.items():
        for text in of_name:
            check_text(name, text)


class Cursor(msgspec.Struct, frozen=True):
    """A position in the feed of one database; opaque to clients."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"

    def before(self) -> Self:
        """Return the position just before this one; there need not be a row at it."""
        return type(self)(self.epoch, self.seq - 1)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a cursor that a client kept; return None for a text that is not a cursor."""
        epoch, dot, seq = text.rpartition(".")
        return cls(epoch, int(seq)) if dot and seq.isascii() and seq.isdigit() and len(seq) < 19 else None


class Labelled(msgspec.Struct, frozen=True):
    """The part of a filter that needs more than the names in readings."""

    #: Names of the sensors whose tags and gateway match; None if the client asks for neither.
    fitting: frozenset[SensorName] | None = None
    #: Names of the sensors that had a wanted name before.
    renamed: frozenset[SensorName] = frozenset()


class Filter:
    """The sensors and metrics that a client wants; results are cached by name."""

    def __init__(
        self,
        sensors: Iterable[str],
        metrics: Iterable[str],
        tags: Mapping[str, str] | None = None,
        gateway: str | None = None,
    ) -> None:
        self._patterns = (tuple(sorted(set(sensors))), tuple(sorted(set(metrics))))
        self._sensors = _NameFilter(self._patterns[0])
        self._metrics = _NameFilter(self._patterns[1])
        self._tags = {tag: compile_glob(pattern) for tag, pattern in (tags or {}).items()}
        self._gateway = None if gateway is None else compile_glob(gateway)
        #: Whether the client asks for tags or a gateway.
        self.wants_labels = bool(tags) or gateway is not None
        #: The same for two filters that ask for the same sensors, tags and gateway.
        self.label_key = (self._patterns[0], tuple(sorted((tags or {}).items())), gateway)
        #: What the client wants by tags, gateway and old names; kept by Labels.
        self.labelled = Labelled(frozenset() if self.wants_labels else None)
        #: Whether the names in readings are not enough to decide what the client wants.
        self.needs_labels = self.wants_labels or not self._sensors.takes_all
        #: Whether the client wants every sensor and metric.
        self.takes_all = self._metrics.takes_all and not self.needs_labels

    @property
    def key(self) -> object:
        """The same for two filters that select the same."""
        return self._patterns, self.labelled

    def select_labelled(self, labels: Iterable[Record], renamed: Iterable[Record]) -> Labelled:
        """Return the sensors that the client wants by their tags, gateways and old names."""
        fitting = (row["name"] for row in labels if self._labels_fit(row["tags"], row["gateway"]))
        by_old_name = (row["name"] for row in renamed if self._sensors[row["old_name"]])
        return Labelled(frozenset(fitting) if self.wants_labels else None, frozenset(by_old_name))

    def takes(self, sensor: SensorName) -> bool:
        """Return whether the client wants a sensor; a pattern matches its present name or an old one."""
        labelled = self.labelled
        return (self._sensors[sensor] or sensor in labelled.renamed) and (
            labelled.fitting is None or sensor in labelled.fitting
        )

    def select(self, sensor: SensorName, values: Mapping[MetricName, Any]) -> dict[MetricName, Any]:
        """Return those of a sensor's values that the client wants."""
        if not self.takes(sensor):
            return {}
        return {metric: value for metric, value in values.items() if self._metrics[metric]}

    def _labels_fit(self, tags: Mapping[str, str], gateway: str | None) -> bool:
        gateway_fits = self._gateway is None or self._gateway(gateway or "")
        return gateway_fits and all(tag in tags and fits(tags[tag]) for tag, fits in self._tags.items())


class _NameFilter(dict[str, bool]):
    """A cache of which names match; it is emptied when it reaches 100,000 names."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.takes_all = "*" in patterns
        self._tests = tuple(map(compile_glob, patterns))

    def __missing__(self, name: str) -> bool:
        if len(self) >= 100_000:
            self.clear()
        self[name] = any(test(name) for test in self._tests)
        return self[name]


class Snapshot(msgspec.Struct, frozen=True):
    """The rows of a snapshot: latest values, open alerts, sensors in use, problems of the rule files."""

    latest: Sequence[Record]
    alerts: Sequence[Record]
    sensors: Sequence[Record]
    problems: Sequence[str]


def snapshot_message(cursor: Cursor, snapshot: Snapshot, wanted: Filter) -> bytes:
    """Return the snapshot message for a filter; values of one sensor and time are one reading."""
    readings: list[dict[str, Any]] = []
    for row in snapshot.latest:
        if not wanted.select(row["name"], {row["metric"]: None}):
            continue
        time: datetime = row["last_time"]
        if not readings or (readings[-1]["sensor"], readings[-1]["time"]) != (row["name"], time):
            readings.append({"sensor": row["name"], "time": time, "values": {}})
        readings[-1]["values"][row["metric"]] = row["last_value"]
    message = {
        "type": "snapshot",
        "cursor": str(cursor),
        "readings": readings,
        "alerts": [fill_in_message(dict(row)) for row in snapshot.alerts],
        "sensors": [{**row, "units": row["units"] or {}} for row in snapshot.sensors if wanted.takes(row["name"])],
        "problems": snapshot.problems,
    }
    return _encode(message)


def heartbeat_message(at: datetime) -> bytes:
    """Return the heartbeat message; `at` is the server's time."""
    return _encode({"type": "heartbeat", "at": at})


def states_message(changed: Mapping[SensorName, SensorStatus]) -> bytes:
    """Return the message with the sensors whose state or alert level has changed."""
    sensors = [{"name": name, "state": state, "level": level} for name, (state, level) in changed.items()]
    return _encode({"type": "states", "sensors": sensors})


def readings_message(cursor: Cursor, readings: Iterable[FeedReading]) -> bytes:
    """Return a message with readings for a client in mode `latest`."""
    return _encode({"type": "readings", "cursor": str(cursor), "readings": list(readings)})


def error_message(message: str) -> bytes:
    """Return the answer to a bad message of a client."""
    return _encode({"type": "error", "message": message})


RESYNC = b'{"type":"resync"}'
PONG = b'{"type":"pong"}'
