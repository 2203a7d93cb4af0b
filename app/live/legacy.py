"""The feed of the replaced sensor server: one JSON object a record, as its clients know it."""

import asyncio
from collections import deque
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from app.db.pool import Pool
from app.db.queries import load_queries
from app.live.frames import Frame
from app.live.hub import ClosedError, OnClose, Send
from app.live.protocol import CloseCode
from app.metrics import Metrics
from app.model import LegacyRecord

#: Records that may wait for one client; beyond, it is closed.
RECORDS_LIMIT = 20_000
SQL = load_queries(Path(__file__).with_name("queries.sql"))


class LegacyRecords:
    """Takes the records out of frames and queues them for one client."""

    def __init__(self, timezone: ZoneInfo, on_close: OnClose, metrics: Metrics) -> None:
        self._timezone = timezone
        self._on_close = on_close
        self._metrics = metrics
        self._waiting: deque[str] = deque()
        self._ready = asyncio.Event()

    def offer(self, frame: Frame) -> None:
        """Queue a frame's records, or close the client that is too slow for them."""
        self._waiting.extend(_write(record, self._timezone) for record in frame.legacy_records)
        self._ready.set()
        if len(self._waiting) > RECORDS_LIMIT:
            self._metrics.clients_dropped.inc()
            self.close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection."""
        self._on_close(ClosedError(code, reason))

    async def send_next(self, send: Send) -> None:
        """Wait for the next record and send it."""
        while not self._waiting:
            await self._ready.wait()
            self._ready.clear()
        await send(self._waiting.popleft())


async def last_record(pool: Pool, timezone: ZoneInfo) -> str | None:
    """Write the newest record, which every client gets first; None on an empty database."""
    row = await pool.fetchrow(SQL["get_last_legacy_reading"])
    return None if row is None else _write(LegacyRecord(**row), timezone)


def _write(record: LegacyRecord, timezone: ZoneInfo) -> str:
    return msgspec.json.encode(record.as_sent(timezone)).decode()
