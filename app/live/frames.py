"""One feed row as the frames that clients get: each form is encoded at most once, whatever the number of clients."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeVar

import msgspec
import structlog

from app.live.protocol import Cursor, Filter
from app.model import FeedReading, LegacyRecord

T = TypeVar("T")
log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class _Parts(msgspec.Struct, frozen=True):
    """The payload of a row of kind `readings`, its parts still encoded."""

    #: Raw takes the place of what is left out, too: msgspec reads `Raw | None` as None alone.
    readings: msgspec.Raw = msgspec.Raw(b"[]")
    truncated: msgspec.Raw = msgspec.Raw()
    legacy: msgspec.Raw = msgspec.Raw(b"[]")


_split = msgspec.json.Decoder(_Parts).decode
_decode_readings = msgspec.json.Decoder(list[FeedReading]).decode
_decode_legacy = msgspec.json.Decoder(list[LegacyRecord]).decode


class Frame:
    """A row of the feed, in the forms that its readers want."""

    def __init__(
        self, cursor: Cursor, kind: Literal["readings", "alert"], payload: bytes, at: datetime | None = None
    ) -> None:
        self.cursor = cursor
        self.kind = kind
        self.at = at
        self._payload = payload
        self._filtered: dict[Any, str | None] = {}

    def text_for(self, wanted: Filter, alerts: bool) -> str | None:
        """Give the message for a client, or None where nothing in it is wanted."""
        if self.kind == "alert":
            return self._alert if alerts else None
        if wanted.takes_all:
            return self._whole
        if wanted.key not in self._filtered:
            self._filtered[wanted.key] = self._filter(wanted)
        return self._filtered[wanted.key]

    @cached_property
    def readings(self) -> list[FeedReading]:
        """The readings, decoded once for all clients that take less than everything."""
        return self._read(_decode_readings, self._parts.readings) or []

    @cached_property
    def legacy_records(self) -> list[LegacyRecord]:
        """The readings that carry temperature, humidity and pressure, for clients of the replaced server."""
        return self._read(_decode_legacy, self._parts.legacy) or []

    @cached_property
    def _parts(self) -> _Parts:
        return self._read(_split, self._payload) or _Parts()

    def _read(self, decode: Callable[[bytes], T], encoded: bytes) -> T | None:
        """Decode, or leave out what cannot be: one row that another version wrote must not hold up the feed."""
        try:
            return decode(encoded)
        except msgspec.MsgspecError as error:
            log.error("frame_not_readable", seq=self.cursor.seq, error=str(error))
            return None

    @cached_property
    def _whole(self) -> str:
        return self._assemble(bytes(self._parts.readings))

    @cached_property
    def _alert(self) -> str:
        return f'{{"type":"alert","cursor":"{self.cursor}",{self._payload.decode()[1:]}'

    def _filter(self, wanted: Filter) -> str | None:
        readings = [
            FeedReading(reading.sensor, reading.time, values)
            for reading in self.readings
            if (values := wanted.select(reading.sensor, reading.values))
        ]
        return self._assemble(_encode(readings)) if readings or bytes(self._parts.truncated) else None

    def _assemble(self, readings: bytes) -> str:
        truncated = bytes(self._parts.truncated)
        truncated = b',"truncated":' + truncated if truncated else b""
        head = f'{{"type":"readings","cursor":"{self.cursor}","readings":'.encode()
        return (head + readings + truncated + b"}").decode()
