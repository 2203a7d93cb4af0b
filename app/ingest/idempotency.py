"""Idempotency-Key: the same request gets the first one's answer, even when the first is still under way."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import msgspec

from app.db.pool import Pool
from app.errors import InvalidRequestError, UnprocessableError
from app.ingest.sql import SQL
from app.ingest.upload import Idempotency, Receipt

KEY_LIMIT = 255


class AnsweredElsewhereError(Exception):
    """Another process was first to store answers under these (API key label, Idempotency-Key)."""

    def __init__(self, keys: Collection[tuple[str, str]]) -> None:
        super().__init__(f"{len(keys)} answers were stored by another process")
        self.keys = keys


class _Turn(msgspec.Struct):
    """Requests with one key: one has the lock, the others wait for it."""

    lock: asyncio.Lock
    requests: int = 0


class Answers:
    """Remembered answers, and the keys under way in this process."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], _Turn] = {}

    @asynccontextmanager
    async def one_at_a_time(self, api_key: str, key: str) -> AsyncIterator[None]:
        """Let requests with the same key pass one after another."""
        turn = self._under_way.setdefault((api_key, key), _Turn(asyncio.Lock()))
        turn.requests += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.requests -= 1
            if not turn.requests:
                del self._under_way[api_key, key]

    async def find(self, pool: Pool, api_key: str, asked: Idempotency) -> Receipt | None:
        """Give the first answer; raise UnprocessableError when it was to another body."""
        row = await pool.fetchrow(SQL["find_idempotency"], api_key, asked.key)
        if row is None:
            return None
        if row["body_sha256"] != asked.body_sha256:
            raise UnprocessableError(
                f"Idempotency-Key {asked.key!r} was used for another body; use a new key for new readings"
            )
        return msgspec.convert({**row["answer"], "seq": row["seq"]}, Receipt)


def check_key(key: str) -> str:
    """Refuse a key that cannot be stored; raise InvalidRequestError."""
    if not 0 < len(key) <= KEY_LIMIT or not key.isprintable():
        raise InvalidRequestError(f"Idempotency-Key must be 1 to {KEY_LIMIT} printable characters")
    return key
