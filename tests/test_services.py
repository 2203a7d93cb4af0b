"""Services from start to stop, with a connection to the database that is cut, frozen and restored."""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from app import start, worker
from app.db.migrations import MigrationError
from app.errors import SettingsError
from app.live import listener
from app.services import Services
from app.settings import Settings
from tests.conftest import (
    API_KEY,
    API_KEY_WS,
    YESTERDAY,
    YESTERDAY_AT_8_MS,
    Database,
    Server,
    running_server,
    wait_until,
)
from tests.live.clients import live
from tests.wire import wire_to


def settings(dsn: str, **others: str) -> Settings:
    return Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, **others)  # type: ignore[arg-type]


async def connections(database: Database) -> dict[str, int]:
    """Return the number of connections of the services by application name."""
    rows = await database.pool.fetch(
        "SELECT application_name AS name, count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'tidegauge %' GROUP BY 1"
    )
    return {row["name"]: row["count"] for row in rows}


def test_services_refuse_to_start_when_no_database_is_configured() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        Services(Settings(api_key="k"))


async def test_services_refuse_to_start_when_there_is_no_api_key(database: Database) -> None:
    with pytest.raises(SettingsError, match="No API key is configured"):
        async with Services(Settings(database_url=database.dsn)).prepared():
            pass


async def test_services_refuse_to_start_when_a_migration_is_pending(database: Database) -> None:
    await database.pool.execute("DELETE FROM schema_migration WHERE version = 3")
    with pytest.raises(MigrationError, match=r"lacks 0003_keys\.sql; run `tidegauge migrate` first"):
        async with Services(settings(database.dsn)).prepared():
            pass


async def test_services_refuse_to_start_when_the_database_does_not_answer_in_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "DATABASE_WAIT_S", 0.1)
    async with wire_to(database.dsn) as wire:
        await wire.cut()
        with pytest.raises(SettingsError, match="The database at DATABASE_URL does not answer"):
            async with Services(settings(wire.url)).prepared():
                pass


async def test_services_wait_when_the_database_is_still_starting(database: Database) -> None:
    async with wire_to(database.dsn) as wire:
        await wire.cut()
        services = Services(settings(wire.url))
        with capture_logs() as logs:
            preparing = asyncio.create_task(enter(services))
            await wait_until(lambda: any(line["event"] == "waiting_for_database" for line in logs))
        await wire.mend()
        await preparing


async def enter(services: Services) -> None:
    async with services.prepared():
        assert await services.pool.fetchval("SELECT 1") == 1


async def test_services_leave_no_connection_behind_when_they_stop(database: Database) -> None:
    async with running_server(settings(database.dsn)) as server:
        await server.post_readings([{"sensor": "s", "values": {"m": 1}}])
        open_now = await connections(database)
    assert {"tidegauge listener": 1, "tidegauge lease": 1}.items() <= open_now.items()
    assert open_now["tidegauge ingest"] >= 1
    await wait_until_disconnected(database)


async def wait_until_disconnected(database: Database) -> None:
    async with asyncio.timeout(10):
        while await connections(database):  # noqa: ASYNC110 -- the database sends no event for it
            await asyncio.sleep(0.01)


async def test_services_wait_when_the_server_crashes_while_they_connect(database: Database) -> None:
    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        fields = b"SFATAL\0VFATAL\0C57P02\0Mterminating connection due to unexpected postmaster exit\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        writer.close()

    async with wire_to(database.dsn) as wire:
        await wire.cut()
        crashing = await asyncio.start_server(crash, "127.0.0.1", urlsplit(wire.url).port)
        with capture_logs() as logs:
            preparing = asyncio.create_task(enter(Services(settings(f"{wire.url}?sslmode=disable"))))
            await wait_until(lambda: any(line["event"] == "waiting_for_database" for line in logs))
            crashing.close()
            await wire.mend()
            await preparing


async def test_services_read_from_the_replica_when_there_is_one(database: Database) -> None:
    async with running_server(settings(database.dsn, read_database_url=database.reader_dsn)) as server:
        await server.post_readings([{"sensor": "s", "values": {"m": 1}}])
        answer = await server.get("/api/v1/sensors")
        items = answer["items"]
        assert isinstance(items, list)
        assert [item["name"] for item in items] == ["s"]
        users = await database.pool.fetch("SELECT DISTINCT usename FROM pg_stat_activity WHERE datname IS NOT NULL")
    assert "tidegauge_reader" in {row["usename"] for row in users}


