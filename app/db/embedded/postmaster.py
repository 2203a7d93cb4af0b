"""One run of a PostgreSQL server as a child process: start, readiness, stop."""

import signal
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.db.embedded.cluster import Cluster
from app.db.embedded.debian import Say
from app.db.embedded.launcher import launch_command
from app.db.embedded.programs import EmbeddedServerError, Programs

#: Settings for TimescaleDB on a small machine; durability keeps PostgreSQL's default: on.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "8",
    "max_worker_processes": "20",
    "max_connections": "100",
    # A query over years of 1-day chunks locks every one of them and its index.
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    # Compiling costs more than it saves on queries over chunks, and the private copy comes without LLVM.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
    "logging_collector": "off",
    # The log must stay small, because only a start rotates it. Failed statements, such as a duplicate reading, are
    # reported to their client. Problems of the server itself have the level LOG, FATAL or PANIC.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
#: Enough to replay a WAL of `max_wal_size` on a slow disk.
_RECOVERY_TIMEOUT_S = 300.0
_FAST_STOP_TIMEOUT_S = 60.0
_IMMEDIATE_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02

#: The thread that starts every server: a server ends with its starting thread, and this thread lasts until exit.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postmaster")


class Postmaster:
    """A running server; not yet ready to answer until `wait_until_ready` returns."""

    def __init__(self, programs: Programs, cluster: Cluster, port: int, options: Mapping[str, str], log: Path) -> None:
        """Start the server; its output goes to `log`, and an existing `log` is renamed to `log` + `.1`."""
        self._cluster = cluster
        self._log = log
        settings = {**_SETTINGS, "port": str(port), **options}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        command = launch_command(
            "SIGINT", cluster.account, programs.path("postgres"), "-D", str(cluster.data), *arguments
        )
        self._process = _starter.submit(_spawn, command, log).result()

    def is_alive(self) -> bool:
        """Return whether the server process runs."""
        return self._process.poll() is None

    def wait_until_ready(self, say: Say) -> None:
        """Wait for recovery to end; when it does not, stop the server and raise EmbeddedServerError."""
        started = time.monotonic()
        said = False
        while not self._is_ready():
            elapsed_s = time.monotonic() - started
            if not self.is_alive() or elapsed_s > _RECOVERY_TIMEOUT_S:
                self.stop()
                raise EmbeddedServerError(f"PostgreSQL did not start. {self._last_lines()}")
            if elapsed_s > 5 and not said:
                say("PostgreSQL is still recovering from an unclean stop ...")
                said = True
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Disconnect clients and shut down cleanly, with all data on disk; kill a server that does not stop in time."""
        for sign, timeout_s in (
            (signal.SIGINT, _FAST_STOP_TIMEOUT_S),
            (signal.SIGQUIT, _IMMEDIATE_STOP_TIMEOUT_S),
            (signal.SIGKILL, None),
        ):
            self._process.send_signal(sign)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                continue
            return

    def _last_lines(self) -> str:
        """Return the last lines of the server's log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        return "\n  ".join([f"The last lines of {self._log}:", *lines])

    def _is_ready(self) -> bool:
        """Return whether the server accepts connections, by the eighth line of postmaster.pid, as pg_ctl does."""
        try:
            lines = (self._cluster.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that Ctrl-C in the terminal does not reach it."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
