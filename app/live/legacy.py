"""The feed of the replaced sensor server: one JSON object for each record, in that server's format."""

import asyncio
from collections import deque
from collections.abc import Mapping
from zoneinfo import ZoneInfo

import msgspec

from app.db.pool import Pool
from app.live.frames import Frame
from app.live.hub import ClosedError, OnClose, Send
from app.live.protocol import CloseCode, SensorStatus
from app.live.sql import SQL
from app.metrics import Metrics
from app.model import LegacyRecord, SensorName

#: Most records that may wait for one client; beyond it, the connection is closed.
RECORDS_LIMIT = 20_000


class LegacyRecords:
    """A queue of the records in frames, for one client."""

    def __init__(self, timezone: ZoneInfo, on_close: OnClose, metrics: Metrics) -> None:
        self._timezone = timezone
        self._on_close = on_close
        self._metrics = metrics
        self._waiting: deque[LegacyRecord] = deque()
        self._ready = asyncio.Event()
        self._sent_first: int | None = None
        self._ended = False
        self.wants_states = False

    def offer(self, frame: Frame) -> None:
        """Queue the records of a frame; close the connection when more than RECORDS_LIMIT wait."""
        if self._ended:
            return
        self._waiting.extend(frame.legacy_records)
        self._ready.set()
        if len(self._waiting) > RECORDS_LIMIT:
            self._metrics.clients_dropped.inc()
            self.close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def send_heartbeat(self, message: str) -> None:
        """Send nothing: the replaced server has no heartbeats."""

    def change_states(self, changed: Mapping[SensorName, SensorStatus]) -> None:
        """Send nothing: the replaced server has no states."""

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection."""
        self._ended = True
        self._on_close(ClosedError(code, reason))

    async def send_last(self, pool: Pool, send: Send) -> None:
        """Send the newest stored record, which every client receives first; send nothing on an empty database."""
        row = await pool.fetchrow(SQL["get_last_legacy_reading"])
        if row is not None:
            record = LegacyRecord(**row)
            self._sent_first = record.id
            await send(self._encode(record))

    async def send_next(self, send: Send) -> None:
        """Wait for the next record and send it, unless `send_last` has sent it already."""
        while not self._waiting:
            await self._ready.wait()
            self._ready.clear()
        record = self._waiting.popleft()
        if record.id != self._sent_first:
            await send(self._encode(record))

    def _encode(self, record: LegacyRecord) -> str:
        return msgspec.json.encode(record.as_sent(self._timezone)).decode()
