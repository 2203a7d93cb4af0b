"""Reads while the replica is away, hangs, or is back."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db.pool import open_pool
from app.db.servers import replica as replica_module
from app.db.servers.replica import ReplicaPool
from app.settings import Settings
from app.tasks import running
from tests.conftest import API_KEY, Database, running_server, wait_until
from tests.wire import Wire, wire_to

WHO = "SELECT current_setting('application_name')"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert replica_module.LOOK_EVERY_S + replica_module.ANSWER_WITHIN_S <= 5
    monkeypatch.setattr(replica_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(replica_module, "ANSWER_WITHIN_S", 0.5)


@pytest.fixture
async def replica(database: Database, wire: Wire) -> AsyncIterator[ReplicaPool]:
    """Yield a pool whose replica is behind the wire; both its servers are the test's database."""
    primary = await open_pool(database.dsn, min_size=0, max_size=2, application_name="the primary")
    options = {"min_size": 0, "max_size": 2, "writes": False, "application_name": "the replica"}
    pool = await open_pool(wire.url, pool_class=ReplicaPool, **options)  # type: ignore[arg-type]
    assert isinstance(pool, ReplicaPool)
    pool.fall_back_to(primary, wire.url)
    async with running(pool.watch(), "replica"):
        yield pool
    pool.terminate()
    primary.terminate()


async def test_reads_go_to_the_primary_while_the_replica_is_away_and_come_back_with_it(
    replica: ReplicaPool, wire: Wire
) -> None:
    assert await replica.fetchval(WHO) == "the replica"
    with capture_logs() as logs:
        await wire.cut()
        await wait_until(lambda: replica.get_size() == 0)
        assert [await replica.fetchval(WHO) for _ in range(3)] == ["the primary"] * 3
        assert replica.is_away
        await wire.mend()
        await wait_until(lambda: not replica.is_away)
        assert await replica.fetchval(WHO) == "the replica"
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("replica_lost", "warning"),
        ("replica_found", "info"),
    ]


async def test_read_under_way_ends_soon_and_the_next_goes_to_the_primary_when_the_replica_hangs(
    replica: ReplicaPool, wire: Wire
) -> None:
    assert await replica.fetchval(WHO) == "the replica"
    wire.freeze()
    started = monotonic()
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, TimeoutError)):
        await replica.fetchval(WHO)
    assert await replica.fetchval(WHO) == "the primary"
    assert monotonic() - started < 3


async def test_reads_wait_for_the_replica_and_spare_the_primary_when_all_its_connections_are_in_use(
    replica: ReplicaPool,
) -> None:
    async with replica.acquire(), replica.acquire():
        with pytest.raises(TimeoutError):
            await replica.fetchval(WHO)
    assert not replica.is_away


async def test_server_starts_and_reads_when_the_replica_is_away(database: Database) -> None:
    async with wire_to(database.reader_dsn) as wire:
        await wire.cut()
        settings = Settings(database_url=database.dsn, read_database_url=wire.url, api_key=API_KEY)
        async with running_server(settings) as server:
            await server.post_readings([{"sensor": "s", "values": {"m": 1}}])
            answers = await asyncio.gather(*(server.get("/api/v1/sensors") for _ in range(5)))
            assert [[item["name"] for item in answer["items"]] for answer in answers] == [["s"]] * 5  # type: ignore[attr-defined]
            assert server.services.replica_is_away
            await wire.mend()
            await wait_until(lambda: not server.services.replica_is_away)
