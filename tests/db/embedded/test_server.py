import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db.embedded.__main__ import main
from app.db.embedded.cluster import Cluster, cluster_folder, open_cluster
from app.db.embedded.programs import SYSTEM_FOLDER, EmbeddedServerError, ensure_programs
from app.db.embedded.server import EmbeddedServer
from tests.conftest import project_folder

#: One worker runs all tests of this module, so that they share one server.
pytestmark = pytest.mark.xdist_group("embedded")

CHECKOUT = project_folder()
OPTIONS = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}
#: Starts a server on the folder in the first argument, prints its address, and stops it at the end of standard input.
HOLDER = """
import json, sys
from pathlib import Path
from app.db.embedded.server import EmbeddedServer

with EmbeddedServer.start(Path(sys.argv[1]), options=json.loads(sys.argv[2])) as server:
    print(server.dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def new_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """A function that returns a new folder name with a space and a non-ASCII letter; root's data are deleted later."""
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path_factory.mktemp("sea level") / "Pegelstände")
        return made[-1]

    yield make
    for data_dir in made:
        for folder in cluster_folder(data_dir).parent.glob(f"{cluster_folder(data_dir).name}*"):
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(new_data_dir: Callable[[], Path]) -> Iterator[EmbeddedServer]:
    """A server that several tests share and that they must leave running."""
    with EmbeddedServer.start(new_data_dir(), options=OPTIONS) as started:
        yield started


@pytest.fixture(scope="module")
def data_dir(new_data_dir: Callable[[], Path]) -> Path:
    """A folder on which tests start servers one after the other."""
    return new_data_dir()


def test_server_has_the_extension_when_started(server: EmbeddedServer) -> None:
    assert _ask(server.dsn, "SELECT extname FROM pg_extension WHERE extname = 'timescaledb'") == "timescaledb"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "UTC"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("timescaledb.telemetry_level", "off"),
        ("jit", "off"),
        ("max_connections", "20"),
    ],
)
def test_server_has_the_setting_when_started(server: EmbeddedServer, setting: str, value: str) -> None:
    assert _ask(server.dsn, f"SHOW {setting}") == value


def test_server_is_durable_when_no_option_says_otherwise(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir) as server:
        settings = "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN "
        assert _ask(server.dsn, settings + "('fsync', 'full_page_writes', 'synchronous_commit')") == "on on on"


def test_server_refuses_a_client_when_the_password_is_wrong(server: EmbeddedServer) -> None:
    user, _, address = server.dsn.rpartition("@")
    with pytest.raises(asyncpg.InvalidPasswordError):
        _ask(f"{user.rpartition(':')[0]}:wrong@{address}", "SELECT 1")


