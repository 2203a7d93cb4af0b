"""The feed of the replaced sensor server: one JSON object for each record, in that server's format."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from app.db.pool import Pool
from app.live.frames import Frame, FramedMessage
from app.live.protocol import CloseCode
from app.live.queues.readings import QUEUE_BYTES
from app.live.queues.waiting import Backlog, OnClose, Queue
from app.live.sql import SQL
from app.live.wire import ClientWire
from app.metrics import Metrics
from app.model import LegacyRecord


class LegacyRecords(Queue[int]):
    """The records in frames, for one client; a client that falls QUEUE_BYTES behind is closed."""

    def __init__(
        self, timezone: ZoneInfo, wire: ClientWire, backlog: Backlog, on_close: OnClose, metrics: Metrics
    ) -> None:
        super().__init__(wire, backlog, on_close, metrics)
        self._timezone = timezone
        #: Until the last stored record is sent, new ones only wait.
        self._has_begun = False
        self._sent_first: int | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def begin(self, pool: Pool) -> None:
        """Send the newest stored record, if there is any, which every client receives first; then new records."""
        row = await pool.fetchrow(SQL["get_last_legacy_reading"])
        if row is not None:
            record = LegacyRecord(**row)
            self._sent_first = record.id
            self._waiting.remove(record.id)
            await self._wire.drained()
            self._wire.write([FramedMessage(msgspec.json.encode(record.as_sent(self._timezone))).framed])
        self._has_begun = True
        self.flush()

    def flush(self) -> None:
        """Write waiting records while the client keeps up, once `begin` is done."""
        if self._has_begun:
            super().flush()

    def offer(self, frame: Frame) -> None:
        """Queue the records of a frame, except the one that `begin` sent already."""
        if self._ended:
            return
        for record_id, message in frame.legacy_messages(self._timezone):
            if record_id != self._sent_first:
                self._waiting.put(record_id, message)
        if self._waiting.bytes > QUEUE_BYTES:
            self.drop()

    def drop(self) -> None:
        """Close the connection of a client that fell too far behind."""
        self._metrics.clients_dropped.inc()
        self.close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def _take(self) -> Sequence[bytes]:
        return self._waiting.take()[1]
