"""Idempotency-Key: a repeated request gets the answer of the first one, even while the first is being stored."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import msgspec

from app.db.pool import Pool
from app.errors import InvalidRequestError, UnprocessableError
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.upload import Idempotency

KEY_LIMIT = 255


class AnsweredElsewhereError(Exception):
    """Another process has stored answers under these pairs of API key label and Idempotency-Key first."""

    def __init__(self, keys: Collection[tuple[str, str]]) -> None:
        super().__init__(f"{len(keys)} answers were stored by another process")
        self.keys = keys


class _KeyLock(msgspec.Struct):
    """The lock of one key, and the number of requests that hold it or wait for it."""

    lock: asyncio.Lock
    requests: int = 0


class Answers:
    """Stored answers, and a lock for each key that this process is handling."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], _KeyLock] = {}

    @asynccontextmanager
    async def one_at_a_time(self, api_key: str, key: str) -> AsyncIterator[None]:
        """Run the block for requests with the same key one after another."""
        key_lock = self._locks.setdefault((api_key, key), _KeyLock(asyncio.Lock()))
        key_lock.requests += 1
        try:
            async with key_lock.lock:
                yield
        finally:
            key_lock.requests -= 1
            if not key_lock.requests:
                del self._locks[api_key, key]

    async def find(self, pool: Pool, api_key: str, asked: Idempotency) -> Receipt | None:
        """Return the first answer, or None if there is none; raise UnprocessableError if the first body was another."""
        row = await pool.fetchrow(SQL["find_idempotency"], api_key, asked.key)
        if row is None:
            return None
        if row["body_sha256"] != asked.body_sha256:
            raise UnprocessableError(
                f"Idempotency-Key {asked.key!r} was used for another body; use a new key for new readings"
            )
        return msgspec.convert({**row["answer"], "seq": row["seq"]}, Receipt)


def check_key(key: str) -> str:
    """Return the key; raise InvalidRequestError if it cannot be stored."""
    if not 0 < len(key) <= KEY_LIMIT or not key.isprintable():
        raise InvalidRequestError(f"Idempotency-Key must be 1 to {KEY_LIMIT} printable characters")
    return key


async def prune_answers(pool: Pool) -> None:
    """Delete answers to Idempotency-Keys that are older than a day."""
    await pool.execute(SQL["prune_idempotency"])
