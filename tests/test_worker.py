"""The jobs of the worker, each run once with some work to do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from app.db.aggregates import RAW_RETENTION
from app.sensors.changes import delete_sensor
from app.settings import Settings
from app.worker import Worker
from tests.conftest import Database

Jobs = dict[str, Callable[[], Awaitable[None]]]
#: A sent message, a dead letter and one that is not sent yet: how long ago ($1), and the end of their groups ($2).
MESSAGES = """
INSERT INTO notification (channel, group_key, state, due_at, finished_at)
SELECT 'duty', state || $2, state, now() - $1::interval,
       CASE WHEN state <> 'waiting' THEN now() - $1::interval END
  FROM unnest(ARRAY['sent', 'dead', 'waiting']) AS state
"""
BROKER_NOTIFICATION = """
INSERT INTO broker_notification (id, created_at, api_key, level, title, message, channels)
VALUES (gen_random_uuid(), now() - $1::interval, 'x', 'INFO', $2, '', '{}')
"""


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[Jobs]:
    """What each job of a worker on the test's database runs, by the job's name."""
    worker = Worker(Settings(database_url=database.dsn))
    async with worker.prepared():
        yield {job.name: job.run for job in worker._jobs()}


async def test_legacy_records_are_pruned_to_the_newest_10000(jobs: Jobs, database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO legacy_reading (sensor, time, temperature, humidity, pressure, client_ip) "
        "SELECT 'a', now(), 1, 2, 3, '' FROM generate_series(1, 10003)"
    )
    await jobs["prune_legacy"]()
    (row,) = await database.pool.fetch("SELECT min(id), max(id), count(*) FROM legacy_reading")
    assert tuple(row) == (4, 10_003, 10_000)
    await jobs["prune_legacy"]()
    assert await database.pool.fetchval("SELECT count(*) FROM legacy_reading") == 10_000


async def test_nothing_is_pruned_when_there_is_nothing(jobs: Jobs) -> None:
    for name in ("prune_legacy", "prune_answers", "prune_feed", "prune_notifications", "prune_outbox", "late_days"):
        await jobs[name]()


async def test_answers_are_pruned_after_a_day(jobs: Jobs, database: Database) -> None:
    for key, hours in (("old", 24.1), ("young", 23.9)):
        await database.pool.execute(
            "INSERT INTO idempotency (api_key, key, body_sha256, answer, created_at) VALUES ('a', $1, '', '{}', $2)",
            key,
            datetime.now(UTC) - timedelta(hours=hours),
        )
    await jobs["prune_answers"]()
    assert await _column(database, "SELECT key FROM idempotency") == ["young"]


async def test_feed_is_pruned_after_an_hour(jobs: Jobs, database: Database) -> None:
    for minutes in (61, 59, 0):
        await database.pool.execute("INSERT INTO feed (kind, n, payload) VALUES ('readings', $1, '')", minutes)
    await database.pool.execute("UPDATE feed SET at = now() - n * INTERVAL '1 minute'")
    await jobs["prune_feed"]()
    assert await _column(database, "SELECT n FROM feed ORDER BY seq") == [59, 0]


async def test_notifications_of_the_broker_are_pruned_after_30_days(jobs: Jobs, database: Database) -> None:
    for days in (30.1, 29.9):
        await database.pool.execute(BROKER_NOTIFICATION, timedelta(days=days), str(days))
    await jobs["prune_notifications"]()
    assert await _column(database, "SELECT title FROM broker_notification") == ["29.9"]


async def test_messages_are_pruned_30_days_after_they_were_sent_and_90_after_they_were_given_up(
    jobs: Jobs, database: Database
) -> None:
    for days in (91, 89, 31, 29):
        await database.pool.execute(MESSAGES, timedelta(days=days), str(days))
    await jobs["prune_outbox"]()
    assert await _column(database, "SELECT group_key FROM notification ORDER BY group_key") == [
        "dead29",
        "dead31",
        "dead89",
        "sent29",
        "waiting29",
        "waiting31",
        "waiting89",
        "waiting91",
    ]


async def test_deleted_sensor_is_removed_in_two_runs(jobs: Jobs, database: Database) -> None:
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('gone', 'x'), ('kept', 'x')")
    await delete_sensor(database.pool, "gone")
    with capture_logs() as logs:
        for _ in range(3):
            await jobs["remove_sensors"]()
    assert [line["sensors"] for line in logs if line["event"] == "sensors_removed"] == [["gone"]]
    assert await _column(database, "SELECT name FROM sensor") == ["kept"]


async def test_readings_past_retention_are_dropped_once_they_are_rolled_up(jobs: Jobs, database: Database) -> None:
    if "retention" not in jobs:
        pytest.skip("on Community, TimescaleDB drops them by its own policy")
    old = datetime.now(UTC) - RAW_RETENTION
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'x')")
    await database.pool.execute("INSERT INTO series (sensor_id, metric) VALUES (1, 't')")
    for time in (old - timedelta(days=2), old + timedelta(days=1)):
        await database.pool.execute("INSERT INTO reading (series_id, time, value) VALUES (1, $1, 1)", time)
    with capture_logs() as logs:
        await jobs["retention"]()
        assert await database.pool.fetchval("SELECT count(*) FROM reading") == 2
        await jobs["roll_up"]()
        await jobs["retention"]()
    assert [line["chunks"] for line in logs if line["event"] == "chunks_dropped"] == [1]
    assert await database.pool.fetchval("SELECT min(time) FROM reading") == old + timedelta(days=1)
    assert await database.pool.fetchval("SELECT sum(n) FROM reading_1d") == 2


async def test_late_days_are_refreshed_and_logged(jobs: Jobs, database: Database) -> None:
    await database.pool.execute("INSERT INTO late_day (day) SELECT current_date - d FROM unnest(ARRAY[3, 3, 5]) AS d")
    with capture_logs() as logs:
        await jobs["late_days"]()
        await jobs["late_days"]()
    assert [line["days"] for line in logs if line["event"] == "late_days_refreshed"] == [2]
    assert await database.pool.fetchval("SELECT count(*) FROM late_day") == 0


async def _column(database: Database, query: str) -> list[object]:
    return [row[0] for row in await database.pool.fetch(query)]
