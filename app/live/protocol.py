"""The protocol of /ws/live: messages, cursors, filters and close codes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, Literal, Self

import msgspec
from asyncpg import Record

from app.errors import InvalidRequestError
from app.globs import compile_glob
from app.model import FeedReading, MetricName, SensorName

PATTERNS_LIMIT = 100
_encode = msgspec.json.Encoder().encode


class CloseCode(IntEnum):
    """Why the server closes a connection. 4400 to 4403 are final; after any other code the client should reconnect."""

    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    #: The client fell too far behind; the reason is the cursor to resume from.
    TOO_SLOW = 4408
    TOO_MANY_CONNECTIONS = 4429
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013


class Auth(msgspec.Struct, tag="auth", frozen=True):
    """The first message of a client that sent no key in its headers."""

    key: str


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """A client's subscription; `sensors` and `metrics` are patterns with * and ?."""

    sensors: tuple[str, ...] = ("*",)
    metrics: tuple[str, ...] = ("*",)
    mode: Literal["all", "latest"] = "all"
    alerts: bool = False
    #: The last cursor of an earlier connection, to receive what was missed since.
    resume: str | None = None


_decode = msgspec.json.Decoder(Auth | Subscribe).decode


def parse_message(text: str | bytes) -> Auth | Subscribe:
    """Parse a client's message; raise InvalidRequestError."""
    try:
        message: Auth | Subscribe = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Send an auth or a subscribe message: {error}") from None
    if isinstance(message, Subscribe) and max(len(message.sensors), len(message.metrics)) > PATTERNS_LIMIT:
        raise InvalidRequestError(f"Send at most {PATTERNS_LIMIT} patterns for sensors and for metrics")
    return message


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


class Filter:
    """The sensors and metrics that a client wants; results are cached by name."""

    def __init__(self, sensors: Iterable[str], metrics: Iterable[str]) -> None:
        self.key = (tuple(sorted(set(sensors))), tuple(sorted(set(metrics))))
        self._sensors = _NameFilter(self.key[0])
        self._metrics = _NameFilter(self.key[1])
        self.takes_all = self._sensors.takes_all and self._metrics.takes_all

    def select(self, sensor: SensorName, values: Mapping[MetricName, Any]) -> dict[MetricName, Any]:
        """Return those of a sensor's values that the client wants."""
        if not self._sensors[sensor]:
            return {}
        return {metric: value for metric, value in values.items() if self._metrics[metric]}


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


def snapshot_message(cursor: Cursor, rows: Iterable[Record], wanted: Filter) -> str:
    """Return the message with the latest values of the wanted series; those of one sensor and time are one reading."""
    readings: list[dict[str, Any]] = []
    for row in rows:
        if not wanted.select(row["name"], {row["metric"]: None}):
            continue
        time: datetime = row["last_time"]
        if not readings or (readings[-1]["sensor"], readings[-1]["time"]) != (row["name"], time):
            readings.append({"sensor": row["name"], "time": time, "values": {}})
        readings[-1]["values"][row["metric"]] = row["last_value"]
    return _encode({"type": "snapshot", "cursor": str(cursor), "readings": readings}).decode()


def readings_message(cursor: Cursor, readings: Iterable[FeedReading]) -> str:
    """Return a message with readings for a client in mode `latest`."""
    return _encode({"type": "readings", "cursor": str(cursor), "readings": list(readings)}).decode()


def error_message(message: str) -> str:
    """Return the message that says what is wrong with a client's message; the connection is closed after it."""
    return _encode({"type": "error", "message": message}).decode()


RESYNC = '{"type":"resync"}'
