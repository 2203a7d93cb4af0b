"""Connections: the settings of every session, and the types of values."""

from datetime import UTC, datetime

import asyncpg
import pytest

from app.db.pool import connect, open_pool
from tests.conftest import Database

SHOWN = "SELECT name, setting FROM pg_settings WHERE name = ANY($1) ORDER BY name"
SETTINGS = {
    "TimeZone": "UTC",
    "application_name": "tidegauge",
    "idle_in_transaction_session_timeout": "5000",
    "jit": "off",
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
