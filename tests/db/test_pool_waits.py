"""Waits for a connection of a pool, and connections that are cut because they take too long."""

import asyncio
import time

import pytest

from app.db.pool import DATABASE_ERRORS, cut_after, open_pool
from tests.conftest import Database, Server


async def test_pool_tells_of_each_wait_and_how_long_it_took(database: Database) -> None:
    pool = await open_pool(database.dsn, min_size=1, max_size=1)
    waits: list[float] = []
    pool.on_wait = waits.append
    try:
        async with pool.acquire():
            assert len(waits) == 1
            waiting = asyncio.create_task(pool.fetchval("SELECT 1"))
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.2)
            assert 0.2 <= waits[1] < 2
        assert await waiting == 1
        assert len(waits) == 3
        assert waits[2] >= waits[1]
    finally:
        await pool.close()


async def test_metrics_count_the_waits_of_a_server(server: Server) -> None:
    value = server.services.metrics.registry.get_sample_value
    before = value("tidegauge_db_pool_wait_seconds_count") or 0
    assert await server.services.pool.fetchval("SELECT 1") == 1
    assert (value("tidegauge_db_pool_wait_seconds_count") or 0) > before
    of_worker = server.worker.metrics.registry.get_sample_value
    assert (of_worker("tidegauge_db_pool_wait_seconds_count") or 0) > 0


async def test_connection_is_cut_when_the_block_takes_too_long_and_not_before(database: Database) -> None:
    async with database.pool.acquire() as connection:
        with cut_after(connection, 5):
            assert await connection.fetchval("SELECT 1") == 1
        assert not connection.is_closed()
    began = time.monotonic()
    with pytest.raises(DATABASE_ERRORS):
        await sleep_and_be_cut(database)
    assert time.monotonic() - began < 10
    assert await database.pool.fetchval("SELECT 1") == 1


async def sleep_and_be_cut(database: Database) -> None:
    async with database.pool.acquire() as connection:
        with cut_after(connection, 0.2):
            await connection.execute("SELECT pg_sleep(60)")
