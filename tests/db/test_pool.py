"""Connections: the settings of every session, the types of values, and which host they lead to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.db import pool as pool_module
from app.db.pool import connect, open_pool
from tests.conftest import Database, wait_until
from tests.wire import Wire

SHOWN = "SELECT name, setting FROM pg_settings WHERE name = ANY($1) ORDER BY name"
SETTINGS = {
    "TimeZone": "UTC",
    "application_name": "tidegauge",
    "client_connection_check_interval": "5000",
    "idle_in_transaction_session_timeout": "5000",
    "jit": "off",
    "lock_timeout": "15000",
    "tcp_keepalives_count": "3",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_user_timeout": "10000",
}


async def test_pool_uses_utc_and_json_when_open(database: Database) -> None:
    rows = await database.pool.fetch(SHOWN, list(SETTINGS))
    assert {row["name"]: row["setting"] for row in rows} == SETTINGS
    value = {"a": [1, 2.5, None, True, "ü\u2028\\\"'"], "b": {}}
    assert await database.pool.fetchval("SELECT $1::jsonb", value) == value
    moment = datetime(2026, 1, 31, 8, 0, 0, 1, tzinfo=UTC)
    stored = await database.pool.fetchval("SELECT $1::timestamptz", moment)
    assert (stored, stored.tzinfo) == (moment, UTC)


async def test_connection_has_its_own_settings_when_they_are_given(database: Database) -> None:
    connection = await connect(database.dsn, application_name="tidegauge lease", statement_timeout="7s")
    shown = await connection.fetch(SHOWN, ["application_name", "statement_timeout", "TimeZone"])
    assert [row["setting"] for row in shown] == ["UTC", "tidegauge lease", "7000"]
    assert await connection.fetchval("SELECT '{\"a\": 1}'::jsonb") == {"a": 1}
    await connection.close()


async def test_pool_reconnects_when_its_backends_were_killed(database: Database) -> None:
    pool = await open_pool(database.dsn, min_size=2, max_size=2)
    await database.pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    answers = []
    for _ in range(4):
        try:
            answers.append(await pool.fetchval("SELECT 1"))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            answers.append(None)
    assert answers[-1] == 1
    await pool.close()


async def test_pool_cannot_be_opened_when_no_server_listens() -> None:
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await open_pool("postgresql://tidegauge@127.0.0.1:1/nowhere")


async def test_pool_keeps_its_settings_when_connections_were_given_back(database: Database) -> None:
    pool = await open_pool(database.dsn, min_size=1, max_size=1, statement_timeout="7s")
    for _ in range(3):
        rows = await pool.fetch(SHOWN, ["statement_timeout", "lock_timeout", "jit"])
        assert [row["setting"] for row in rows] == ["off", "15000", "7000"]
    await pool.close()


async def test_socket_notices_a_server_that_has_vanished(database: Database) -> None:
    connection: Any = await connect(database.dsn)
    peer = connection._transport.get_extra_info("socket")
    tcp = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
    assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert [peer.getsockopt(socket.IPPROTO_TCP, option) for option in tcp] == [5, 2, 3, 10_000]
    await connection.close()


async def test_server_is_refused_while_it_only_reads_and_taken_when_it_writes(database: Database) -> None:
    async with _only_reading(database):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError, match="the server only reads"):
            await connect(database.dsn)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError, match="the server only reads"):
            await open_pool(database.dsn)
        reader = await connect(database.dsn, writes=False)
        assert await reader.fetchval("SELECT 1") == 1
        await reader.close()
    await (await connect(database.dsn)).close()


async def test_session_is_replaced_when_it_has_met_a_server_that_only_reads(database: Database) -> None:
    pool = await open_pool(database.dsn, min_size=1, max_size=1)
    # As behind a pooler or an address that has moved to a standby: only the session knows.
    await pool.execute("SET default_transaction_read_only = on")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("CREATE TABLE never (id int)")
    await pool.execute("CREATE TABLE written (id int)")
    await pool.close()


@pytest.mark.parametrize("first", ["refuses", "only reads", "says nothing"])
async def test_next_host_is_taken_when_the_first_cannot_be_used(
    database: Database, wire: Wire, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(pool_module, "HOST_TIMEOUT_S", 1.0)
    monkeypatch.setattr(pool_module, "_failed_at", {})
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        both = _with_first_host(
            wire.url,
            {
                "refuses": f"127.0.0.1:{refusing.getsockname()[1]}",
                "says nothing": f"127.0.0.1:{silent.getsockname()[1]}",
                "only reads": urlsplit(wire.url).netloc.rpartition("@")[2],
            }[first],
        )
        if first != "only reads":
            started = monotonic()
            pool = await open_pool(both, min_size=3, max_size=3)
            assert await pool.fetchval("SELECT current_database()") == urlsplit(database.dsn).path[1:]
            # The first host costs its time once, and not for each connection.
            assert monotonic() - started < 2.5
            await pool.close()
        else:
            async with _only_reading(database):
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await connect(both)
            await (await connect(both)).close()


async def test_wait_for_a_connection_ends_when_none_is_given_back(database: Database) -> None:
    pool = await open_pool(database.dsn, min_size=1, max_size=1, acquire_timeout_s=0.2)
    async with pool.acquire():
        with pytest.raises(TimeoutError):
            await pool.fetchval("SELECT 1")
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()


async def test_connection_is_given_back_in_time_when_the_network_passes_nothing_on(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT_S", 0.3)
    pool = await open_pool(wire.url, min_size=1, max_size=1, command_timeout_s=0.3, acquire_timeout_s=0.3)
    wire.freeze()
    async with asyncio.timeout(3):
        with pytest.raises((TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
            await pool.fetchval("SELECT 1")
    await wire.mend()
    await wait_until(lambda: pool.get_size() == 0 or pool.get_idle_size() == 1)
    assert await pool.fetchval("SELECT 1") == 1
    pool.terminate()


@asynccontextmanager
async def _only_reading(database: Database) -> AsyncIterator[None]:
    """Let new sessions of the test's database only read, until the block ends."""
    name = urlsplit(database.dsn).path[1:]
    await database.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    yield
    await database.pool.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def _with_first_host(dsn: str, host: str) -> str:
    address = urlsplit(dsn)
    login, at, hosts = address.netloc.rpartition("@")
    return urlunsplit(address._replace(netloc=f"{login}{at}{host},{hosts}"))
