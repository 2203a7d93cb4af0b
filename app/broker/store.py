"""What was sent, kept for a while: written to the database soon after the answer, and readable at once."""

import asyncio
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec
import structlog

from app.broker.sql import SQL
from app.clock import from_us, to_us
from app.db.pool import DATABASE_ERRORS, Pool
from app.errors import NotFoundError
from app.paging import cut_page, time_cursor, wrong_cursor
from app.problems import is_database_away

FLUSH_EVERY_S: Final = 0.25
FLUSH_BYTES: Final = 4 * 2**20
#: How long a database that could not store is left alone.
RETRY_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 5.0
#: Notifications that wait to be stored; beyond, new ones are sent and not stored.
QUEUE_BYTES: Final = 64 * 2**20
KEPT_FOR: Final = timedelta(days=30)
KEPT_ROWS: Final = 1_000_000
PRUNE_ROWS: Final = 20_000

BrokerLevel = Literal["INFO", "WARNING", "ERROR", "CRITICAL", "DISASTER"]

#: NUL in JSON, which PostgreSQL takes in no text; an escaped backslash before `u0000` is something else.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
log = structlog.get_logger()


class StoredOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a notification in one channel."""

    success: bool
    attempts: int
    error: str | None = None
    #: Equal for equal destinations, and no way to find them out.
    destination: str | None = None


class StoredNotification(msgspec.Struct, frozen=True):
    """A notification as it is kept and shown; `api_key` is the label of the key that sent it."""

    id: UUID
    created_at: datetime
    api_key: str
    level: BrokerLevel
    title: str
    message: str
    source: str | None
    metadata: dict[str, Any] | None
    channels: dict[str, StoredOutcome]


class NotificationPage(msgspec.Struct, frozen=True):
    """Notifications, newest first."""

    items: list[StoredNotification]
    next: str | None


class NotificationStore:
    """A queue before the table; no answer waits for it. When it is full, new notifications are not stored."""

    def __init__(self) -> None:
        #: Rows as JSON, by id, oldest first, until the database has them.
        self._waiting: dict[UUID, bytes] = {}
        self._waiting_bytes = 0
        self._something_waits = asyncio.Event()
        self._one_flush = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many notifications are not stored until now."""
        return len(self._waiting)

    def put(self, notification: StoredNotification) -> None:
        """Take a notification to be stored soon."""
        try:
            row = _without_nul(msgspec.json.encode(notification))
        except RecursionError:
            log.warning("notification_not_stored", id=str(notification.id), error="metadata are nested too deeply")
            return
        if self._waiting_bytes + len(row) > QUEUE_BYTES:
            log.warning("notification_not_stored", id=str(notification.id), error="the queue is full")
            return
        self._waiting[notification.id] = row
        self._waiting_bytes += len(row)
        self._something_waits.set()

    async def flush_forever(self, pool: Pool) -> None:
        """Store what waits, a few times a second; while the database is away, keep it and try again."""
        while True:
            await self._something_waits.wait()
            await asyncio.sleep(FLUSH_EVERY_S)
            if not await self._try_flush(pool):
                await asyncio.sleep(RETRY_S)

    async def close(self, pool: Pool) -> None:
        """Store what still waits, or say how much is lost."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._try_flush(pool)
        except TimeoutError:
            log.warning("notifications_not_stored", waiting=self.waiting, error="no answer came in time")

    async def flush(self, pool: Pool) -> None:
        """Store what waits just now; raises what the database raises, and then keeps it."""
        async with self._one_flush:
            left = len(self._waiting)
            while left > 0:
                taken = self._oldest()
                await _insert(pool, taken)
                self._forget(taken)
                left -= len(taken)

    async def find(self, pool: Pool, notification_id: UUID) -> StoredNotification:
        """Find one, stored already or not; raises NotFoundError."""
        waiting = self._waiting.get(notification_id)
        if waiting is not None:
            return msgspec.json.decode(waiting, type=StoredNotification)
        row = await pool.fetchrow(SQL["find_notification"], notification_id)
        if row is None:
            raise NotFoundError(
                f"There is no notification {notification_id}; they are kept for {KEPT_FOR.days} days, "
                f"the newest {KEPT_ROWS:,} at most"
            )
        return _from_row(row)

    async def list_page(
        self, pool: Pool, *, level: BrokerLevel | None, source: str | None, cursor: str | None, limit: int
    ) -> NotificationPage:
        """List newest first, including what was not stored until now; raises InvalidRequestError for the cursor."""
        time, last_id = _parse_cursor(cursor) if cursor is not None else (None, None)
        await self.flush(pool)
        rows = await pool.fetch(SQL["list_notifications"], level, source, time, last_id, limit + 1)
        page, next_cursor = cut_page(rows, limit, lambda row: time_cursor(to_us(row["created_at"]), row["id"]))
        return NotificationPage([_from_row(row) for row in page], next_cursor)

    async def _try_flush(self, pool: Pool) -> bool:
        try:
            await self.flush(pool)
        except DATABASE_ERRORS as error:
            # Not the error's own text: it can quote what was to be stored.
            log.warning("notifications_not_stored", waiting=self.waiting, error=type(error).__name__)
            return False
        return True

    def _oldest(self) -> dict[UUID, bytes]:
        """Give about FLUSH_BYTES of what waits, at least one row; nothing is taken away."""
        taken: dict[UUID, bytes] = {}
        left_bytes = FLUSH_BYTES
        for notification_id, row in self._waiting.items():
            if left_bytes < 0:
                break
            taken[notification_id] = row
            left_bytes -= len(row)
        return taken

    def _forget(self, stored: dict[UUID, bytes]) -> None:
        for notification_id, row in stored.items():
            del self._waiting[notification_id]
            self._waiting_bytes -= len(row)
        if not self._waiting:
            self._something_waits.clear()


async def prune_notifications(pool: Pool, age: timedelta = KEPT_FOR, rows: int = KEPT_ROWS) -> None:
    """Drop the oldest past either limit."""
    newest = await pool.fetchval(SQL["find_newest_to_prune"], age, rows)
    # In slices, each well within the time that a statement may take.
    while await pool.fetchval(SQL["prune_notifications"], newest, PRUNE_ROWS) == PRUNE_ROWS:
        pass


async def _insert(pool: Pool, rows: dict[UUID, bytes]) -> None:
    """Insert rows in one statement; one that the database does not take fails alone."""
    try:
        await pool.execute(SQL["insert_notifications"], _json_list(rows.values()))
    except asyncpg.PostgresError as error:
        if is_database_away(error):
            raise
        if len(rows) == 1:
            log.warning("notification_not_stored", id=str(next(iter(rows))), error=type(error).__name__)
            return
        for notification_id, row in rows.items():
            await _insert(pool, {notification_id: row})


def _without_nul(row: bytes) -> bytes:
    # Looked for first: the expression takes thirty times as long, and finds one hardly ever.
    return _NUL.sub(rb"\1\\ufffd", row) if b"\\u0000" in row else row


def _json_list(rows: Iterable[bytes]) -> str:
    return b"".join((b"[", b",".join(rows), b"]")).decode()


def _from_row(row: asyncpg.Record) -> StoredNotification:
    return msgspec.convert(dict(row), StoredNotification)


def _parse_cursor(cursor: str) -> tuple[datetime, UUID]:
    us, _dot, last_id = cursor.partition(".")
    try:
        return from_us(int(us)), UUID(last_id)
    except (ValueError, OverflowError):
        raise wrong_cursor(cursor) from None
