"""Sent notifications: readable at once, written to the database soon after the answer, and kept for a limited time."""

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
#: Pause after a flush that the database could not store.
RETRY_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 5.0
#: Limit of notifications that wait to be stored; further ones are sent but not stored.
QUEUE_BYTES: Final = 64 * 2**20
KEPT_FOR: Final = timedelta(days=30)
KEPT_ROWS: Final = 1_000_000
PRUNE_ROWS: Final = 20_000

BrokerLevel = Literal["INFO", "WARNING", "ERROR", "CRITICAL", "DISASTER"]

#: NUL in JSON, which PostgreSQL accepts in no text. After an escaped backslash, `u0000` is literal text.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
log = structlog.get_logger()


class StoredOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of a notification in one channel."""

    success: bool
    attempts: int
    error: str | None = None
    #: A fingerprint: equal for equal destinations, and the destination cannot be derived from it.
    destination: str | None = None


class StoredNotification(msgspec.Struct, frozen=True):
    """A notification as it is stored and shown; `api_key` is the label of the key that sent it."""

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
    """A queue in front of the table, so that no answer waits for the database.

    When the queue is full, new notifications are not stored.
    """

    def __init__(self) -> None:
        #: Rows that the database does not have yet, as JSON, by id, oldest first.
        self._waiting: dict[UUID, bytes] = {}
        self._waiting_bytes = 0
        self._something_waits = asyncio.Event()
        self._one_flush = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Return how many notifications are not stored yet."""
        return len(self._waiting)

    def put(self, notification: StoredNotification) -> None:
        """Queue a notification; log a warning instead if it cannot be queued."""
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
        """Store waiting notifications every FLUSH_EVERY_S; while the database is away, keep them and retry."""
        while True:
            await self._something_waits.wait()
            await asyncio.sleep(FLUSH_EVERY_S)
            if not await self._try_flush(pool):
                await asyncio.sleep(RETRY_S)

    async def close(self, pool: Pool) -> None:
        """Store the waiting notifications, or log how many are lost."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._try_flush(pool)
        except TimeoutError:
            log.warning("notifications_not_stored", waiting=self.waiting, error="no answer came in time")

    async def flush(self, pool: Pool) -> None:
        """Store the notifications that wait now; they are kept if the database raises an error."""
        async with self._one_flush:
            left = len(self._waiting)
            while left > 0:
                rows = self._oldest()
                await _insert(pool, rows)
                self._remove(rows)
                left -= len(rows)

    async def find(self, pool: Pool, notification_id: UUID) -> StoredNotification:
        """Return a notification, stored or waiting; raise NotFoundError if there is none."""
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
        """Store waiting notifications, then return a page, newest first.

        Raise InvalidRequestError for a wrong cursor, and what the database raises.
        """
        time, last_id = _parse_cursor(cursor) if cursor is not None else (None, None)
        await self.flush(pool)
        rows = await pool.fetch(SQL["list_notifications"], level, source, time, last_id, limit + 1)
        page, next_cursor = cut_page(rows, limit, lambda row: time_cursor(to_us(row["created_at"]), row["id"]))
        return NotificationPage([_from_row(row) for row in page], next_cursor)

    async def _try_flush(self, pool: Pool) -> bool:
        try:
            await self.flush(pool)
        except DATABASE_ERRORS as error:
            # The error's text is not logged, because it can quote the rows.
            log.warning("notifications_not_stored", waiting=self.waiting, error=type(error).__name__)
            return False
        return True

    def _oldest(self) -> dict[UUID, bytes]:
        """Return about FLUSH_BYTES of the oldest waiting rows, at least one; they stay in the queue."""
        oldest: dict[UUID, bytes] = {}
        left_bytes = FLUSH_BYTES
        for notification_id, row in self._waiting.items():
            if left_bytes < 0:
                break
            oldest[notification_id] = row
            left_bytes -= len(row)
        return oldest

    def _remove(self, stored: dict[UUID, bytes]) -> None:
        for notification_id, row in stored.items():
            del self._waiting[notification_id]
            self._waiting_bytes -= len(row)
        if not self._waiting:
            self._something_waits.clear()


async def prune_notifications(pool: Pool, age: timedelta = KEPT_FOR, rows: int = KEPT_ROWS) -> None:
    """Delete notifications older than `age`, and all but the newest `rows`."""
    newest = await pool.fetchval(SQL["find_newest_to_prune"], age, rows)
    # In slices, so that each statement stays within the statement timeout.
    while await pool.fetchval(SQL["prune_notifications"], newest, PRUNE_ROWS) == PRUNE_ROWS:
        pass


async def _insert(pool: Pool, rows: dict[UUID, bytes]) -> None:
    """Insert rows in one statement; if the database refuses it, insert them one by one and log each refused row."""
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
    # Checked first, because the expression takes thirty times as long and NUL is rare.
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
