"""The probe: it answers in time whatever hangs, and the log and the metrics say what it sees."""

import asyncio
import time
from datetime import timedelta

import asyncpg
import pytest
import structlog

from app.db.edition import detect_edition
from app.health import probe
from app.health.probe import Probe
from app.jobs import Jobs
from app.metrics import Metrics
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api, running_server, wait_until
from tests.health.test_flushes import locked, until_ready
from tests.health.test_ready import ready, settings_for
from tests.wire import Wire

#: What the probe promises to its clients.
PROMISED_S = 3.0


async def timed_ready(server: Server) -> tuple[int, float]:
    began = time.monotonic()
    status, _ = await ready(server)
    return status, time.monotonic() - began


async def test_ready_answers_within_3_seconds_when_the_database_swallows_everything(wire: Wire) -> None:
    settings = Settings(database_url=wire.url, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_api(settings, Worker(settings)) as server:
        assert (await ready(server))[0] == 200
        wire.freeze()
        # The first look has a connection that hangs; the later ones cannot open another.
        slowest = []
        for _ in range(3):
            answers = await asyncio.gather(*(timed_ready(server) for _ in range(20)))
            assert {status for status, _ in answers} == {503}
            slowest.append(max(seconds for _, seconds in answers))
        # Half a second is left, which a busy machine may take once.
        assert sorted(slowest)[1] < PROMISED_S, slowest
        await wire.mend()
        await until_ready(server)


async def test_ready_answers_within_3_seconds_when_the_database_refuses(wire: Wire) -> None:
    settings = Settings(database_url=wire.url, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_api(settings, Worker(settings)) as server:
        await wire.cut()
        status, seconds = await timed_ready(server)
        assert (status, seconds < PROMISED_S) == (503, True)
        await wire.mend()
        await until_ready(server)


async def test_ready_answers_at_once_when_no_connection_of_the_pool_is_free(server: Server) -> None:
    pool = server.services.pool
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        assert (await timed_ready(server))[0] == 200
        assert (await timed_ready(server))[1] < 1
    finally:
        for connection in held:
            await pool.release(connection)


@pytest.mark.parametrize("table", ["worker_status", "notification", "rule_problem", "lease"])
async def test_ready_only_warns_when_somebody_locks_what_only_the_worker_needs(
    server: Server, database: Database, table: str
) -> None:
    async with locked(database, table):
        status, seconds = await timed_ready(server)
        assert (status, seconds < PROMISED_S) == (200, True)
        seen = await server.services.probe.look()
        if table != "lease":  # the lease is asked of pg_locks
            assert [each.text for each in seen.warnings if each.kind == "not_known"] == [
                (
                    "database: it answers, but the state of the work could not be read "
                    "(LockNotAvailableError: canceling statement due to lock timeout)"
                )
            ]
    assert "not_known" not in {each.kind for each in (await server.services.probe.look()).warnings}


async def test_log_tells_once_when_a_problem_or_a_warning_begins_and_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "SETTLED_S", 0.0)
    looking = Probe(database.dsn, Jobs(Metrics()), Metrics())
    async with database.pool.acquire() as connection:
        looking.edition = await detect_edition(connection)
    pool = database.pool
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await looking.look()
        await pool.execute("CREATE TABLE kept AS SELECT * FROM schema_migration WHERE version = 3")
        await pool.execute("DELETE FROM schema_migration WHERE version = 3")
        for _ in range(3):
            await looking.look()
        await pool.execute("INSERT INTO schema_migration SELECT version, name, sha256 FROM kept")
        for _ in range(3):
            await looking.look()
    looking.close()
    assert [line["event"] for line in logs if line.get("kind") in ("worker_missing", None)] == [
        "health_warning_began",
        "process_unready",
        "process_ready_again",
    ]


async def test_log_tells_of_no_warning_that_is_soon_over(database: Database) -> None:
    looking = Probe(database.dsn, Jobs(Metrics()), Metrics())
    async with database.pool.acquire() as connection:
        looking.edition = await detect_edition(connection)
    with structlog.testing.capture_logs() as logs:
        assert "worker_missing" in {each.kind for each in (await looking.look()).warnings}
        await looking.look()
    looking.close()
    assert logs == []


async def test_metrics_show_what_the_probe_sees(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late, at)"
        " VALUES ('{1}', '{2026-01-01Z}', '{2026-01-01Z}', true, now() - INTERVAL '61 seconds')"
    )
    evaluated_at = await database.pool.fetchval(
        "UPDATE worker_status SET evaluated_at = now() - INTERVAL '31 seconds' RETURNING evaluated_at"
    )
    is_away = True
    metrics = Metrics()
    looking = Probe(database.dsn, Jobs(metrics), metrics, is_leader=lambda: is_away, replica_is_away=lambda: is_away)
    async with database.pool.acquire() as connection:
        looking.edition = await detect_edition(connection)
    await looking.look()
    value = metrics.registry.get_sample_value
    assert value("tidegauge_ready") == 1
    assert value("tidegauge_dirty_rows") == 1
    assert 61 <= (value("tidegauge_dirty_oldest_seconds") or 0) < 90
    assert value("tidegauge_last_evaluation_timestamp_seconds") == evaluated_at.timestamp()
    assert value("tidegauge_lease_held") == 1
    assert abs(value("tidegauge_clock_skew_seconds") or 0) < 2
    kinds = {
        kind: value("tidegauge_warning", {"kind": kind})
        for kind in ("worker_missing", "evaluation_stopped", "evaluation_behind", "replica_away", "messages_waiting")
    }
    assert kinds == {
        "worker_missing": 1,
        "evaluation_stopped": 1,
        "evaluation_behind": 1,
        "replica_away": 1,
        "messages_waiting": 0,
    }
    is_away = False
    await database.pool.execute("DELETE FROM schema_migration WHERE version = 3")
    await looking.look()
    looking.close()
    assert value("tidegauge_ready") == 0
    assert value("tidegauge_warning", {"kind": "replica_away"}) == 0
    assert (value("tidegauge_lease_held"), value("tidegauge_lease_age_seconds")) == (0, 0)


async def test_worker_notes_that_it_evaluates_also_when_nothing_is_new(database: Database) -> None:
    await database.pool.execute("UPDATE worker_status SET evaluated_at = '2026-01-01Z'")
    async with running_server(settings_for(database)) as server:
        await wait_until(lambda: server.worker.lease.held)
        await server.tick()
        ago: timedelta = await database.pool.fetchval("SELECT now() - evaluated_at FROM worker_status")
    assert timedelta() <= ago < timedelta(seconds=10)


async def test_worker_does_not_note_that_it_evaluates_when_evaluation_fails(database: Database) -> None:
    async with running_server(settings_for(database)) as server:
        await wait_until(lambda: server.worker.lease.held)
        await database.pool.execute("ALTER TABLE alert_state RENAME TO away")
        await server.post_readings([{"sensor": "s", "values": {"temperature": 1}}])
        await database.pool.execute("UPDATE worker_status SET evaluated_at = '2026-01-01Z'")
        server.worker.alerting._noted_at = float("-inf")
        with pytest.raises(asyncpg.UndefinedTableError):
            await server.tick()
        assert await database.pool.fetchval("SELECT evaluated_at = '2026-01-01Z' FROM worker_status")
