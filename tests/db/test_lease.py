"""The lease: one holder at a time, and another one when the holder ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.db import lease as lease_module
from app.db.lease import Lease, is_held
from app.db.pool import Pool
from tests.conftest import Database, wait_until
from tests.wire import wire_to

HOLDERS = """
SELECT pid FROM lease JOIN pg_stat_activity ON pid = session_pid AND backend_start = session_start
"""


@pytest.fixture(autouse=True)
def _short_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease_module.BEAT_S <= 2
    monkeypatch.setattr(lease_module, "BEAT_S", 0.02)


async def test_lease_has_one_holder_when_several_want_it(database: Database) -> None:
    async with _kept(database, 4) as leases:
        await wait_until(lambda: any(lease.held for lease in leases))
        for _ in range(20):
            assert len(await database.pool.fetch(HOLDERS)) == 1
            assert sum(lease.held for lease in leases) == 1
            await asyncio.sleep(0.005)


async def test_lease_is_lost_at_once_and_taken_by_another_when_the_holders_backend_ends(database: Database) -> None:
    async with _kept(database, 3) as leases:
        for _ in range(3):
            await wait_until(lambda: any(lease.held for lease in leases))
            (holder,) = (lease for lease in leases if lease.held)
            term = holder.term
            pid = await _terminate_holder(database.pool)
            # It may be the one that takes it again, and soon.
            await wait_until(lambda holder=holder, term=term: not holder.held or holder.term != term)  # type: ignore[misc]
            await wait_until(lambda: any(lease.held for lease in leases))
            assert [row["pid"] for row in await database.pool.fetch(HOLDERS)] != [pid]


async def test_lease_is_taken_by_another_when_its_holder_is_cancelled(database: Database) -> None:
    first, second = Lease(database.dsn), Lease(database.dsn)
    keeping = asyncio.create_task(first.keep())
    await wait_until(lambda: first.held)
    waiting = asyncio.create_task(second.keep())
    keeping.cancel()
    await wait_until(lambda: second.held)
    assert not first.held
    waiting.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)
    assert not second.held


async def test_leases_are_independent_when_their_numbers_differ(database: Database) -> None:
    async with _kept(database, 1, number=1) as one, _kept(database, 1, number=2) as two:
        await wait_until(lambda: one[0].held and two[0].held)


async def test_lease_is_lost_when_a_later_term_has_begun(database: Database) -> None:
    async with _kept(database, 1) as (lease,):
        await wait_until(lambda: lease.held)
        first = lease.term
        # As if another process had taken it, which has ended since.
        await database.pool.execute("UPDATE lease SET term = term + 1, session_pid = -1")
        await wait_until(lambda: lease.held and lease.term > first)
        assert lease.term == first + 2


async def test_lease_is_free_when_its_session_has_ended_and_another_one_has_its_number(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO lease (number, session_pid, session_start) VALUES (1, pg_backend_pid(), '2026-01-01Z')"
        )
        assert not await is_held(database.pool)
        async with _kept(database, 1) as (lease,):
            await wait_until(lambda: lease.held)
            assert lease.term == 2
            assert await is_held(database.pool)


async def test_lease_is_not_for_workers_of_the_release_before_when_migrated(database: Database) -> None:
    before = """INSERT INTO lease (number) VALUES (1)
                ON CONFLICT (number) DO UPDATE SET term = lease.term + 1 RETURNING term"""
    async with _kept(database, 1) as (lease,):
        await wait_until(lambda: lease.held)
        with pytest.raises(asyncpg.NotNullViolationError):
            await database.pool.execute(before)
        assert await database.pool.fetchval("SELECT term FROM lease") == lease.term


async def test_lease_is_taken_again_when_the_database_was_away(database: Database) -> None:
    async with wire_to(database.dsn) as wire:
        await wire.cut()
        lease = Lease(wire.url)
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(0.05)
        assert (lease.held, keeping.done()) == (False, False)
        await wire.mend()
        await wait_until(lambda: lease.held)
        await wire.cut()
        await wait_until(lambda: not lease.held)
        await wire.mend()
        await wait_until(lambda: lease.held)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_lease_is_lost_in_time_when_the_network_passes_nothing_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_TIMEOUT_S", 0.2)
    async with wire_to(database.dsn) as wire:
        lease = Lease(wire.url)
        keeping = asyncio.create_task(lease.keep())
        await wait_until(lambda: lease.held)
        wire.freeze()
        await wait_until(lambda: not lease.held)
        await wire.mend()
        await wait_until(lambda: lease.held)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_lease_is_not_taken_at_a_server_that_only_reads_and_taken_once_it_writes(database: Database) -> None:
    name = urlsplit(database.dsn).path[1:]
    await database.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    lease = Lease(database.dsn)
    keeping = asyncio.create_task(lease.keep())
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert (lease.held, await database.pool.fetch(HOLDERS)) == (False, [])
    await database.pool.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await wait_until(lambda: lease.held)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@asynccontextmanager
async def _kept(database: Database, count: int, number: int = 1) -> AsyncIterator[list[Lease]]:
    leases = [Lease(database.dsn, number) for _ in range(count)]
    tasks = [asyncio.create_task(lease.keep()) for lease in leases]
    try:
        yield leases
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _terminate_holder(pool: Pool) -> int:
    (row,) = await pool.fetch(HOLDERS)
    await pool.fetch("SELECT pg_terminate_backend($1)", row["pid"])
    pid: int = row["pid"]
    return pid
