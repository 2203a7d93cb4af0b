"""The log lines of stored uploads."""

import asyncio
from contextvars import Context

import msgspec
import structlog

from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.upload import Upload

#: Number of uploads in a second that get a line of their own in the log. A line takes a fifth of the time of an upload
#: of one reading.
UPLOADS_LOGGED_PER_S = 50
log = structlog.get_logger()


class UploadLog:
    """Logs each upload; at a high rate, most of them together in one line a second."""

    def __init__(self) -> None:
        self._lines = 0
        self._together: _Together | None = None

    def note(self, upload: Upload, receipt: Receipt) -> None:
        """Log an upload that is stored, or count it for the line at the end of this second."""
        if not self._lines:
            # The line at the end belongs to no request, so it must not have the context of one.
            asyncio.get_running_loop().call_later(1.0, self._end_second, context=Context())
        self._lines += 1
        if self._lines > UPLOADS_LOGGED_PER_S:
            self._together = self._together or _Together()
            self._together.add(receipt)
            return
        log.info(
            "upload_stored",
            key=upload.api_key.label,
            gateway=upload.gateway,
            accepted=receipt.accepted,
            duplicates=receipt.duplicates,
            rejected=receipt.rejected_count,
            seq=receipt.seq,
        )

    def _end_second(self) -> None:
        together, self._together, self._lines = self._together, None, 0
        if together is not None:
            log.info("uploads_stored", **msgspec.structs.asdict(together))


class _Together(msgspec.Struct):
    """The sum of some receipts; `seq` is the highest."""

    uploads: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    seq: int | None = None

    def add(self, receipt: Receipt) -> None:
        self.uploads += 1
        self.accepted += receipt.accepted
        self.duplicates += receipt.duplicates
        self.rejected += receipt.rejected_count
        self.seq = receipt.seq if self.seq is None else max(self.seq, receipt.seq or 0)
