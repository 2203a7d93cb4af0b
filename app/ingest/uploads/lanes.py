"""Lanes: the uploads that wait to be stored, apart by size, so that small ones do not stand in the queue of large ones.

A flush of large uploads takes as long as hundreds of flushes of one reading. A gateway that sends its buffer of a day
would delay the readings of all others, if they stood in one queue.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic

import msgspec

from app.ingest.uploads.receipt import Outcome
from app.ingest.uploads.upload import Upload

#: Number of concurrent flushes of a lane: one merges and sorts while PostgreSQL works for the other.
FLUSHERS = 2
#: Limit of values in one flush; a single larger upload is a flush of its own.
FLUSH_VALUES = 10_000
#: Uploads with fewer values than this are small. They are gathered until they have as many values as the flush under
#: way, or it has ended: one flush of many uploads takes less than two, and two of equal size keep both the database and
#: this process busy. They wait so long at most, because that flush may hang.
SMALL_UPLOAD_VALUES = 1_000
GATHERED_WITHIN_S = 0.05


class WaitingUpload(msgspec.Struct):
    """An upload that waits to be stored."""

    upload: Upload
    outcome: "asyncio.Future[Outcome]"
    #: By the clock of the event loop.
    since: float


class Lane:
    """Uploads of like size that wait, and what is being flushed of them."""

    def __init__(self, *, gathers: bool) -> None:
        self._gathers = gathers
        self._waiting: deque[WaitingUpload] = deque()
        self.waiting_values = 0
        self.waiting_bytes = 0
        #: The beginning of each flush under way, on the monotonic clock.
        self.flushing_since: list[float] = []
        self._flushing_values = 0
        #: Whether all readings of its last flush of some size were new.
        self.brings_new = True
        self._something_waits = asyncio.Event()
        #: Set when a flush has ended or so many values wait that they need not be gathered.
        self._may_flush = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: WaitingUpload) -> None:
        """Let an upload wait for a flush."""
        self._waiting.append(waiting)
        self._count(waiting.upload, 1)
        self._something_waits.set()
        if not self._should_gather:
            self._may_flush.set()

    async def take(self) -> list[WaitingUpload]:
        """Wait for uploads, and return those of the next flush, without those whose client is gone."""
        await self._something_waits.wait()
        await self._gather()
        taken = [waiting for waiting in self._pop_next() if not waiting.outcome.done()]
        if not self._waiting:
            self._something_waits.clear()
        return taken

    def pop_older(self, than: float) -> Iterator[WaitingUpload]:
        """Take out the uploads that have waited since before a time of the event loop's clock."""
        while self._waiting and self._waiting[0].since < than:
            yield self._pop()

    @contextmanager
    def flushing(self, taken: Sequence[WaitingUpload]) -> Iterator[None]:
        """Note that these uploads are being flushed, until the block ends."""
        began, value_count = monotonic(), sum(waiting.upload.value_count for waiting in taken)
        self.flushing_since.append(began)
        self._flushing_values += value_count
        try:
            yield
        finally:
            self.flushing_since.remove(began)
            self._flushing_values -= value_count
            self._may_flush.set()

    @property
    def _should_gather(self) -> bool:
        """Return whether the waiting uploads have fewer values than what is being flushed, and do not fill a flush."""
        return self._gathers and self.waiting_values < min(self._flushing_values, FLUSH_VALUES)

    async def _gather(self) -> None:
        """Let small uploads wait until they are as many as those under way, or these are stored or take long."""
        while self._should_gather:
            left_s = max(self.flushing_since) + GATHERED_WITHIN_S - monotonic()
            if left_s <= 0:
                return
            self._may_flush.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._may_flush.wait()

    def _pop_next(self) -> Iterator[WaitingUpload]:
        """Take uploads from the front, at least one, up to FLUSH_VALUES.

        Of a short queue of large uploads only a part is taken, so that the other flusher has something to do as well.
        If all clients waited for one flush, none could send more until it ends.
        """
        share = FLUSH_VALUES if self._gathers else max(self.waiting_values, FLUSH_VALUES) // FLUSHERS
        value_count, limit = 0, min(share, FLUSH_VALUES)
        while self._waiting and (not value_count or value_count + self._waiting[0].upload.value_count <= limit):
            waiting = self._pop()
            value_count += waiting.upload.value_count
            yield waiting

    def _pop(self) -> WaitingUpload:
        waiting = self._waiting.popleft()
        self._count(waiting.upload, -1)
        return waiting

    def _count(self, upload: Upload, sign: int) -> None:
        self.waiting_values += sign * upload.value_count
        self.waiting_bytes += sign * upload.byte_count
