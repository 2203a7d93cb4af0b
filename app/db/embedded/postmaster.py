"""One run of a PostgreSQL server as our child: start, readiness, stop."""

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

#: What a small machine bears and TimescaleDB needs; durability stays as PostgreSQL has it: on.
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
    # The log has to stay small by itself. Errors of statements are told to the client that sent them, and a
    # duplicate reading is such an error; what the server itself meets is LOG, FATAL or PANIC.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
#: Replaying what `max_wal_size` allows, on a slow disk.
_RECOVERY_TIMEOUT_S = 300.0
_FAST_STOP_TIMEOUT_S = 60.0
_IMMEDIATE_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02

#: Starts every server, since a server ends with the thread that started it, and this one lasts.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postmaster")


class Postmaster:
    """A running server; not yet ready to answer until `wait_until_ready` returns."""

    def __init__(self, programs: Programs, cluster: Cluster, port: int, options: Mapping[str, str], log: Path) -> None:
        """Start the server; its output goes to `log`, and what was there moves to `log` + `.1`."""
        self._cluster = cluster
        self._log = log
        settings = {**_SETTINGS, "port": str(port), **options}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        command = launch_command(
            "SIGINT", cluster.account, programs.path("postgres"), "-D", str(cluster.data), *arguments
        )
        self._process = _starter.submit(_spawn, command, log).result()

    def is_alive(self) -> bool:
        """Tell whether the server still runs."""
        return self._process.poll() is None

    def wait_until_ready(self, say: Say) -> None:
        """Wait for recovery to end; raises EmbeddedServerError, and stops the server, when it does not."""
        started = time.monotonic()
        told = False
        while not self._is_ready():
            elapsed_s = time.monotonic() - started
            if not self.is_alive() or elapsed_s > _RECOVERY_TIMEOUT_S:
                self.stop()
                raise EmbeddedServerError(f"PostgreSQL did not start. {self.last_words()}")
            if elapsed_s > 5 and not told:
                say("PostgreSQL is still recovering from having been cut off ...")
                told = True
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Shut down cleanly: clients are disconnected, everything is on disk when this returns."""
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

    def last_words(self) -> str:
        """Quote the end of the server's log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        return "\n  ".join([f"The last lines of {self._log}:", *lines])

    def _is_ready(self) -> bool:
        """Read the state that the server writes into its eighth line, as pg_ctl does."""
        try:
            lines = (self._cluster.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start in a session of its own, so that Ctrl-C in the terminal is ours to handle."""
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
