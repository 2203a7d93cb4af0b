"""Development keys: created once, readable by one user only, and not created when there are other keys."""

import json
from pathlib import Path

from app.auth.keys import create_key
from app.commands.development_keys import find_development_key, with_keys
from app.settings import Settings
from tests.conftest import Database


async def test_development_keys_are_created_once_and_hidden_from_other_users(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path / "new")
    assert find_development_key(settings.data_dir) is None
    with_first, first = await with_keys(settings)
    with_second, second = await with_keys(settings)
    assert first is not None
    assert first == second
    assert (with_first.api_key, with_first.api_key_ws) == (first.api_key, first.api_key_ws)
    assert with_first == with_second
    assert find_development_key(settings.data_dir) == first.api_key
    file = settings.data_dir / "development_keys.json"
    assert file.stat().st_mode & 0o077 == 0
    assert json.loads(file.read_text())["api_key"] == first.api_key


async def test_development_keys_are_created_again_when_their_file_is_damaged(
    database: Database, tmp_path: Path
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    (tmp_path / "development_keys.json").write_text("{")
    _, keys = await with_keys(settings)
    assert keys is not None
    assert find_development_key(tmp_path) == keys.api_key


async def test_development_keys_are_not_created_when_there_are_keys(database: Database, tmp_path: Path) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path, api_key_ws="w")
    assert await with_keys(settings) == (settings, None)
    await create_key(database.pool, "screen", frozenset({"live"}), {})
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    assert await with_keys(settings) == (settings, None)


async def test_development_keys_are_created_when_the_schema_is_not_migrated(empty_dsn: str, tmp_path: Path) -> None:
    _, keys = await with_keys(Settings(database_url=empty_dsn, data_dir=tmp_path))
    assert keys is not None
