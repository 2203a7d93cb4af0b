"""One feed row as the frames that clients get: each form is encoded at most once, whatever the number of clients."""

from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec

from app.live.protocol import Cursor, Filter, WireReading
from app.model import LegacyRecord

_encode = msgspec.json.Encoder().encode


class _Parts(msgspec.Struct, frozen=True):
    """The payload of a row of kind `readings`, its parts still encoded."""

    readings: msgspec.Raw
    truncated: msgspec.Raw | None = None
    legacy: msgspec.Raw | None = None


_split = msgspec.json.Decoder(_Parts).decode
_decode_readings = msgspec.json.Decoder(list[WireReading]).decode
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
    def readings(self) -> list[WireReading]:
        """The readings, decoded once for all clients that take less than everything."""
        return _decode_readings(self._parts.readings)

    @cached_property
    def legacy_records(self) -> list[LegacyRecord]:
        """The readings that carry temperature, humidity and pressure, for clients of the replaced server."""
        if self.kind != "readings" or self._parts.legacy is None:
            return []
        return _decode_legacy(self._parts.legacy)

    @cached_property
    def _parts(self) -> _Parts:
        return _split(self._payload)

    @cached_property
    def _whole(self) -> str:
        return self._assemble(bytes(self._parts.readings))

    @cached_property
    def _alert(self) -> str:
        return f'{{"type":"alert","cursor":"{self.cursor}",{self._payload.decode()[1:]}'

    def _filter(self, wanted: Filter) -> str | None:
        readings = [
            WireReading(reading.sensor, reading.time, values)
            for reading in self.readings
            if (values := wanted.select(reading.sensor, reading.values))
        ]
        return self._assemble(_encode(readings)) if readings or self._parts.truncated else None

    def _assemble(self, readings: bytes) -> str:
        truncated = b',"truncated":' + bytes(self._parts.truncated) if self._parts.truncated else b""
        head = f'{{"type":"readings","cursor":"{self.cursor}","readings":'.encode()
        return (head + readings + truncated + b"}").decode()
