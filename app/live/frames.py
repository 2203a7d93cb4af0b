"""The messages that clients receive for one feed row; each form is encoded and framed once, for all clients."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import structlog

from app.live.protocol import Cursor, Filter
from app.live.wire import frame_text
from app.model import FeedReading, LegacyRecord

T = TypeVar("T")
log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class _Parts(msgspec.Struct, frozen=True):
    """The payload of a row of kind `readings`; its parts stay encoded."""

    #: An empty Raw stands for a missing part, because msgspec reads the type `Raw | None` as None alone.
    readings: msgspec.Raw = msgspec.Raw(b"[]")
    truncated: msgspec.Raw = msgspec.Raw()
    legacy: msgspec.Raw = msgspec.Raw(b"[]")


_split = msgspec.json.Decoder(_Parts).decode
_decode_readings = msgspec.json.Decoder(list[FeedReading]).decode
_decode_legacy = msgspec.json.Decoder(list[LegacyRecord]).decode


class FramedMessage:
    """A framed message, shared by all clients that receive it."""

    __slots__ = ("clients", "framed")

    def __init__(self, text: bytes) -> None:
        self.framed = frame_text(text)
        #: Number of clients for which it waits.
        self.clients = 0

    def __len__(self) -> int:
        return len(self.framed)


class Frame:
    """A row of the feed, in the forms that different clients receive."""

    def __init__(
        self, cursor: Cursor, kind: Literal["readings", "alert"], payload: bytes, at: datetime | None = None
    ) -> None:
        self.cursor = cursor
        self.kind = kind
        self.at = at
        self._payload = payload
        self._legacy: dict[ZoneInfo, list[tuple[int, FramedMessage]]] = {}
        self._filtered: dict[Any, FramedMessage | None] = {}

    @property
    def payload_bytes(self) -> int:
        """Return the size of the row's payload."""
        return len(self._payload)

    def message_for(self, wanted: Filter, alerts: bool) -> FramedMessage | None:
        """Return the message for a client, or None when it holds nothing that the client wants."""
        if self.kind == "alert":
            return self._alert if alerts else None
        if wanted.takes_all:
            return self._whole
        if wanted.key not in self._filtered:
            self._filtered[wanted.key] = self._filter(wanted)
        return self._filtered[wanted.key]

    @cached_property
    def readings(self) -> list[FeedReading]:
        """Return the readings, decoded once for all clients with a filter or mode `latest`."""
        return self._read(_decode_readings, self._parts.readings) or []

    def legacy_messages(self, timezone: ZoneInfo) -> list[tuple[int, FramedMessage]]:
        """Return the readings with temperature, humidity and pressure, by id, as the replaced server sent them."""
        if timezone not in self._legacy:
            records = self._read(_decode_legacy, self._parts.legacy) or []
            self._legacy[timezone] = [(each.id, FramedMessage(_encode(each.as_sent(timezone)))) for each in records]
        return self._legacy[timezone]

    @cached_property
    def _parts(self) -> _Parts:
        return self._read(_split, self._payload) or _Parts()

    def _read(self, decode: Callable[[bytes], T], encoded: bytes) -> T | None:
        """Decode a part; log an undecodable one and return None: a row of another version must not stop the feed."""
        try:
            return decode(encoded)
        except msgspec.MsgspecError as error:
            log.error("frame_not_readable", seq=self.cursor.seq, error=str(error))
            return None

    @cached_property
    def _whole(self) -> FramedMessage:
        return self._assemble(bytes(self._parts.readings))

    @cached_property
    def _alert(self) -> FramedMessage:
        return FramedMessage(f'{{"type":"alert","cursor":"{self.cursor}",'.encode() + self._payload[1:])

    def _filter(self, wanted: Filter) -> FramedMessage | None:
        readings = [
            FeedReading(reading.sensor, reading.time, values)
            for reading in self.readings
            if (values := wanted.select(reading.sensor, reading.values))
        ]
        return self._assemble(_encode(readings)) if readings or bytes(self._parts.truncated) else None

    def _assemble(self, readings: bytes) -> FramedMessage:
        truncated = bytes(self._parts.truncated)
        truncated = b',"truncated":' + truncated if truncated else b""
        head = f'{{"type":"readings","cursor":"{self.cursor}","readings":'.encode()
        return FramedMessage(head + readings + truncated + b"}")
