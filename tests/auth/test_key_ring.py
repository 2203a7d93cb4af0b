"""The key ring: which keys a process accepts, and how soon it learns of changes."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from app.auth import key_ring
from app.auth.key_ring import KeyRing, keys_from_environment
from app.auth.keys import ApiKey, Limits, create_key, hash_key, revoke_key, store_key
from app.errors import UnauthorizedError
from tests.conftest import Database, wait_until


def test_environment_keys_have_the_scopes_of_the_replaced_server_when_both_are_set() -> None:
    known = keys_from_environment("http-key", "ws-key")
    assert known == {
        hash_key("http-key"): ApiKey("API_KEY", frozenset({"read", "ingest", "notify", "admin"})),
        hash_key("ws-key"): ApiKey("API_KEY_WS", frozenset({"live"})),
    }


def test_environment_key_has_all_scopes_when_both_are_the_same() -> None:
    assert keys_from_environment("key", "key") == {
        hash_key("key"): ApiKey("API_KEY", frozenset({"read", "ingest", "notify", "admin", "live"}))
    }


@pytest.mark.parametrize("absent", [None, ""])
def test_environment_key_is_left_out_when_it_is_absent_or_empty(absent: str | None) -> None:
    assert keys_from_environment(absent, absent) == {}
    assert not KeyRing({})
    assert KeyRing(keys_from_environment("key", absent))


async def test_key_stops_working_when_it_expires(database: Database) -> None:
    key = await create_key(database.pool, "roof", frozenset({"read"}), {}, expires_in=timedelta(days=90))
    ring = KeyRing({})
    await ring.open(database.pool)
    accepted = await ring.authenticate(key)
    assert accepted.expires_at is not None
    await database.pool.execute("UPDATE api_key SET expires_at = now()")
    with pytest.raises(UnauthorizedError):
        await KeyRing({}).authenticate(key)
    await ring.refresh()
    assert not ring.is_live(accepted)
    with pytest.raises(UnauthorizedError):
        await ring.authenticate(key)


async def test_last_use_is_written_for_the_keys_that_were_used(database: Database) -> None:
    used, idle, followed = [
        await create_key(database.pool, label, frozenset({"live"}), {}) for label in ("used", "idle", "followed")
    ]
    ring = KeyRing(keys_from_environment("http-key", None))
    await ring.open(database.pool)
    followed_key = await ring.authenticate(followed)
    await ring.note_use()
    await database.pool.execute("UPDATE api_key SET last_used_at = NULL")
    await ring.authenticate(used)
    await ring.authenticate("http-key")
    with ring.watched(followed_key, lambda: None):
        await ring.note_use()
    rows = await database.pool.fetch("SELECT label FROM api_key WHERE last_used_at > now() - INTERVAL '1 minute'")
    assert {row["label"] for row in rows} == {"used", "followed"}
    assert idle


async def test_key_is_accepted_at_once_when_it_was_created_after_the_ring_opened(database: Database) -> None:
    ring = KeyRing({})
    await ring.open(database.pool)
    assert not ring
    key = await create_key(database.pool, "roof", frozenset({"ingest"}), {"ws_connections": 2, "sensors": 5})
    assert await ring.authenticate(key) == ApiKey("roof", frozenset({"ingest"}), Limits(2, 5))
    assert ring


async def test_key_is_refused_when_it_is_unknown_missing_or_almost_right(database: Database) -> None:
    ring = KeyRing(keys_from_environment("http-key", None))
    await ring.open(database.pool)
    key = await create_key(database.pool, "roof", frozenset({"ingest"}), {})
    for wrong in ("http-key ", "HTTP-KEY", "http-ke", key[:-1], f"{key}x", hash_key(key).hex(), "schlüssel", "\0"):
        with pytest.raises(UnauthorizedError, match="unknown or was revoked"):
            await ring.authenticate(wrong)
    for nothing in (None, ""):
        with pytest.raises(UnauthorizedError, match="Send your API key in the header X-API-Key"):
            await ring.authenticate(nothing)


async def test_database_is_asked_once_when_an_unknown_key_comes_again(database: Database) -> None:
    ring = KeyRing({})
    await ring.open(database.pool)
    with pytest.raises(UnauthorizedError):
        await ring.authenticate("guess")
    await database.pool.close()
    with pytest.raises(UnauthorizedError):
        await ring.authenticate("guess")


async def test_unknown_keys_are_remembered_up_to_a_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "_UNKNOWN_KEPT", 3)
    ring = KeyRing({})
    await ring.open(database.pool)
    for number in range(10):
        with pytest.raises(UnauthorizedError):
            await ring.authenticate(f"guess {number}")
    assert len(ring._unknown) == 3
    # The newest are remembered: the database is not asked about them.
    await database.pool.close()
    for number in (7, 8, 9):
        with pytest.raises(UnauthorizedError):
            await ring.authenticate(f"guess {number}")


async def test_key_of_the_environment_counts_when_the_same_one_is_stored(database: Database) -> None:
    key = await create_key(database.pool, "roof", frozenset({"read"}), {"sensors": 5})
    ring = KeyRing(keys_from_environment(None, key))
    await ring.open(database.pool)
    assert await ring.authenticate(key) == ApiKey("API_KEY_WS", frozenset({"live"}))


async def test_key_is_found_soon_when_it_was_asked_for_before_it_was_created(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_ring._UNKNOWN_S <= 1
    monkeypatch.setattr(key_ring, "_UNKNOWN_S", 0.02)
    ring = KeyRing({})
    await ring.open(database.pool)
    with pytest.raises(UnauthorizedError):
        await ring.authenticate("early")
    await store_key(database.pool, "early", "roof", frozenset({"read"}), {})
    async with asyncio.timeout(20):
        while True:
            with suppress(UnauthorizedError):
                assert (await ring.authenticate("early")).label == "roof"
                break
            await asyncio.sleep(0.01)


async def test_revoked_key_is_refused_when_the_ring_refreshes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_ring.REFRESH_S <= 5
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.01)
    old = await create_key(database.pool, "old", frozenset({"read"}), {})
    ring = KeyRing(keys_from_environment("http-key", None))
    await ring.open(database.pool)
    accepted = await ring.authenticate(old)
    refreshing = asyncio.create_task(ring.keep_fresh())
    await revoke_key(database.pool, "old")
    await wait_until(lambda: not ring.is_live(accepted))
    with pytest.raises(UnauthorizedError):
        await ring.authenticate(old)
    assert (await ring.authenticate("http-key")).label == "API_KEY"
    refreshing.cancel()


async def test_known_keys_stay_valid_when_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.01)
    key = await create_key(database.pool, "roof", frozenset({"read"}), {})
    ring = KeyRing({})
    await ring.open(database.pool)
    await database.pool.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(ring.keep_fresh(), 0.1)
    assert (await ring.authenticate(key)).label == "roof"


async def test_unknown_scopes_are_ignored_when_a_newer_version_stored_them(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO api_key (sha256, label, scopes) VALUES ($1, 'new', '{read,fly}')", hash_key("key")
    )
    ring = KeyRing({})
    await ring.open(database.pool)
    assert (await ring.authenticate("key")).scopes == {"read"}
