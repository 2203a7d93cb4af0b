import fcntl
from pathlib import Path

import pytest

from app.db.embedded.programs import EmbeddedServerError, Programs, ensure_programs, installed_programs


def _install(root: Path, version: str, *, timescaledb: bool) -> Path:
    """Make the folders of a PostgreSQL as Debian does, with a server that only prints its version."""
    programs = root / f"usr/lib/postgresql/{version}/bin"
    extension = root / f"usr/share/postgresql/{version}/extension"
    modules = root / f"usr/lib/postgresql/{version}/lib"
    for folder in (programs, extension, modules):
        folder.mkdir(parents=True)
    (programs / "initdb").touch()
    (programs / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.4 (Debian)'\n")
    (programs / "postgres").chmod(0o755)
    if timescaledb:
        (extension / "timescaledb.control").touch()
        (modules / "timescaledb.so").touch()
    return programs


def _private_copy(cache: Path) -> Path:
    programs = cache / "postgresql-17/usr/lib/postgresql/17/bin"
    programs.mkdir(parents=True)
    return programs


def _fail_on_output(line: str) -> None:
    pytest.fail(f"said {line!r}")


@pytest.fixture(autouse=True)
def _no_programs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_installed_programs_are_newest_first_when_several_have_timescaledb(tmp_path: Path) -> None:
    old = _install(tmp_path, "9", timescaledb=True)
    new = _install(tmp_path, "17", timescaledb=True)
    assert installed_programs(tmp_path) == [Programs(new, 17), Programs(old, 9)]


def test_installed_programs_are_ignored_when_timescaledb_is_missing(tmp_path: Path) -> None:
    _install(tmp_path, "15", timescaledb=False)
    assert installed_programs(tmp_path) == []


def test_installed_programs_are_ignored_when_only_the_client_is_installed(tmp_path: Path) -> None:
    programs = _install(tmp_path, "16", timescaledb=True)
    (programs / "postgres").unlink()
    assert installed_programs(tmp_path) == []


def test_installed_programs_are_found_when_pg_config_on_path_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    programs = _install(elsewhere, "18", timescaledb=True)
    folders = {
        "bindir": programs,
        "sharedir": elsewhere / "usr/share/postgresql/18",
        "pkglibdir": programs.parent / "lib",
    }
    cases = "".join(f"--{name}) echo '{folder}';;\n" for name, folder in folders.items())
    (programs / "pg_config").write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    (programs / "pg_config").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert installed_programs(tmp_path) == [Programs(programs, 18)]


def test_installed_programs_are_preferred_when_there_is_a_private_copy(tmp_path: Path) -> None:
    installed = _install(tmp_path, "16", timescaledb=True)
    _private_copy(tmp_path / "cache")
    found = ensure_programs(_fail_on_output, cache=tmp_path / "cache", root=tmp_path)
    assert found == Programs(installed, 16)


def test_private_copy_is_used_without_output_when_nothing_is_installed(tmp_path: Path) -> None:
    private = _private_copy(tmp_path / "cache")
    found = ensure_programs(_fail_on_output, cache=tmp_path / "cache", root=tmp_path)
    assert found == Programs(private, 17)


def test_private_copy_is_used_when_only_its_version_can_read_the_data(tmp_path: Path) -> None:
    _install(tmp_path, "18", timescaledb=True)
    private = _private_copy(tmp_path / "cache")
    found = ensure_programs(_fail_on_output, major=17, cache=tmp_path / "cache", root=tmp_path)
    assert found == Programs(private, 17)


def test_programs_are_refused_when_no_version_can_read_the_data(tmp_path: Path) -> None:
    _private_copy(tmp_path / "cache")
    with pytest.raises(
        EmbeddedServerError, match=r"written by PostgreSQL 16, and no PostgreSQL 16 .*`docker compose up`"
    ):
        ensure_programs(_fail_on_output, major=16, cache=tmp_path / "cache", root=tmp_path)


def test_programs_are_refused_with_the_remedies_when_there_is_neither_server_nor_apt(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError) as refusal:
        ensure_programs(_fail_on_output, cache=tmp_path / "cache", root=tmp_path)
    assert str(refusal.value) == (
        "There is no database to run on: DATABASE_URL is not set, and no installed PostgreSQL has TimescaleDB (looked "
        "in /usr/lib/postgresql, /usr/pgsql-* and pg_config on PATH), and none could be fetched into "
        f"{tmp_path}/cache/postgresql-17: this machine has no apt-get. Either run `docker compose up`, which brings "
        "TimescaleDB along, or set DATABASE_URL=postgresql://user:password@host:5432/name to a TimescaleDB that runs "
        "already."
    )


def test_programs_are_refused_with_the_remedies_when_the_system_is_not_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(
        EmbeddedServerError, match=r"Linux only, and this is darwin\. .*`docker compose up`.*DATABASE_URL="
    ):
        ensure_programs(_fail_on_output, cache=tmp_path / "cache", root=tmp_path)


def test_programs_are_refused_with_the_path_when_the_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"fetched into .*/file/cache/postgresql-17: .*File exists"):
        ensure_programs(_fail_on_output, cache=tmp_path / "file/cache", root=tmp_path)


def test_programs_are_not_fetched_again_when_another_process_has_fetched_them(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    said: list[str] = []
    with (cache / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def finish_other_fetch(line: str) -> None:
            said.append(line)
            _private_copy(cache)
            fcntl.flock(other, fcntl.LOCK_UN)

        found = ensure_programs(finish_other_fetch, cache=cache, root=tmp_path)
    assert found.bin.is_relative_to(cache)
    assert said == ["Waiting for another process that is fetching PostgreSQL ..."]
