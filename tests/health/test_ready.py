"""The health probes, with each checked part broken in turn."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app import services, worker
from app.live import listener
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server, wait_until


@pytest.fixture
async def impatient(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server that detects a dead listener and failing jobs within two seconds."""
    monkeypatch.setattr(listener, "HEARTBEAT_S", 1.5)
    monkeypatch.setattr(listener, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(listener, "POLL_S", 0.1)
    monkeypatch.setattr(services, "WRITE_EVERY_S", 0.05)
    async with running_server(settings_for(database)) as server:
        yield server


async def ready(server: Server) -> tuple[int, dict[str, Any]]:
    async with server.http.get("/health/ready", headers={"X-API-Key": ""}) as response:
        return response.status, await response.json()


async def test_live_answers_without_a_key(server: Server) -> None:
    async with server.http.get("/health/live", headers={"X-API-Key": ""}) as response:
        assert (response.status, await response.json()) == (200, {"status": "alive"})


async def test_ready_lists_every_part_when_all_is_well(server: Server) -> None:
    await wait_until(lambda: server.worker.lease.held)
    status, answer = await ready(server)
    assert status == 200
    assert answer["edition"] in ("community", "apache-2")
    assert {name: answer[name] for name in ("status", "database", "migrations", "listener", "leader")} == {
        "status": "ready",
        "database": True,
        "migrations": True,
        "listener": True,
        "leader": True,
    }
    assert "problems" not in answer
    assert set(answer["jobs"]) >= {"beat", "gateways", "sensors_seen", "health", "measure"}


async def test_ready_names_the_problem_when_the_database_is_away(
    impatient: Server, database: Database, server_dsn: str
) -> None:
    name = urlsplit(database.dsn).path.removeprefix("/")
    connection = await asyncpg.connect(server_dsn)
    try:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await wait_until(lambda: not impatient.services.listener.is_healthy)
        status, answer = await ready(impatient)
        assert status == 503
        assert (answer["status"], answer["database"], answer["listener"]) == ("not ready", False, False)
        assert answer["problems"][0].startswith("database: does not answer (")
        assert "listener: the live feed is not being followed" in answer["problems"]
        async with impatient.http.get("/health/live") as response:
            assert response.status == 200
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await wait_until(lambda: impatient.services.listener.is_healthy)
    finally:
        await connection.close()
    assert (await ready(impatient))[1]["database"] is True


async def test_ready_names_the_problem_when_the_listener_cannot_read_the_feed(
    impatient: Server, database: Database
) -> None:
    await database.pool.execute("ALTER TABLE feed RENAME TO feed_away")
    await wait_until(lambda: not impatient.services.listener.is_healthy)
    status, answer = await ready(impatient)
    assert status == 503
    assert (answer["database"], answer["migrations"], answer["listener"]) == (True, True, False)
    assert "listener: the live feed is not being followed" in answer["problems"]
    await database.pool.execute("ALTER TABLE feed_away RENAME TO feed")
    await wait_until(lambda: impatient.services.listener.is_healthy)


async def test_ready_names_the_problem_when_a_migration_is_pending(server: Server, database: Database) -> None:
    await database.pool.execute("DELETE FROM schema_migration WHERE version = 3")
    status, answer = await ready(server)
    assert status == 503
    assert (answer["database"], answer["migrations"]) == (True, False)
    assert answer["problems"] == ["migrations: 0003_keys.sql is not applied"]


async def test_ready_warns_and_stays_ready_when_the_aggregates_fall_behind(server: Server, database: Database) -> None:
    if server.services.edition == "apache-2":  # the jobs of a Community server may fail or be switched off
        await wait_until(lambda: server.worker.lease.held)
        await server.tick()
        assert "warnings" not in (await ready(server))[1]
    await database.pool.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
    status, answer = await ready(server)
    assert (status, answer["status"]) == (200, "ready")
    behind = ("The rolled-up tables are 525", "TimescaleDB job 1000 (policy_refresh_")
    assert any(text.startswith(behind) for text in answer["warnings"])
    assert "problems" not in answer


async def test_ready_names_the_problem_when_the_database_is_of_a_newer_version(
    server: Server, database: Database
) -> None:
    await database.pool.execute("INSERT INTO schema_migration (version, name, sha256) VALUES (9999, 'later.sql', '')")
    status, answer = await ready(server)
    assert status == 503
    assert answer["migrations"] is False
    assert "later.sql" in answer["problems"][0]


async def test_ready_only_warns_when_a_job_that_uploads_do_not_need_failed_three_times_in_a_row(
    impatient: Server, database: Database
) -> None:
    await database.pool.execute("ALTER TABLE gateway RENAME TO gateway_away")
    await impatient.post_readings([{"sensor": "s", "values": {"m": 1}}])
    state = impatient.services.jobs.states["gateways"]
    await wait_until(lambda: state.failures_in_a_row >= 3)
    status, answer = await ready(impatient)
    assert (status, "problems" in answer) == (200, False)
    (warning,) = [text for text in answer["warnings"] if text.startswith("job gateways failed ")]
    assert 'relation "gateway" does not exist' in warning
    await database.pool.execute("ALTER TABLE gateway_away RENAME TO gateway")
    await wait_until(lambda: state.failures_in_a_row == 0)
    assert _find(await ready(impatient), "job") == []
    # The counts of the failed runs are written by the next run that succeeds.
    assert await database.pool.fetchval("SELECT sum(accepted) FROM gateway") == 1


async def test_api_warns_and_worker_is_not_ready_when_rules_cannot_be_evaluated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "EVALUATE_EVERY_S", 0.05)
    monkeypatch.setattr(worker, "REPORT_EVERY_S", 0.05)
    async with running_server(settings_for(database)) as server:
        await database.pool.execute("ALTER TABLE alert_state RENAME TO away")
        await server.post_readings([{"sensor": "s", "values": {"temperature": 1}}])
        await wait_until(lambda: server.worker.jobs.states["evaluate"].failures_in_a_row >= 3)
        async with asyncio.timeout(20):
            while not _find(await ready(server), "worker: job evaluate failed "):  # noqa: ASYNC110 -- the next report
                await asyncio.sleep(0.05)
        status, answer = await ready(server)
        assert status == 200
        (warning,) = _find((status, answer), "worker: job evaluate failed ")
        assert 'relation "alert_state" does not exist' in warning
        (problem,) = (await server.worker.probe.look()).problems
        assert problem.startswith("job evaluate failed ")
        await database.pool.execute("ALTER TABLE away RENAME TO alert_state")
        await wait_until(lambda: server.worker.jobs.states["evaluate"].failures_in_a_row == 0)
        assert (await server.worker.probe.look()).problems == []


async def test_worker_only_warns_when_a_job_failed_that_alerts_do_not_need(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LATE_DAYS_EVERY_S", 0.05)
    async with running_server(settings_for(database)) as server:
        await database.pool.execute("ALTER TABLE late_day RENAME TO away")
        await wait_until(lambda: server.worker.jobs.states["late_days"].failures_in_a_row >= 3)
        seen = await server.worker.probe.look()
        assert seen.problems == []
        assert [each.text[:21] for each in seen.warnings if each.kind == "job_failing"] == ["job late_days failed "]
        await database.pool.execute("ALTER TABLE away RENAME TO late_day")


def _find(answer: tuple[int, dict[str, Any]], beginning: str) -> list[str]:
    return [text for text in answer[1].get("warnings", []) if text.startswith(beginning)]


def settings_for(database: Database) -> Settings:
    return Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