async def test_services_lose_nothing_and_recover_when_the_connection_is_cut(database: Database) -> None:
    async with wire_to(database.dsn) as wire, running_server(settings(wire.url)) as server, live(server) as client:
        await client.snapshot()
        assert await post(server, 1) == (200, None)
        await wire.cut()
        assert await post(server, 2) in [(503, "1"), (503, "5")]
        async with server.http.get("/api/v1/sensors") as response:
            assert (response.status, response.headers.get("Retry-After")) == (503, "5")
        await wire.mend()
        await until_stored(server, 2)
        await until_stored(server, 3)
        # The client stayed connected; the listener reconnected and missed nothing.
        assert [value[3] for value in await client.values(3)] == [1, 2, 3]


async def post(server: Server, number: int) -> tuple[int, str | None]:
    response = await server.post_readings(
        [{"sensor": "s", "time": YESTERDAY_AT_8_MS + number, "values": {"m": number}}]
    )
    return response.status, response.headers.get("Retry-After")


async def until_stored(server: Server, number: int) -> None:
    async with asyncio.timeout(20):
        while (await post(server, number))[0] != 200:  # noqa: ASYNC110 -- as a gateway would
            await asyncio.sleep(0.05)


async def test_listener_reconnects_when_its_connection_does_not_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(listener, "POLL_S", 0.1)
    async with wire_to(database.dsn) as wire, running_server(settings(wire.url)) as server, live(server) as client:
        await client.snapshot()
        wire.freeze()
        registry = server.services.metrics.registry
        with capture_logs() as logs:
            await wait_until(lambda: any(line["event"] == "listener_lost" for line in logs))
        await wire.mend()
        await wait_until(lambda: (registry.get_sample_value("tidegauge_listener_reconnects_total") or 0) > 0)
        await until_stored(server, 1)
        assert [value[3] for value in await client.values(1)] == [1]


async def test_services_stop_without_a_logged_error_when_the_database_is_away(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire_to(database.dsn) as wire:
        with capture_logs() as logs, caplog.at_level(logging.ERROR):
            async with running_server(settings(wire.url)) as server:
                assert (await post(server, 1))[0] == 200
                await wire.cut()
    assert [record.message for record in caplog.records] == []
    assert "gateways_not_written" in [line["event"] for line in logs]


async def test_services_write_the_last_gateway_counts_when_they_stop(database: Database) -> None:
    async with running_server(settings(database.dsn)) as server:
        assert (await post(server, 1))[0] == 200
    assert await database.pool.fetchval("SELECT sum(uploads) FROM gateway") == 1


async def test_trends_show_late_readings_once_the_lease_holder_has_refreshed_their_day(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LATE_DAYS_EVERY_S", "ROLL_UP_EVERY_S", "OVERDUE_POLICIES_EVERY_S"):
        monkeypatch.setattr(worker, name, 0.1)
    await database.pool.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
    async with running_server(settings(database.dsn)) as server:
        assert (await post(server, 1))[0] == 200
        await wait_for_count(server, 1)
        async with asyncio.timeout(20):
            while not await database.pool.fetchval(  # noqa: ASYNC110 -- the lease holder's next run
                "SELECT late_before() > now() - INTERVAL '20 minutes' OR EXISTS (SELECT FROM pg_class"
                " WHERE relname = '_materialized_hypertable_4')"
            ):
                await asyncio.sleep(0.05)
        assert (await post(server, 2))[0] == 200
        await wait_for_count(server, 2)
        assert await database.pool.fetchval("SELECT count(*) FROM reading") == 2
        assert server.worker.jobs.states["late_days"].failures_in_a_row == 0


async def wait_for_count(server: Server, wanted: int) -> None:
    """Wait until yesterday has this many readings: the lease holder's next run may have to refresh the day first."""
    async with asyncio.timeout(20):
        while await count(server) != wanted:  # noqa: ASYNC110 -- the condition has no event
            await asyncio.sleep(0.05)


async def count(server: Server) -> int:
    """Count yesterday's readings as the coarsest aggregate knows them."""
    params = {"sensor": "s", "metric": "m", "from": f"{YESTERDAY}T00:00:00Z", "points": "1"}
    answer = await server.get("/api/v1/trends", **params)
    buckets = answer["buckets"]
    assert isinstance(buckets, list)
    return sum(bucket["count"] for bucket in buckets)
