"""The development key: made once, durable beside other keys, never in place of a stored key, ended by revoking it."""

import asyncio
from pathlib import Path

import pytest

from app.auth.key_ring import KeyRing
from app.auth.keys import SCOPES, create_key, revoke_key, store_key
from app.commands.processes.development_key import Keys, find_development_key, open_keys
from app.errors import UnauthorizedError
from app.settings import Settings
from tests.conftest import Database, copied


async def accepts(database: Database, key: str | None) -> bool:
    """Return whether a server on the database accepts a key."""
    ring = KeyRing({})
    await ring.open(database.pool)
    try:
        await ring.authenticate(key)
    except UnauthorizedError:
        return False
    return True


async def store_own(database: Database, key: str) -> None:
    """Store a key that is labelled as the development key and was not made here."""
    await store_key(database.pool, key, "development", frozenset(SCOPES), {})


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


@pytest.mark.parametrize("variable", ["API_KEY", "API_KEY_WS"])
async def test_development_key_is_not_alone_when_a_variable_is_set(
    database: Database, tmp_path: Path, variable: str
) -> None:
    made = await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    (tmp_path / ".env").write_text(f"{variable}=k\nDATABASE_URL={database.dsn}\nDATA_DIR={tmp_path}\n")
    keys = await open_keys(Settings.from_environment({}, tmp_path / ".env"))
    assert keys == Keys(["development"], made.development, [variable])
    assert not keys.is_alone


async def test_development_key_stays_ended_when_it_was_revoked(database: Database, tmp_path: Path) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    key = (await open_keys(settings)).development
    await revoke_key(database.pool, "development")
    assert await open_keys(settings) == Keys([])
    await create_key(database.pool, "me", frozenset({"admin"}), {})
    assert await open_keys(settings) == Keys(["me"])
    assert not await accepts(database, key)
    assert find_development_key(tmp_path) == key


@pytest.mark.parametrize("others", [[], ["me"]])
async def test_development_key_is_left_alone_when_its_file_is_lost(
    database: Database, tmp_path: Path, others: list[str]
) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path)
    key = (await open_keys(settings)).development
    for label in others:
        await create_key(database.pool, label, frozenset({"admin"}), {})
    (tmp_path / "development_keys.json").unlink()
    keys = await open_keys(settings)
    assert keys == Keys(["development", *others])
    assert keys.is_unknown
    assert not keys.is_alone
    assert await accepts(database, key)


async def test_development_key_is_made_anew_when_its_file_holds_none(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "development_keys.json"
    file.write_text("{")
    keys = await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    assert keys.is_alone
    assert keys.development == find_development_key(tmp_path)
    assert file.stat().st_mode & 0o077 == 0


async def test_key_of_a_user_is_left_alone_when_it_is_labelled_development(database: Database, tmp_path: Path) -> None:
    await store_own(database, "tg_own")
    keys = await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    assert keys == Keys(["development"])
    assert keys.is_unknown
    assert await accepts(database, "tg_own")
    assert find_development_key(tmp_path) is None


async def test_development_key_of_one_host_goes_on_working_when_another_host_starts(
    database: Database, tmp_path: Path
) -> None:
    hosts = [Settings(database_url=database.dsn, data_dir=tmp_path / name) for name in ("a", "b")]
    first, second, again = [await open_keys(host) for host in (*hosts, hosts[0])]
    assert first == again
    assert first.is_alone
    assert second == Keys(["development"])
    assert await accepts(database, first.development)


async def test_one_development_key_works_when_hosts_start_at_the_same_time(database: Database, tmp_path: Path) -> None:
    hosts = [Settings(database_url=database.dsn, data_dir=tmp_path / str(number)) for number in range(4)]
    found = await asyncio.gather(*map(open_keys, hosts))
    assert {tuple(keys.labels) for keys in found} == {("development",)}
    (known,) = [keys.development for keys in found if keys.development]
    assert await accepts(database, known)


async def test_development_key_serves_every_database_of_its_folder(
    database: Database, server_dsn: str, template: str, tmp_path: Path
) -> None:
    async with copied(server_dsn, template) as other_dsn:
        dsns = (database.dsn, other_dsn, database.dsn)
        found = [await open_keys(Settings(database_url=dsn, data_dir=tmp_path)) for dsn in dsns]
    assert found[0] == found[1] == found[2]
    assert found[0].is_alone


async def test_key_in_the_folder_is_kept_when_another_database_has_another_development_key(
    database: Database, server_dsn: str, template: str, tmp_path: Path
) -> None:
    async with copied(server_dsn, template) as other_dsn:
        made = await open_keys(Settings(database_url=other_dsn, data_dir=tmp_path))
        await store_own(database, "tg_own")
        assert (await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))).is_unknown
        assert await open_keys(Settings(database_url=other_dsn, data_dir=tmp_path)) == made
    assert await accepts(database, "tg_own")


async def test_development_key_is_not_made_when_there_are_keys(database: Database, tmp_path: Path) -> None:
    of_environment = Settings(database_url=database.dsn, data_dir=tmp_path, api_key_ws="w")
    assert await open_keys(of_environment) == Keys([], None, ["API_KEY_WS"])
    await create_key(database.pool, "screen", frozenset({"live"}), {})
    assert await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path)) == Keys(["screen"])
    assert find_development_key(tmp_path) is None


@pytest.mark.parametrize("revoked", [False, True], ids=["live", "revoked"])
async def test_development_key_of_another_database_is_not_stored_beside_other_keys(
    database: Database, tmp_path: Path, revoked: bool
) -> None:
    (tmp_path / "development_keys.json").write_text('{"api_key": "tg_kept", "api_key_ws": "tg_kept"}')
    await create_key(database.pool, "me", frozenset({"admin"}), {})
    if revoked:
        await revoke_key(database.pool, "me")
    keys = await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    assert keys == Keys([] if revoked else ["me"])
    assert not await accepts(database, "tg_kept")


async def test_development_key_of_an_earlier_version_goes_on_working(database: Database, tmp_path: Path) -> None:
    (tmp_path / "development_keys.json").write_text('{"api_key": "tg_kept", "api_key_ws": "tg_kept"}')
    keys = await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    assert keys == Keys(["development"], "tg_kept")
    assert await accepts(database, "tg_kept")


async def test_key_file_that_cannot_be_read_is_not_taken_for_a_missing_one(database: Database, tmp_path: Path) -> None:
    (tmp_path / "development_keys.json").mkdir()
    with pytest.raises(IsADirectoryError):
        await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path))
    assert await database.pool.fetchval("SELECT count(*) FROM api_key") == 0


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b'{"api_key":""}', b'{"api_key":"\xff"}'])
def test_a_damaged_key_file_holds_no_key(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "development_keys.json").write_bytes(data)
    assert find_development_key(tmp_path) is None
