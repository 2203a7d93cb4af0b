"""API keys: storage, authentication and revocation."""

from datetime import timedelta

import pytest

from app.auth.key_ring import KeyRing
from app.auth.keys import Binding, create_key, hash_key, make_key, revoke_key
from app.errors import ConflictError, NotFoundError, UnauthorizedError
from tests.conftest import Database


def test_new_keys_are_long_and_different() -> None:
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("tg_") and len(key) == 46 for key in made)


async def test_only_the_hash_is_stored_when_a_key_is_created(database: Database) -> None:
    key = await create_key(database.pool, "roof", frozenset({"read", "ingest"}), {"sensors": 5})
    (row,) = await database.pool.fetch("SELECT * FROM api_key")
    assert row["sha256"] == hash_key(key)
    assert (row["label"], row["scopes"], row["limits"], row["revoked_at"]) == (
        "roof",
        ["ingest", "read"],
        {"sensors": 5},
        None,
    )
    assert key not in repr(tuple(row.values()))
    assert key.removeprefix("tg_") not in repr(tuple(row.values()))


async def test_label_is_refused_when_another_key_has_it(database: Database) -> None:
    await create_key(database.pool, "roof", frozenset({"read"}), {})
    text = r"label 'roof' exists already; choose another label, or revoke that key first"
    with pytest.raises(ConflictError, match=text):
        await create_key(database.pool, "roof", frozenset({"read"}), {})


async def test_label_is_free_again_when_its_key_was_revoked_or_has_expired(database: Database) -> None:
    first = await create_key(database.pool, "roof", frozenset({"read"}), {})
    await revoke_key(database.pool, "roof")
    second = await create_key(database.pool, "roof", frozenset({"ingest"}), {}, expires_in=timedelta(seconds=-1))
    third = await create_key(database.pool, "roof", frozenset({"live"}), {})
    ring = KeyRing({})
    await ring.open(database.pool)
    assert (await ring.authenticate(third)).scopes == {"live"}
    for over in (first, second):
        with pytest.raises(UnauthorizedError):
            await ring.authenticate(over)
        assert ring.find_revoked(over) == "roof"


async def test_gateway_has_two_live_keys_at_most(database: Database) -> None:
    for label in ("old", "new"):
        await create_key(database.pool, label, frozenset({"ingest"}), {}, Binding("harbour"))
    with pytest.raises(ConflictError, match=r"'harbour' has 2 live keys already, 'new' and 'old'; revoke the one that"):
        await create_key(database.pool, "newest", frozenset({"ingest"}), {}, Binding("harbour"))
    await create_key(database.pool, "other", frozenset({"ingest"}), {}, Binding("quay"))
    await revoke_key(database.pool, "old")
    await create_key(database.pool, "newest", frozenset({"ingest"}), {}, Binding("harbour", "h-*", "h-"))
    row = await database.pool.fetchrow("SELECT gateway, sensors, prefix FROM api_key WHERE label = 'newest'")
    assert row is not None
    assert tuple(row) == ("harbour", "h-*", "h-")


@pytest.mark.parametrize("label", ["API_KEY", "API_KEY_WS"])
async def test_label_is_refused_when_it_is_that_of_the_environment(database: Database, label: str) -> None:
    with pytest.raises(ConflictError, match=f"label '{label}' is that of the environment's key"):
        await create_key(database.pool, label, frozenset({"read"}), {})


async def test_label_is_refused_when_it_is_reserved_for_the_development_key(database: Database) -> None:
    with pytest.raises(ConflictError, match="label 'development' is reserved for the key that `tidegauge up` makes"):
        await create_key(database.pool, "development", frozenset({"read"}), {})


async def test_revoking_fails_when_no_live_key_has_the_label(database: Database) -> None:
    await create_key(database.pool, "roof", frozenset({"read"}), {})
    await revoke_key(database.pool, "roof")
    for label in ("roof", "cellar"):
        with pytest.raises(NotFoundError, match=f"No live key has the label '{label}'"):
            await revoke_key(database.pool, label)
