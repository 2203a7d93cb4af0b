"""Deleted sensors lose their readings in the background, on both editions, and others lose nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.clock import DAY_US, MINUTE_US, now_us, rfc3339
from app.db.aggregates import refresh_day, remove_series
from app.db.pool import connect
from app.model import SeriesId
from app.sensors.removal import remove_deleted_sensors
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server

RULES = """
version: 1
channels:
  ops: {type: webhook, url: "http://127.0.0.1:9/"}
rules:
  - name: too-warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}}
    notify: [ops]
"""
LEFT = """
SELECT (SELECT count(*) FROM reading WHERE series_id = $1) AS readings,
       (SELECT count(*) FROM reading_1m WHERE series_id = $1) AS minutes,
       (SELECT count(*) FROM reading_1h WHERE series_id = $1) AS hours,
       (SELECT count(*) FROM reading_1d WHERE series_id = $1) AS days,
       (SELECT count(*) FROM series_state WHERE series_id = $1) AS states,
       (SELECT count(*) FROM series WHERE id = $1) AS series
"""


async def _upload_two_sensors(server: Server, days: int) -> None:
    """Upload readings of both sensors over some days, and aggregate these days."""
    start = now_us() - days * DAY_US
    readings = [
        {"sensor": sensor, "time": rfc3339(start + day * DAY_US + minute * MINUTE_US), "values": {"t": minute}}
        for sensor in ("gone", "kept")
        for day in range(days)
        for minute in range(5)
    ]
    assert (await server.post_readings(readings)).status == 200
    now = datetime.now(UTC)
    async with server.worker.pool.acquire() as connection:
        for day in range(days + 1):
            await refresh_day(connection, (now - timedelta(days=day)).date(), now)


async def _series_of(database: Database, sensor: str) -> SeriesId:
    series_id = await database.pool.fetchval(
        "SELECT series.id FROM series JOIN sensor ON sensor.id = sensor_id WHERE name = $1", sensor
    )
    return SeriesId(series_id)


async def test_readings_and_aggregates_of_a_deleted_sensor_go_and_others_stay(
    server: Server, database: Database
) -> None:
    await _upload_two_sensors(server, 40)
    gone, kept = await _series_of(database, "gone"), await _series_of(database, "kept")
    before = [tuple(row) for row in await database.pool.fetch(LEFT, kept)]
    assert (await database.pool.fetchrow(LEFT, gone))["days"] == 40  # type: ignore[index]
    async with server.http.delete("/api/v1/sensors/gone") as response:
        assert response.status == 204
    assert await remove_deleted_sensors(database.pool) == []
    assert await remove_deleted_sensors(database.pool) == ["gone"]
    assert await remove_deleted_sensors(database.pool) == []
    assert tuple(await database.pool.fetchrow(LEFT, gone) or ()) == (0, 0, 0, 0, 0, 0)
    assert [tuple(row) for row in await database.pool.fetch(LEFT, kept)] == before


async def test_removal_waits_for_a_flush_that_began_before_the_sensor_was_deleted(
    server: Server, database: Database
) -> None:
    await _upload_two_sensors(server, 1)
    gone = await _series_of(database, "gone")
    flush = await connect(database.dsn, idle_in_transaction_session_timeout="60s")
    async with flush.transaction():
        await flush.execute("INSERT INTO reading VALUES ($1, now(), 7)", gone)
        async with server.http.delete("/api/v1/sensors/gone") as response:
            assert response.status == 204
        async with database.pool.acquire() as connection:
            assert not await remove_series(connection, [gone], 0.2)
            assert await connection.fetchval("SELECT count(*) FROM reading WHERE series_id = $1", gone) == 5
    await flush.close()
    await remove_deleted_sensors(database.pool)
    assert await remove_deleted_sensors(database.pool) == ["gone"]
    assert await database.pool.fetchval("SELECT count(*) FROM reading WHERE series_id = $1", gone) == 0


async def test_sensor_goes_only_when_the_end_of_its_alerts_is_told(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, rules_dir=tmp_path)
    async with running_server(settings) as server:
        await server.post_readings([{"sensor": "cold-1", "values": {"temperature": 9}}])
        await server.tick()
        await database.pool.execute(
            "INSERT INTO alert_told (channel, episode_id, told, told_level)"
            " SELECT 'ops', id, 'firing', level FROM alert_episode"
        )
        async with server.http.delete("/api/v1/sensors/cold-1") as response:
            assert response.status == 204
        await server.tick()
        await remove_deleted_sensors(database.pool)
        assert await remove_deleted_sensors(database.pool) == []
        assert await database.pool.fetchval("SELECT count(*) FROM reading") == 0
        ended = await database.pool.fetchrow("SELECT reason, settled FROM alert_episode")
        assert tuple(ended or ()) == ("deleted", False)
        await database.pool.execute("UPDATE alert_episode SET settled = TRUE")
        assert await remove_deleted_sensors(database.pool) == ["cold-1"]
        assert await database.pool.fetchval("SELECT count(*) FROM alert_episode") == 0
