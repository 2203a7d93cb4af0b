"""The embedded server: a private TimescaleDB for one DATA_DIR, which runs until its starting process ends."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Self

import asyncpg
import msgspec

from app.db.embedded.cluster import Cluster, open_cluster, write_private
from app.db.embedded.debian import Say
from app.db.embedded.postmaster import Postmaster
from app.db.embedded.programs import EmbeddedServerError, Programs, ensure_programs
from app.db.pool import DATABASE_ERRORS

#: Ports to choose from: above the well-known ports, below those that Linux assigns to outgoing connections.
_PORTS = range(20_000, 30_000)
_PREDECESSOR_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 30.0
_POLL_S = 0.05


def say_on_stderr(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{line}\n")


class EmbeddedServer:
    """A private TimescaleDB for one DATA_DIR, `data_dir`; `dsn` is its address, with the password.

    While it runs, `DATA_DIR/dsn.json` holds the address for psql, Grafana and tools, `DATA_DIR/postgres` holds
    the data or links to them, and `DATA_DIR/postgres.log` is the server's log. Methods may be called from any
    thread. The server ends with this process, even when this process is killed.
    """

    def __init__(self, data_dir: Path, cluster: Cluster, programs: Programs, lock: IO[str], say: Say) -> None:
        """Use `start`."""
        self.dsn = ""
        self.data_dir = data_dir
        self._cluster = cluster
        self._programs = programs
        self._lock = lock
        self._say = say
        self._options: Mapping[str, str] = {}
        self._postmaster: Postmaster | None = None
        self._changing = threading.Lock()

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        say: Say = say_on_stderr,
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Start the server of `data_dir`, creating an empty database the first time.

        `options` are further settings of PostgreSQL by name. `say` is called with a line of text for each step that
        takes long. Raises EmbeddedServerError.
        """
        data_dir = data_dir.resolve()
        try:
            with contextlib.ExitStack() as undo:
                server = cls._prepare(data_dir, say, durable=options.get("fsync") != "off")
                undo.callback(server.stop)
                server._options = options
                server._launch_on_a_free_port()
                server._open_database()
                undo.pop_all()
        except OSError as error:
            raise EmbeddedServerError(f"The embedded server cannot use DATA_DIR {data_dir}: {error}") from error
        return server

    def stop(self) -> None:
        """Shut the server down cleanly and wait for its end; a second call does nothing."""
        with self._changing:
            try:
                if self._postmaster:
                    self._postmaster.stop()
            finally:
                self._postmaster = None
                (self.data_dir / "dsn.json").unlink(missing_ok=True)
                self._lock.close()

    def is_alive(self) -> bool:
        """Return whether the server process runs."""
        return self._postmaster is not None and self._postmaster.is_alive()

    def restart_if_dead(self) -> bool:
        """Start the server again, at the same address, if it has ended without `stop`; return whether it had.

        It recovers all committed data. Raises EmbeddedServerError when it does not start.
        """
        with self._changing:
            if self._postmaster is None or self._postmaster.is_alive():
                return False
            self._launch()
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    def _prepare(cls, data_dir: Path, say: Say, *, durable: bool) -> Self:
        """Lock DATA_DIR, find the programs, and create a database if there is none."""
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        with contextlib.ExitStack() as undo:
            lock = undo.enter_context(_lock(data_dir))
            (data_dir / "dsn.json").unlink(missing_ok=True)
            cluster = open_cluster(data_dir, say)
            programs = ensure_programs(say, major=cluster.major())
            if cluster.major() is None:
                say(f"Creating an empty database in {cluster.folder} ...")
                cluster.create(programs, durable=durable)
            undo.pop_all()
        return cls(data_dir, cluster, programs, lock, say)

    def _launch_on_a_free_port(self) -> None:
        """Launch on the port of the last run, or on another when it is taken."""
        for _ in range(3):
            credentials = self._cluster.credentials()
            port = _free_port(credentials.port)
            if port != credentials.port:
                credentials = msgspec.structs.replace(credentials, port=port)
                self._cluster.store_credentials(credentials)
            self.dsn = credentials.dsn()
            try:
                return self._launch()
            except EmbeddedServerError:
                if _is_free(port):
                    raise
        raise EmbeddedServerError("Other programs took three ports in a row; start again.")

    def _launch(self) -> None:
        self._await_predecessor()
        self._postmaster = Postmaster(
            self._programs,
            self._cluster,
            self._cluster.credentials().port or 0,
            self._options,
            self.data_dir / "postgres.log",
        )
        self._postmaster.wait_until_ready(self._say)

    def _await_predecessor(self) -> None:
        """Wait for the end of an earlier server that was killed, or whose starting process was killed.

        Then delete its postmaster.pid. The process id in that file may belong to another process by now, or to a
        zombie that no parent has collected, and PostgreSQL would take either for a running server. The lock of
        DATA_DIR keeps other servers away meanwhile.
        """
        deadline = time.monotonic() + _PREDECESSOR_TIMEOUT_S
        while processes := self._cluster.processes():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Process {processes[0]}, a PostgreSQL of an earlier run, still has {self._cluster.data} open "
                    f"after {_PREDECESSOR_TIMEOUT_S:.0f} s. End it (kill -QUIT {processes[0]}) and start again."
                )
            time.sleep(_POLL_S)
        (self._cluster.data / "postmaster.pid").unlink(missing_ok=True)

    def _open_database(self) -> None:
        """Create or update the database and the extension, then write dsn.json; raise EmbeddedServerError."""
        try:
            # In a thread of its own, because the thread of the caller may run an event loop already.
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(asyncio.run, _bring_up_to_date(self.dsn)).result()
        except DATABASE_ERRORS as error:
            raise EmbeddedServerError(f"PostgreSQL runs, but its database cannot be used: {error}") from error
        write_private(self.data_dir / "dsn.json", msgspec.json.encode({"dsn": self.dsn}))


def _lock(data_dir: Path) -> IO[str]:
    """Lock a DATA_DIR until this process ends; raise EmbeddedServerError that names the process with the lock."""
    file = (data_dir / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise EmbeddedServerError(
            f"{data_dir} is in use by another Tidegauge, process {holder}. Stop that one first, or set DATA_DIR "
            "to another folder."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _free_port(preferred: int | None) -> int:
    if preferred and _is_free(preferred):
        return preferred
    drawn = (secrets.choice(_PORTS) for _ in range(1000))
    return next(port for port in drawn if _is_free(port))


def _is_free(port: int) -> bool:
    """Return whether PostgreSQL could bind a port; like PostgreSQL, take one whose last connections are closing."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def _bring_up_to_date(dsn: str) -> None:
    """Create a missing database and a missing extension; update the extension to the version of the programs."""
    try:
        connection = await _connect(dsn)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(dsn)
        connection = await _connect(dsn)
    try:
        # The update must be the first statement of its session, before the old library is loaded.
        await connection.execute("ALTER EXTENSION timescaledb UPDATE")
    except asyncpg.UndefinedObjectError:
        await connection.execute("CREATE EXTENSION timescaledb")
    finally:
        await connection.close()


async def _create_database(dsn: str) -> None:
    connection = await _connect(dsn, database="postgres")
    try:
        await connection.execute("CREATE DATABASE tidegauge")
    finally:
        await connection.close()


async def _connect(dsn: str, database: str | None = None) -> asyncpg.Connection:
    return await asyncpg.connect(
        dsn, database=database, ssl=False, timeout=_ANSWER_TIMEOUT_S, command_timeout=_ANSWER_TIMEOUT_S
    )
