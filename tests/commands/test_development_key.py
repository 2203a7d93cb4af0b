"""The development key: made once, durable beside other keys, readable by its owner alone, ended by revoking it."""

from pathlib import Path

from app.auth.keys import KeyRing, create_key, revoke_key
from app.commands.development_key import Keys, find_development_key, open_keys
from app.settings import Settings
from tests.conftest import Database


async def accepts(database: Database, key: str | None) -> bool:
    """Return whether a server on the database accepts a key."""
    ring = KeyRing({})
    await ring.open(database.pool)
    try:
        await ring.authenticate(key)
    except Exception:  # noqa: BLE001 -- whatever refuses it
        return False
    return True


async def test_development_key_is_made_once_works_and_is_readable_by_its_owner_alone(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path / "new")
    assert find_development_key(settings.data_dir) is None
    first, second = await open_keys(settings), await open_keys(settings)
    assert first == second == Keys(["development"], find_development_key(settings.data_dir))
    assert first.is_alone
    assert await accepts(database, first.development)
    assert (settings.data_dir / "development_keys.json").stat().st_mode & 0o077 == 0


async def test_development_key_goes_on_working_when_other_keys_are_created(database: Database, tmp_path: Path) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    first = await open_keys(settings)
    await create_key(database.pool, "harbour-1", frozenset({"ingest"}), {})
    later = await open_keys(settings)
    assert later == Keys(["development", "harbour-1"], first.development)
    assert not later.is_alone
    assert await accepts(database, later.development)


async def test_development_key_stays_ended_when_it_was_revoked(database: Database, tmp_path: Path) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    key = (await open_keys(settings)).development
    await create_key(database.pool, "me", frozenset({"admin"}), {})
    await revoke_key(database.pool, "development")
    assert await open_keys(settings) == Keys(["me"])
    assert not await accepts(database, key)


async def test_development_key_is_replaced_when_its_file_is_lost_and_it_is_the_only_key(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    lost = (await open_keys(settings)).development
    (tmp_path / "development_keys.json").write_text("{")
    made = await open_keys(settings)
    assert made == Keys(["development"], find_development_key(tmp_path))
    assert await accepts(database, made.development)
    assert not await accepts(database, lost)


async def test_development_key_is_left_alone_when_its_file_is_lost_and_there_are_others(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    key = (await open_keys(settings)).development
    await create_key(database.pool, "me", frozenset({"admin"}), {})
    (tmp_path / "development_keys.json").unlink()
    assert await open_keys(settings) == Keys(["development", "me"])
    assert await accepts(database, key)


async def test_development_key_is_not_made_when_there_are_keys(database: Database, tmp_path: Path) -> None:
    assert await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path, api_key_ws="w")) == Keys([])
    await create_key(database.pool, "screen", frozenset({"live"}), {})
    assert await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path)) == Keys(["screen"])
    assert find_development_key(tmp_path) is None


async def test_development_key_of_an_earlier_version_goes_on_working(database: Database, tmp_path: Path) -> None:
    (tmp_path / "development_keys.json").write_text('{"api_key": "tg_kept", "api_key_ws": "tg_kept"}')
    await create_key(database.pool, "me", frozenset({"admin"}), {})
    assert await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path)) == Keys(
        ["me", "development"], "tg_kept"
    )
    assert await accepts(database, "tg_kept")
