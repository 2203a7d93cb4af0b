"""The replica of docker compose: its scripts, run as they are written there, without containers."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from ruamel.yaml import YAML

from app.db.embedded.programs import ensure_programs, make_open_folder
from app.db.pool import connect
from tests.conftest import project_folder
from tests.faults.pair import Member, pair
from tests.ports import free_port

WAIT_S = 30
#: What the image has in its postgresql.conf, and the servers of the tests are given as they start.
SETTINGS = """
shared_preload_libraries = 'timescaledb'
max_worker_processes = 20
max_locks_per_transaction = 256
unix_socket_directories = ''
fsync = off
"""


def script(service: str) -> str:
    """Return the script of a service, as the shell gets it."""
    services: dict[str, Any] = YAML(typ="safe").load(project_folder() / "docker-compose.yml")["services"]
    assert services[service]["entrypoint"] == ["sh", "-ec"]
    (text,) = services[service]["command"]
    return str(text).replace("$$", "$")


def environment(primary: Member, data: Path) -> dict[str, str]:
    """Return the variables of both services; programs of PostgreSQL are found as in the image."""
    return {
        "PATH": f"{ensure_programs(lambda line: None).bin}:{os.environ['PATH']}",
        "PGHOST": f"127.0.0.1 port={primary.port}",
        "PGUSER": "tidegauge",
        "PGPASSWORD": primary.cluster.credentials().password,
        "PGDATABASE": "tidegauge",
        "PGDATA": str(data),
    }


@contextmanager
def running_replica(primary: Member, standby: Member) -> Iterator[str]:
    """Run the script of the replica, as the user that the servers run as; yield the replica's address."""
    account = standby.cluster.account
    user = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    port = free_port()
    data = standby.cluster.folder / "replica"
    make_open_folder(standby.cluster.folder)
    data.mkdir(mode=0o700)
    (data / "unfinished").mkdir()  # as an interrupted copy leaves it
    if account:
        for path in (data, data / "unfinished"):
            os.chown(path, *account)
    variables = {**environment(primary, data), "PGPORT": str(port)}
    process = subprocess.Popen(
        ["sh", "-ec", script("replica")],
        cwd="/",
        env=variables,
        stderr=subprocess.DEVNULL,
        **user,  # type: ignore[call-overload]
    )
    try:
        yield primary.dsn.replace(f":{primary.port}/", f":{port}/")
    finally:
        process.kill()
        process.wait()


async def test_replica_follows_when_the_scripts_of_compose_have_run_twice(tmp_path: Path) -> None:
    with pair(tmp_path) as servers:
        await servers.create()
        primary = servers.primary
        rules = primary.cluster.data / "pg_hba.conf"
        given = rules.read_text()
        # Without the rule that initdb makes for the host itself, as in the image, where the replica is another host.
        rules.write_text("\n".join(line for line in given.splitlines() if "replication" not in line) + "\n")
        with (primary.cluster.data / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        variables = {**environment(primary, primary.cluster.data), "PGHOST": "127.0.0.1", "PGPORT": str(primary.port)}
        for _ in range(2):
            subprocess.run(["sh", "-ec", script("replica-setup")], env=variables, check=True, stdout=subprocess.DEVNULL)
        assert rules.read_text().count("host replication tidegauge samenet scram-sha-256\n") == 1
        connection = await connect(primary.dsn)
        try:
            assert await connection.fetchval("SHOW wal_keep_size") == "1GB"
            with running_replica(primary, servers.standby) as replica:
                await connection.execute("CREATE TABLE proof AS SELECT 42 AS number")
                assert await _read(replica) == (42, True)
                assert await connection.fetchval("SELECT application_name FROM pg_stat_replication") == "replica"
        finally:
            await connection.close()


async def _read(dsn: str) -> tuple[int, bool]:
    """Read the row once the replica has it, and whether the server only reads."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                connection = await connect(dsn, writes=False)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
                continue
            try:
                row = await connection.fetchrow("SELECT number, pg_is_in_recovery() FROM proof")
                assert row is not None
                return row[0], row[1]
            except asyncpg.UndefinedTableError:
                await asyncio.sleep(0.05)
            finally:
                await connection.close()
