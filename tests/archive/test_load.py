"""Imports that are refused or interrupted: nothing is stored then, or all of it once the import is repeated."""

import asyncio
import signal
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.archive.load import NotEmptyError, import_archive
from app.archive.manifest import ArchiveError
from app.db.migrations import load_migrations
from tests.archive.databases import connected, read_rows, write_archive
from tests.commands.test_transfer import start
from tests.conftest import Database, copied
from tests.db.aggregate_checks import check_aggregates, make_rows, store
from tests.processes import tidegauge

#: Where a test of one process waits for another.
WAIT_S = 60


@pytest.fixture
async def archive(database: Database, tmp_path: Path) -> Path:
    """The archive of a database with one sensor and the readings of three series of 40 days."""
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'key')")
    await database.pool.execute("INSERT INTO series (sensor_id, metric) VALUES (1, 't'), (1, 'u'), (1, 'v')")
    async with database.pool.acquire() as connection:
        await store(connection, make_rows(datetime.now(UTC)))
    path = tmp_path / "all.tar"
    await write_archive(database.dsn, path)
    return path


@pytest.fixture
async def target(server_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of a second database, migrated and empty."""
    async with copied(server_dsn, template) as dsn:
        yield dsn


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a plain tar."""
    with tarfile.open(path) as tar:
        files = [(entry, tar.extractfile(entry)) for entry in tar.getmembers()]
        contents = [(entry, file.read()) for entry, file in files if file is not None]
    with tarfile.open(path, "w") as tar:
        for entry, data in contents:
            if entry.name == "manifest.json":
                manifest = msgspec.json.decode(data)
                change(manifest)
                data = msgspec.json.encode(manifest)
            changed = tarfile.TarInfo(entry.name)
            changed.size = len(data)
            tar.addfile(changed, BytesIO(data))


def add_column(manifest: dict[str, Any]) -> None:
    manifest["tables"][0]["columns"].append("shoe_size")


def add_table(manifest: dict[str, Any]) -> None:
    manifest["tables"].append({"name": "pg_authid", "columns": ["a"], "rows": 0, "files": []})


def add_rows(manifest: dict[str, Any]) -> None:
    manifest["tables"][0]["rows"] = 2


NEWEST = len(load_migrations())
TOO_NEW = (
    f"It has schema {NEWEST + 1}, written by Tidegauge 9.9.9, and this version knows {NEWEST}; import it with that "
    "version or a newer one"
)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (add_column, "Its table sensor has a column 'shoe_size', which this version of Tidegauge does not import"),
        (add_table, "It has a table 'pg_authid', which this version of Tidegauge does not import"),
        (add_rows, "Its table sensor has 1 rows, and manifest.json says 2"),
        (
            lambda manifest: manifest.update(schema_version=NEWEST + 1, tidegauge="9.9.9"),
            TOO_NEW,
        ),
        (
            lambda manifest: manifest.update(format=2),
            "It was written by a newer version of Tidegauge; import it with that version",
        ),
        (
            lambda manifest: manifest["tables"][0]["files"][0].update(sha256="0" * 64),
            "The file sensor.csv is damaged: its SHA-256 is not that of manifest.json",
        ),
        (lambda manifest: manifest["tables"].pop(0), "manifest.json does not name the file sensor.csv"),
        (
            lambda manifest: manifest["tables"][0]["files"][0].update(name="other.csv"),
            "The file other.csv is missing",
        ),
    ],
)
async def test_archive_is_refused_and_nothing_stored_when_its_manifest_does_not_fit(
    archive: Path, target: str, change: Callable[[dict[str, Any]], None], refusal: str
) -> None:
    change_manifest(archive, change)
    before = await read_rows(target)
    with pytest.raises(ArchiveError) as error:
        await import_archive(archive, target)
    assert str(error.value) == refusal
    assert await read_rows(target) == before


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst"])
async def test_archive_is_refused_when_its_end_is_missing(
    archive: Path, database: Database, target: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"cut{suffix}"
    await write_archive(database.dsn, path)
    whole = path.read_bytes()
    for size in (len(whole) // 3, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:size])
        with pytest.raises(ArchiveError, match="incomplete"):
            await import_archive(path, target)


async def test_import_is_refused_in_one_line_when_the_database_is_not_empty(
    archive: Path, database: Database, tmp_path: Path
) -> None:
    ran = await asyncio.to_thread(tidegauge, tmp_path, "import", "all.tar", DATABASE_URL=database.dsn)
    readings = await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'")
    assert ran.refusal == (
        f"The database is not empty: It has rows already: 1 in sensor, 3 in series, {readings} in reading. Import into "
        "an empty database, which createdb makes, or the first `tidegauge up` with another DATA_DIR"
    )


@pytest.mark.parametrize(("stored_keys", "labels"), [(["gateway"], ["gateway"]), ([], ["development"])])
async def test_development_key_gives_way_when_the_archive_has_keys(
    database: Database, target: str, tmp_path: Path, stored_keys: list[str], labels: list[str]
) -> None:
    insert = "INSERT INTO api_key (sha256, label, scopes) VALUES (sha256($1::text::bytea), $1, '{read}')"
    for label in stored_keys:
        await database.pool.execute(insert, label)
    await write_archive(database.dsn, tmp_path / "all.tar")
    async with connected(target) as connection:
        await connection.execute(insert, "development")
        await import_archive(tmp_path / "all.tar", target)
        rows = await connection.fetch("SELECT label FROM api_key")
        assert [row["label"] for row in rows] == labels
        await connection.execute(insert, "later")  # the numbers go on
        await write_archive(database.dsn, tmp_path / "other.tar")
        with pytest.raises(NotEmptyError, match=r"It has rows already: \d in api_key\."):
            await import_archive(tmp_path / "other.tar", target)


async def test_nothing_is_stored_when_an_import_is_killed_before_its_commit(
    archive: Path, target: str, tmp_path: Path
) -> None:
    before = await read_rows(target)
    async with connected(target) as blocker:
        await blocker.execute("BEGIN; SELECT FROM reading_1d")  # keeps the aggregates from being replaced
        await _kill_import_when(
            target,
            tmp_path,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'reading_1d'::regclass)",
        )
        await blocker.execute("ROLLBACK")
    await _wait_until_gone(target)
    assert await read_rows(target) == before
    await _check_imported_at_last(target, tmp_path, "imported ")


async def test_import_is_completed_by_the_next_when_it_is_killed_after_its_commit(
    archive: Path, target: str, tmp_path: Path
) -> None:
    async with connected(target) as blocker:
        # The aggregates are filled once all earlier transactions that have written something are over.
        await blocker.execute("BEGIN; INSERT INTO rule_problem VALUES (1, 'open')")
        await _kill_import_when(target, tmp_path, "SELECT EXISTS (SELECT FROM archive_import)")
        await blocker.execute("ROLLBACK")
    await _check_imported_at_last(target, tmp_path, "imported already at ")


async def _kill_import_when(dsn: str, folder: Path, condition: str) -> None:
    process = await start(folder, "import", "all.tar", dsn=dsn)
    async with connected(dsn) as connection, asyncio.timeout(WAIT_S):
        while not await connection.fetchval(condition):
            assert process.returncode is None
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def _wait_until_gone(dsn: str) -> None:
    """Wait until the server has noticed the end of the process."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with connected(dsn) as connection, asyncio.timeout(WAIT_S):
        while await connection.fetchval(f"{others} AND backend_type = 'client backend'"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _check_imported_at_last(dsn: str, folder: Path, beginning: str) -> None:
    for expected in (beginning, "imported already at "):
        ran = await asyncio.to_thread(tidegauge, folder, "import", "all.tar", DATABASE_URL=dsn)
        assert (ran.code, ran.out.startswith(expected)) == (0, True), ran
        async with connected(dsn) as connection:
            await check_aggregates(connection)
            assert await connection.fetchval("SELECT obj_description('reading_1d'::regclass, 'pg_class') IS NOT NULL")


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (
            ("--all", "all.zip"),
            "Invalid request: --all is 'all.zip'; write a name that ends in .tar, .tar.gz or .tar.zst, or -",
        ),
        (
            ("--all", "all.tar", "--sensor", "a"),
            "Invalid request: --all exports everything to the file that it names; leave out the other options",
        ),
    ],
)
async def test_export_is_refused_in_one_line_when_its_options_do_not_fit(
    database: Database, tmp_path: Path, arguments: tuple[str, ...], refusal: str
) -> None:
    ran = await asyncio.to_thread(tidegauge, tmp_path, "export", *arguments, DATABASE_URL=database.dsn)
    assert ran.refusal == refusal
    assert not list(tmp_path.glob("all*"))


async def test_archive_is_for_its_owner_alone_and_is_read_by_content_when_named_otherwise(
    archive: Path, database: Database, target: str, tmp_path: Path
) -> None:
    ran = await asyncio.to_thread(tidegauge, tmp_path, "export", "--all", "own.tar.zst", DATABASE_URL=database.dsn)
    rows = await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'")
    assert (ran.code, ran.out) == (0, f"{rows:,} readings of 1 sensor and everything else in own.tar.zst\n")
    own = tmp_path / "own.tar.zst"
    assert own.stat().st_mode & 0o777 == 0o600
    own.rename(tmp_path / "readings.csv")
    ran = await asyncio.to_thread(tidegauge, tmp_path, "import", "--json", "readings.csv", DATABASE_URL=target)
    assert ran.code == 0, ran
    assert {name: ran.json[name] for name in ("sensors", "readings", "alerts", "imported_before")} == {
        "sensors": 1,
        "readings": rows,
        "alerts": 0,
        "imported_before": None,
    }
