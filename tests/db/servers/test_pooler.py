"""PgBouncer between Tidegauge and the database: session mode works, other modes are refused at the start."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pytest

from app.db.pool import connect
from app.db.servers.pooler import refuse_transaction_pooling
from app.errors import SettingsError
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, running_server, wait_until
from tests.live.clients import live
from tests.ports import free_port
from tests.processes import keys, tidegauge

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
REMEDY = (
    "DATABASE_URL leads through a pooler in transaction or statement mode, which loses LISTEN and locks. Set "
    "pool_mode = session for this database, or name PostgreSQL's own address"
)
#: Opens a pooler with these lines of its configuration; yields the address of the test's database through it.
Pooler = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def pooler(database: Database, tmp_path: Path) -> Pooler:
    return lambda *lines: _pooler(database.dsn, tmp_path, lines)


async def test_sessions_are_accepted_when_there_is_no_pooler(database: Database) -> None:
    await refuse_transaction_pooling("DATABASE_URL", database.dsn)


@needs_pgbouncer
async def test_server_stores_and_pushes_readings_through_a_pooler_in_session_mode(pooler: Pooler) -> None:
    async with pooler("pool_mode = session") as dsn:
        await refuse_transaction_pooling("DATABASE_URL", dsn)
        settings = Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
        async with running_server(settings) as server, live(server) as client:
            await client.snapshot()
            assert (await server.post_readings([{"sensor": "s", "values": {"m": 1}}])).status == 200
            assert [value[3] for value in await client.values(1)] == [1]
            await wait_until(lambda: server.worker.lease.held)
        connection = await connect(dsn)
        assert await connection.fetchval("SHOW lock_timeout") == "15s"
        await connection.close()


@needs_pgbouncer
@pytest.mark.parametrize(
    "lines",
    [
        ("pool_mode = transaction",),
        ("pool_mode = transaction", "server_round_robin = 1"),
        ("pool_mode = transaction", "server_round_robin = 1", "min_pool_size = 3"),
        ("pool_mode = statement",),
    ],
    ids=["transaction", "transaction, round robin", "transaction, several servers", "statement"],
)
async def test_pooler_is_refused_when_sessions_do_not_keep_their_server(pooler: Pooler, lines: tuple[str, ...]) -> None:
    async with pooler(*lines) as dsn:
        for _ in range(3):
            with pytest.raises(SettingsError) as refusal:
                await refuse_transaction_pooling("DATABASE_URL", dsn)
            assert str(refusal.value) == REMEDY


@needs_pgbouncer
@pytest.mark.parametrize("command", ["serve", "work", "up", "migrate"])
async def test_command_refuses_a_pooler_in_transaction_mode_in_one_line(
    pooler: Pooler, tmp_path: Path, command: str
) -> None:
    async with pooler("pool_mode = transaction") as dsn:
        environment = {**keys(), "DATABASE_URL": dsn, "PORT": str(free_port()), "PATH": os.environ["PATH"]}
        port = ["--port", str(free_port())] if command == "work" else []
        ran = await asyncio.to_thread(tidegauge, tmp_path, command, *port, **environment)
    assert (ran.code, ran.err) == (1, f"Wrong setting: {REMEDY}\n")


@asynccontextmanager
async def _pooler(dsn: str, folder: Path, lines: tuple[str, ...]) -> AsyncIterator[str]:
    """Run PgBouncer before the server of a database, until the block ends."""
    address, port = urlsplit(dsn), free_port()
    login = f"user={unquote(address.username or '')} password={unquote(address.password or '')}"
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        "[databases]\n"
        f"* = host={address.hostname} port={address.port} {login}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\ndefault_pool_size = 40\n"
        + "".join(f"{line}\n" for line in lines)
    )
    assert PGBOUNCER is not None
    # It does not run as root.
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    for parent in (configuration, *configuration.parents[:3]):
        parent.chmod(0o755)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([PGBOUNCER, configuration], stdout=log, stderr=log, **user)  # type: ignore[call-overload]
    through = urlunsplit(address._replace(netloc=f"tidegauge:x@127.0.0.1:{port}"))
    try:
        await _until_it_answers(through)
        yield through
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def _until_it_answers(dsn: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                connection = await asyncpg.connect(dsn, timeout=5)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return
