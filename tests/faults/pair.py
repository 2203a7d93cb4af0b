"""Two PostgreSQL servers, of which one follows the other: a primary that waits for its standby, and the standby."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.db.embedded.cluster import NAME, Cluster, cluster_folder, open_cluster
from app.db.embedded.launcher import launch_command
from app.db.embedded.postmaster import Postmaster
from app.db.embedded.programs import Programs, ensure_programs
from app.db.pool import connect
from tests.ports import free_port

#: Names the standby in synchronous_standby_names.
STANDBY = "standby"
_OPTIONS = {"fsync": "off", "timescaledb.max_background_workers": "0", "shared_buffers": "64MB"}


class Member:
    """One of the servers; its address stays the same."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        folder.mkdir()
        self.cluster: Cluster = open_cluster(folder, say=lambda line: None)
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._postmaster: Postmaster | None = None

    @property
    def dsn(self) -> str:
        """Return the address of this server."""
        password = self.cluster.credentials().password
        return f"postgresql://{NAME}:{password}@127.0.0.1:{self.port}/{NAME}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = self._folder / "postgres.log"
        self._postmaster = Postmaster(self._programs, self.cluster, self.port, _OPTIONS, log)
        self._postmaster.wait_until_ready(lambda line: None)

    def kill(self) -> None:
        """Kill all its processes at once, as when its host loses power."""
        for pid in self.cluster.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop it if it runs, and delete its data."""
        if self._postmaster is not None:
            self.kill()
            self._postmaster.stop()
        shutil.rmtree(cluster_folder(self._folder), ignore_errors=True)

    def copy_from(self, primary: "Member") -> None:
        """Become a standby of a running server, by pg_basebackup."""
        self.cluster.store_credentials(primary.cluster.credentials())
        data = self.cluster.data
        data.mkdir(mode=0o700)
        if self.cluster.account:
            os.chown(data, *self.cluster.account)
        source = f"{primary.dsn.rpartition('/')[0]}/?application_name={STANDBY}"
        options = ("--pgdata", str(data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", source)
        command = launch_command("SIGKILL", self.cluster.account, self._programs.path("pg_basebackup"), *options)
        ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr


class Pair:
    """The primary, and the standby that it waits for."""

    def __init__(self, primary: Member, standby: Member) -> None:
        self.primary = primary
        self.standby = standby

    @property
    def dsn(self) -> str:
        """Return the address of whichever of both writes."""
        standby = f"127.0.0.1:{self.standby.port}"
        host, _, name = self.primary.dsn.rpartition("/")
        return f"{host},{standby}/{name}?target_session_attrs=read-write"

    async def create(self) -> None:
        """Create an empty database on the primary."""
        connection = await connect(f"{self.primary.dsn.rpartition('/')[0]}/postgres")
        try:
            await connection.execute(f"CREATE DATABASE {NAME}")
        finally:
            await connection.close()

    async def follow(self) -> None:
        """Let the standby follow, and every commit of the primary wait for it from now on."""
        self.standby.copy_from(self.primary)
        self.standby.start()
        connection = await connect(self.primary.dsn)
        try:
            await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            await connection.execute("SELECT pg_reload_conf()")
            synchronous = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
            while not await connection.fetchval(synchronous):
                await connection.execute("SELECT pg_sleep(0.05)")
        finally:
            await connection.close()

    async def promote(self) -> None:
        """Make the standby a primary and wait until it is one."""
        connection = await connect(self.standby.dsn, writes=False)
        try:
            assert await connection.fetchval("SELECT pg_promote(wait => TRUE, wait_seconds => 30)")
        finally:
            await connection.close()


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Start a primary, and make a place for its standby, until the block ends."""
    programs = ensure_programs(lambda line: None)
    members = [Member(folder / name, programs) for name in ("a", "b")]
    try:
        members[0].cluster.create(programs, durable=False)
        members[0].start()
        yield Pair(*members)
    finally:
        for member in members:
            member.stop()