def test_address_is_in_a_private_file_when_the_server_runs(server: EmbeddedServer) -> None:
    folder = server.data_dir
    assert json.loads((folder / "dsn.json").read_text()) == {"dsn": server.dsn}
    assert (folder / "dsn.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_data_are_unreadable_for_other_users_when_the_server_runs(server: EmbeddedServer) -> None:
    data = server.data_dir / "postgres/data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert data.stat().st_uid != 0


def test_server_has_a_session_of_its_own_when_started(server: EmbeddedServer) -> None:
    assert {os.getsid(pid) for pid in _processes(server.data_dir)}.isdisjoint({os.getsid(0)})


def test_start_is_refused_when_another_process_uses_the_folder(server: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match=f"in use by another Tidegauge, process {os.getpid()}"):
        EmbeddedServer.start(server.data_dir, options=OPTIONS)
    assert _ask(server.dsn, "SELECT 1") == 1


def test_restart_does_nothing_when_the_server_is_alive(server: EmbeddedServer) -> None:
    assert server.is_alive()
    assert server.restart_if_dead() is False


def test_two_servers_are_independent_when_one_starts_and_stops(server: EmbeddedServer, data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as other:
        assert other.dsn != server.dsn
        assert set(_processes(other.data_dir)).isdisjoint(_processes(server.data_dir))
        _ask(other.dsn, "CREATE TABLE only_there ()")
    assert _ask(server.dsn, "SELECT to_regclass('only_there')::text") is None


async def test_server_starts_and_stops_when_an_event_loop_runs(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.close()


def test_stop_leaves_no_process_and_no_address_when_clients_are_connected(data_dir: Path) -> None:
    server = EmbeddedServer.start(data_dir, options=OPTIONS)
    processes = _processes(data_dir)
    with _connected(server.dsn):
        server.stop()
    assert len(processes) > 3
    assert [pid for pid in processes if _runs(pid)] == []
    assert not (data_dir / "dsn.json").exists()
    assert not server.is_alive()
    assert server.restart_if_dead() is False


def test_second_start_is_quick_and_has_the_data_when_the_first_was_stopped(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as first:
        _store_answer(first.dsn)
    said: list[str] = []
    started = time.monotonic()
    with EmbeddedServer.start(data_dir, say=said.append, options=OPTIONS) as second:
        assert time.monotonic() - started < 5
        assert second.dsn == first.dsn
        assert _ask(second.dsn, "SELECT answer FROM stored") == 42
    assert said == []


def test_start_takes_another_port_when_its_own_is_taken(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as first:
        port = _port(first.dsn)
    with (
        closing(socket.create_server(("127.0.0.1", port))),
        EmbeddedServer.start(data_dir, options=OPTIONS) as second,
    ):
        assert _port(second.dsn) != port
        assert _ask(second.dsn, "SELECT 1") == 1


def test_start_creates_an_empty_database_when_the_folder_was_deleted(new_data_dir: Callable[[], Path]) -> None:
    data_dir = new_data_dir()
    with EmbeddedServer.start(data_dir, options=OPTIONS) as first:
        _ask(first.dsn, "CREATE TABLE gone ()")
    shutil.rmtree(data_dir)
    with EmbeddedServer.start(data_dir, options=OPTIONS) as second:
        assert _ask(second.dsn, "SELECT to_regclass('gone')::text") is None


def test_start_creates_an_empty_database_when_the_first_creation_was_interrupted(
    new_data_dir: Callable[[], Path],
) -> None:
    data_dir = new_data_dir()
    data_dir.mkdir(mode=0o700)
    folder = open_cluster(data_dir, print).folder
    (folder / "unfinished/base").mkdir(parents=True)
    with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
        assert _ask(server.dsn, "SELECT 1") == 1
    assert not (folder / "unfinished").exists()


def test_start_quotes_the_log_and_unlocks_the_folder_when_postgres_refuses(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match='invalid value for parameter "shared_buffers": "plenty"'):
        EmbeddedServer.start(data_dir, options={**OPTIONS, "shared_buffers": "plenty"})
    EmbeddedServer.start(data_dir, options=OPTIONS).stop()


def test_start_names_the_folder_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"cannot use DATA_DIR .*/file/data: .*Not a directory"):
        EmbeddedServer.start(tmp_path / "file/data")


def test_start_says_what_to_do_when_the_password_is_lost(data_dir: Path) -> None:
    EmbeddedServer.start(data_dir, options=OPTIONS).stop()
    credentials = data_dir / "postgres/credentials.json"
    lost = credentials.rename(credentials.with_name("lost"))
    with pytest.raises(EmbeddedServerError, match=r"credentials\.json is missing or damaged.* move .* away"):
        EmbeddedServer.start(data_dir, options=OPTIONS)
    lost.rename(credentials)


def test_restart_brings_back_committed_data_when_the_server_was_killed(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
        _store_answer(server.dsn)
        os.kill(_postmaster(data_dir), signal.SIGKILL)
        _wait_until(lambda: not server.is_alive())
        assert server.restart_if_dead() is True
        assert _ask(server.dsn, "SELECT answer FROM stored") == 42


def test_no_server_is_left_when_its_parent_was_killed(data_dir: Path) -> None:
    with _holder(data_dir) as (holder, dsn):
        _store_answer(dsn)
        postmaster = _postmaster(data_dir)
        holder.kill()
        _wait_until(lambda: not _runs(postmaster))
        assert _processes(data_dir) == []


def test_start_recovers_when_the_earlier_server_is_still_stopping(data_dir: Path) -> None:
    with _holder(data_dir) as (holder, dsn), _connected(dsn):
        _store_answer(dsn)
        holder.kill()
        holder.wait()
        with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
            assert server.dsn == dsn
            assert _ask(server.dsn, "SELECT answer FROM stored") == 42


def test_start_recovers_when_everything_was_killed(data_dir: Path) -> None:
    with _holder(data_dir) as (holder, dsn):
        _store_answer(dsn)
        os.kill(_postmaster(data_dir), signal.SIGKILL)
        holder.kill()
        holder.wait()
    assert (data_dir / "dsn.json").exists()
    with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
        assert _ask(server.dsn, "SELECT answer FROM stored") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become an ordinary user")
def test_ordinary_user_has_separate_programs_and_data_when_root_has_some() -> None:
    user = pwd.getpwnam("nobody")
    with _home_of(user) as home:
        programs = _copy_programs(home / "cache/tidegauge")
        data_dir = home / "data"
        with _holder(data_dir, _python_for(user), user, home) as (holder, dsn):
            assert _ask(dsn, "SELECT 1") == 1
            processes = _processes(data_dir)
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in processes} == {user.pw_uid}
            assert Path(f"/proc/{_postmaster(data_dir)}/exe").resolve().is_relative_to(programs)
            _end(holder)
        assert [pid for pid in processes if _runs(pid)] == []
        assert not (data_dir / "dsn.json").exists()
        assert (data_dir / "postgres/data").is_dir()
        assert not (data_dir / "postgres").is_symlink()


def test_start_succeeds_when_the_pid_file_names_another_process(server: EmbeddedServer, data_dir: Path) -> None:
    EmbeddedServer.start(data_dir, options=OPTIONS).stop()
    foreign = (server.data_dir / "postgres/data/postmaster.pid").read_text()
    (data_dir / "postgres/data/postmaster.pid").write_text(foreign)
    with EmbeddedServer.start(data_dir, options=OPTIONS) as started:
        assert _ask(started.dsn, "SELECT 1") == 1


async def test_restarted_server_keeps_running_when_the_thread_that_restarted_it_ended(data_dir: Path) -> None:
    with EmbeddedServer.start(data_dir, options=OPTIONS) as server:
        os.kill(_postmaster(data_dir), signal.SIGKILL)
        _wait_until(lambda: not server.is_alive())
        thread = threading.Thread(target=server.restart_if_dead)
        thread.start()
        thread.join()
        connection = await asyncpg.connect(server.dsn)
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT pg_sleep(60)", timeout=0.5)
        assert await connection.fetchval("SELECT 42") == 42
        await connection.close()


def test_stop_is_clean_when_the_parent_ends_by_itself(data_dir: Path) -> None:
    with _holder(data_dir) as (holder, _):
        _end(holder)
    assert "database system is shut down" in (data_dir / "postgres.log").read_text()
    assert _processes(data_dir) == []


def test_setup_fetches_nothing_when_a_database_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@127.0.0.1:5432/name")
    assert main() == 0
    assert capsys.readouterr().err == "DATABASE_URL is set: no embedded server is needed.\n"


def _ask(dsn: str, query: str) -> Any:
    """Run a query over a new connection; return its first value, or None."""

    async def ask() -> Any:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(ask())


def _store_answer(dsn: str) -> None:
    """Store the value 42 in the table `stored`."""
    _ask(dsn, "DROP TABLE IF EXISTS stored")
    _ask(dsn, "CREATE TABLE stored AS SELECT 42 AS answer")


@contextmanager
def _connected(dsn: str) -> Iterator[None]:
    """Keep a connection open until the block ends, then end it without closing it."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        connection = runner.run(asyncpg.connect(dsn, timeout=10))
        yield
        connection.terminate()


def _port(dsn: str) -> int:
    return int(dsn.rpartition(":")[2].partition("/")[0])


def _processes(data_dir: Path) -> list[int]:
    return Cluster((data_dir / "postgres").resolve(), None).processes()


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/data/postmaster.pid").read_text().splitlines()[0])


def _runs(pid: int) -> bool:
    """Return whether a process runs; a zombie does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def _holder(
    data_dir: Path,
    python: tuple[str, str] = (sys.executable, str(CHECKOUT)),
    user: pwd.struct_passwd | None = None,
    home: Path | None = None,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a process that runs a server, with `python` as (program, PYTHONPATH); yield the process and the address."""
    program, path = python
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path}
    identity: dict[str, Any] = {}
    if user:
        environment |= {"HOME": str(home), "XDG_CACHE_HOME": f"{home}/cache"}
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    command = [program, "-c", HOLDER, str(data_dir), json.dumps(OPTIONS)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=home or CHECKOUT,
        **identity,
    ) as holder:
        assert holder.stdout
        try:
            dsn = holder.stdout.readline().strip()
            assert dsn
            yield holder, dsn
        finally:
            holder.kill()


def _end(holder: subprocess.Popen[str]) -> None:
    """End a holder's input, and wait until it has stopped its server and ended."""
    assert holder.stdin
    holder.stdin.close()
    assert holder.wait(30) == 0


@contextmanager
def _home_of(user: pwd.struct_passwd) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        yield Path(folder)


def _copy_programs(cache: Path) -> Path:
    """Copy root's private copy for a user, to avoid a download; return the folder of the programs."""
    programs = ensure_programs(print)
    if not programs.bin.is_relative_to(SYSTEM_FOLDER):
        return programs.bin.parent
    name = programs.bin.relative_to(SYSTEM_FOLDER).parts[0]
    shutil.copytree(SYSTEM_FOLDER / name, cache / name, symlinks=True)
    return cache


def _python_for(user: pwd.struct_passwd) -> tuple[str, str]:
    """Return a Python and a PYTHONPATH with which a user can run Tidegauge; root's home may be closed to the user."""
    packages = Path(asyncpg.__file__).parents[1]
    for program in (sys.executable, shutil.which("python3", path=os.defpath)):
        path = f"{CHECKOUT}:{packages}"
        if program and _can_import(program, path, user):
            return program, path
    pytest.skip("no Python, or not this checkout, can be read by an ordinary user")


def _can_import(program: str, path: str, user: pwd.struct_passwd) -> bool:
    try:
        tried = subprocess.run(
            [program, "-c", "import app.db.embedded.server"],
            env={"PYTHONPATH": path},
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return tried.returncode == 0
