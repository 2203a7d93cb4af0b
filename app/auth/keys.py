"""API keys: their scopes and limits, and how they are created, stored and revoked."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Literal, get_args

import asyncpg
import msgspec

from app.auth.sql import SQL
from app.db.pool import Pool
from app.errors import ConflictError, NotFoundError

Scope = Literal["read", "ingest", "live", "notify", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: The labels of keys from the environment are the names of their variables.
ENVIRONMENT_LABELS = ("API_KEY", "API_KEY_WS")
#: The label of the key that `tidegauge up` makes when there is none.
DEVELOPMENT_LABEL: Final = "development"
#: Sensors that `tidegauge import` registers are counted under this label.
IMPORT_LABEL: Final = "import"
#: Live keys that one gateway may have: a new one and, until it is in use, the old one.
KEYS_PER_GATEWAY: Final = 2


class Limits(msgspec.Struct, frozen=True):
    """The limits of one key; None means the server's default."""

    ws_connections: int | None = None
    #: New sensors that the key may register in all.
    sensors: int | None = None
    #: 0 means no limit.
    notifications_per_minute: int | None = None
    uploads_per_minute: int | None = None


class Binding(msgspec.Struct, frozen=True):
    """What a bound key may write to: sensors of one gateway, whose names match a pattern if there is one."""

    gateway: str
    sensors: str | None = None
    #: Put before the name of each sensor that is sent with the key.
    prefix: str = ""


class ApiKey(msgspec.Struct, frozen=True):
    """An accepted key: its label, scopes and limits. The plain key is kept nowhere."""

    label: str
    scopes: frozenset[Scope]
    limits: Limits = Limits()
    #: None: the key may write to any sensor.
    binding: Binding | None = None
    expires_at: datetime | None = None


def hash_key(key: str) -> bytes:
    """Return a key's SHA-256; keys are long and random, so neither salt nor stretching is needed."""
    return sha256(key.encode()).digest()


def make_key() -> str:
    """Return a new random key of 256 bits."""
    return f"tg_{secrets.token_urlsafe(32)}"


async def create_key(
    pool: Pool,
    label: str,
    scopes: frozenset[Scope],
    limits: Mapping[str, int],
    binding: Binding | None = None,
    expires_in: timedelta | None = None,
) -> str:
    """Store a new key's hash and return the key, which cannot be shown again.

    Raise ConflictError if the label is reserved or that of a live key, or the gateway has KEYS_PER_GATEWAY live keys.
    """
    if label in ENVIRONMENT_LABELS:
        # Counts, caps and stored answers are kept by label, so two keys must not share one.
        raise ConflictError(f"The label {label!r} is that of the environment's key; choose another label")
    if label == DEVELOPMENT_LABEL:
        raise ConflictError(
            f"The label {label!r} is reserved for the key that `tidegauge up` makes; choose another label"
        )
    if label == IMPORT_LABEL:
        raise ConflictError(f"The label {label!r} is reserved for sensors from imported files; choose another label")
    key = make_key()
    await store_key(pool, key, label, scopes, limits, binding, expires_in)
    return key


async def store_key(
    pool: Pool,
    key: str,
    label: str,
    scopes: frozenset[Scope],
    limits: Mapping[str, int],
    binding: Binding | None = None,
    expires_in: timedelta | None = None,
) -> None:
    """Store a given key's hash; raise ConflictError for the label of a live key, or a gateway with enough keys."""
    bound = (None, None, "") if binding is None else (binding.gateway, binding.sensors, binding.prefix)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(SQL["lock_keys"])
        await connection.execute(SQL["free_label"], label)
        if binding is not None:
            _check_count(binding.gateway, await connection.fetch(SQL["list_live_labels"], binding.gateway))
        try:
            await connection.execute(
                SQL["insert_key"], hash_key(key), label, sorted(scopes), dict(limits), *bound, expires_in
            )
        except asyncpg.UniqueViolationError:
            raise ConflictError(
                f"A key with the label {label!r} exists already; choose another label, or revoke that key first"
            ) from None


def _check_count(gateway: str, live: Sequence[asyncpg.Record]) -> None:
    """Raise ConflictError if the gateway has as many live keys as it may have."""
    if len(live) >= KEYS_PER_GATEWAY:
        labels = " and ".join(repr(row["label"]) for row in live)
        raise ConflictError(
            f"The gateway {gateway!r} has {KEYS_PER_GATEWAY} live keys already, {labels}; revoke the one that is no "
            "longer in use"
        )


async def revoke_key(pool: Pool, label: str) -> None:
    """Revoke a key; raise NotFoundError if no live key has the label."""
    if await pool.fetchval(SQL["revoke_key"], label) is None:
        raise NotFoundError(f"No live key has the label {label!r}; `tidegauge key list` shows them")
