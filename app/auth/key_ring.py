"""The live keys that a process knows, by which it authenticates requests."""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Final

import asyncpg
import msgspec
import structlog

from app.auth.audit import KeyRefusals
from app.auth.keys import ENVIRONMENT_LABELS, SCOPES, ApiKey, Binding, Limits, Scope, hash_key
from app.auth.sql import SQL
from app.db.pool import DATABASE_ERRORS, Pool
from app.errors import OverloadedError, UnauthorizedError

#: Interval between two reads of the stored keys, and the longest time of one read.
REFRESH_S = 0.5
REFRESH_TIMEOUT_S = 5.0
#: A revoked key stops working within this time in every process, unless the database does not answer.
REVOKED_WITHIN_S: Final = 2.0
#: An unknown key is not looked up again for this long, so that guessing keys causes little load on the database.
_UNKNOWN_S = 1.0
_UNKNOWN_KEPT = 1_000
#: Largest number of unknown keys that wait to be looked up. They share one connection; the other is for the refresh.
LOOK_UPS_WAITING: Final = 100
#: Between two writes of which keys were used.
NOTE_USE_EVERY_S: Final = 15.0
log = structlog.get_logger()


class KeyRing:
    """All live keys: those of the environment, and those of the database, which are read again every REFRESH_S."""

    def __init__(self, from_environment: Mapping[bytes, ApiKey]) -> None:
        self._from_environment = dict(from_environment)
        self._stored: dict[bytes, ApiKey] = {}
        #: Labels of the revoked keys.
        self._revoked: dict[bytes, str] = {}
        #: The stored keys of the last refresh; None before the first.
        self._refreshed: dict[bytes, ApiKey] | None = None
        self.refusals = KeyRefusals()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._pool: Pool | None = None
        self._watches: dict[object, tuple[ApiKey, Callable[[], None]]] = {}
        self._look_ups = asyncio.Semaphore(1)
        self._look_ups_waiting = 0
        #: Labels of the keys that were used since the last write.
        self._used: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._from_environment or self._stored)

    async def open(self, pool: Pool) -> None:
        """Read the stored keys for the first time."""
        self._pool = pool
        await self.refresh()

    async def refresh(self) -> None:
        """Read the stored keys again, with those created and without those revoked since."""
        assert self._pool is not None  # noqa: S101
        async with asyncio.timeout(REFRESH_TIMEOUT_S), self._pool.acquire(timeout=REFRESH_TIMEOUT_S) as connection:
            rows = await connection.fetch(SQL["list_known_keys"])
        self._revoked = {row["sha256"]: row["label"] for row in rows if row["is_over"]}
        stored = {row["sha256"]: _from_row(row) for row in rows if not row["is_over"]}
        _log_changes(self._refreshed, stored)
        self._refreshed = dict(stored)
        if stored != self._stored:
            self._stored = stored
            self._tell_revoked()

    async def keep_fresh(self) -> None:
        """Refresh until cancelled; while the database is away, the last known keys stay valid."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except DATABASE_ERRORS as error:
                log.warning("keys_not_refreshed", error=str(error))

    @contextmanager
    def watched(self, api_key: ApiKey, on_revoked: Callable[[], None]) -> Iterator[None]:
        """Until the block ends, call `on_revoked` once the key is revoked or gets other scopes."""
        watch = object()
        self._watches[watch] = api_key, on_revoked
        try:
            if not self.is_live(api_key):  # revoked since it was accepted
                on_revoked()
            yield
        finally:
            del self._watches[watch]

    def _tell_revoked(self) -> None:
        known = {*self._from_environment.values(), *self._stored.values()}
        for api_key, on_revoked in tuple(self._watches.values()):
            if api_key not in known:
                on_revoked()

    async def authenticate(self, key: str | None) -> ApiKey:
        """Return the key with its scopes and limits; raise UnauthorizedError if it is missing, unknown or revoked."""
        if not key:
            raise UnauthorizedError("Send your API key in the header X-API-Key, or as Authorization: Bearer KEY")
        digest = hash_key(key)
        found = self._find(digest) or await self._look_up(digest)
        if found is None:
            raise UnauthorizedError("This API key is unknown or was revoked")
        self._used.add(found.label)
        return found

    async def note_use(self) -> None:
        """Write down which stored keys are in use, also those of open WebSockets."""
        assert self._pool is not None  # noqa: S101
        used, self._used = self._used, set()
        used |= {api_key.label for api_key, _ in self._watches.values()}
        if stored := sorted(used & {api_key.label for api_key in self._stored.values()}):
            await self._pool.execute(SQL["note_use"], stored)

    def find_revoked(self, key: str) -> str | None:
        """Return the label of a revoked or expired key, or None for another key."""
        return self._revoked.get(hash_key(key))

    def is_live(self, api_key: ApiKey) -> bool:
        """Return whether a key that was accepted earlier is still known, with the same scopes and limits."""
        known = (*self._from_environment.values(), *self._stored.values())
        return api_key in known

    def _find(self, digest: bytes) -> ApiKey | None:
        """Return the known key with this hash; keys of the environment are compared in constant time."""
        found = self._stored.get(digest)
        for known, api_key in self._from_environment.items():
            if hmac.compare_digest(known, digest):
                found = api_key
        return found

    async def _look_up(self, digest: bytes) -> ApiKey | None:
        """Return a stored key that was created since the last refresh, or None."""
        if self._pool is None or monotonic() < self._unknown.get(digest, 0.0):
            return None
        if self._look_ups_waiting >= LOOK_UPS_WAITING:
            raise OverloadedError("Too many unknown keys are being looked up. Try again.")
        self._look_ups_waiting += 1
        try:
            async with self._look_ups:
                row = await self._pool.fetchrow(SQL["find_live_key"], digest)
        finally:
            self._look_ups_waiting -= 1
        if row is not None:
            self._stored[digest] = _from_row(row)
            return self._stored[digest]
        self._unknown[digest] = monotonic() + _UNKNOWN_S
        if len(self._unknown) > _UNKNOWN_KEPT:
            self._unknown.popitem(last=False)
        return None


def keys_from_environment(api_key: str | None, api_key_ws: str | None) -> dict[bytes, ApiKey]:
    """Return the two keys of the replaced sensor server by hash: API_KEY for HTTP, API_KEY_WS for the live feeds.

    If both have the same value, it is one key with the scopes of both.
    """
    keys: dict[bytes, ApiKey] = {}
    http: frozenset[Scope] = frozenset({"read", "ingest", "notify", "admin"})
    given = zip(ENVIRONMENT_LABELS, (api_key, api_key_ws), (http, frozenset[Scope]({"live"})), strict=True)
    for label, key, scopes in given:
        if key:
            before = keys.get(hash_key(key))
            keys[hash_key(key)] = ApiKey(before.label, before.scopes | scopes) if before else ApiKey(label, scopes)
    return keys


def _log_changes(before: Mapping[bytes, ApiKey] | None, after: Mapping[bytes, ApiKey]) -> None:
    """Log the changes between two refreshes, also those by other processes or by hand; nothing before the first."""
    if before is None:
        return
    for digest in before.keys() - after.keys():
        log.info("key_revoked", key=before[digest].label)
    for digest, api_key in after.items():
        limits = {name: limit for name, limit in msgspec.structs.asdict(api_key.limits).items() if limit is not None}
        rights = {"scopes": sorted(api_key.scopes), "limits": limits}
        if digest not in before:
            log.info("key_created", key=api_key.label, **rights)
        elif api_key != before[digest]:
            log.info("key_changed", key=api_key.label, **rights)


def _from_row(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["label"],
        frozenset(scope for scope in SCOPES if scope in row["scopes"]),
        msgspec.convert(row["limits"], Limits),
        None if row["gateway"] is None else Binding(row["gateway"], row["sensors"], row["prefix"]),
        row["expires_at"],
    )
