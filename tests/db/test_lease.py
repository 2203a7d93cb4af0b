"""The lease: one holder at a time, and another one when the holder ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from app.db import lease as lease_module
from app.db.lease import Lease
from app.db.pool import Pool
from tests.conftest import Database, wait_until
from tests.wire import wire_to

HOLDERS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 7421 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
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
            pid = await _terminate_holder(database.pool)
            await wait_until(lambda holder=holder: not holder.held)  # type: ignore[misc]
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
