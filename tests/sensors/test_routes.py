"""Sensors and gateways over HTTP: one state, judged by receive time, and what is known of each."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.clock import MINUTE_US, now_us, rfc3339
from app.live import sql as live_sql
from app.sensors.sql import SQL
from tests.conftest import Database, Server

MINUTE = timedelta(minutes=1)
OPEN_ALERT = """
INSERT INTO alert_episode (rule, series_id, kind, started_at, fired_at, steps, level, reason)
SELECT $2, series.id, $3, now(), now(), '[]', $4, $5
  FROM series JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.name = $1
"""


async def states(server: Server, **parameters: str) -> dict[str, tuple[str, str | None]]:
    """List the state and level of every sensor, by name."""
    answer: Any = await server.get("/api/v1/sensors", **parameters)
    return {item["name"]: (item["state"], item["level"]) for item in answer["items"]}


async def silence(server: Server, database: Database, age: timedelta) -> None:
    """Let every series have received nothing for so long, with ingest running all the time."""
    await server.count_silence_from_the_beginning()
    await database.pool.execute("UPDATE series_state SET received_at = now() - $1::interval", age)
    await database.pool.execute("UPDATE ingest_state SET since = '2000-01-01'")


async def test_sensor_shows_its_latest_values_when_readings_came_in_any_order(server: Server) -> None:
    newest = now_us() - MINUTE_US
    older = newest - MINUTE_US
    for time_us, values in (
        (newest, {"t": 2.0, "h": 50}),
        (older, {"t": 1.0, "p": -1e-100}),
        (older - 1_000, {"t": 0}),
    ):
        upload = {"gateway": "roof", "readings": [{"sensor": "pi1", "time": rfc3339(time_us), "values": values}]}
        assert (await server.post_readings(upload)).status == 200
    sensor = await server.get("/api/v1/sensors/pi1")
    received_at = sensor.pop("received_at")
    assert abs(datetime.fromisoformat(str(received_at)) - datetime.now(UTC)) < MINUTE
    assert sensor == {
        "name": "pi1",
        "display_name": None,
        "tags": {},
        "gateway": "roof",
        "owner": "roof",
        "last_seen": rfc3339(newest),
        "state": "ok",
        "level": None,
        "expected_interval": None,
        "notes": None,
        "old_names": [],
        "latest": {
            "h": {"value": 50.0, "time": rfc3339(newest), "unit": None},
            "p": {"value": -1e-100, "time": rfc3339(older), "unit": None},
            "t": {"value": 2.0, "time": rfc3339(newest), "unit": None},
        },
    }
    assert (await server.get("/api/v1/sensors"))["items"] == [{**sensor, "received_at": received_at}]


async def test_sensor_is_late_past_half_of_what_it_may_be_silent_and_silent_past_all_of_it(
    server: Server, database: Database
) -> None:
    await server.post_readings([{"sensor": name, "values": {"t": 1}} for name in ("default", "slow")])
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('new', 'test')")
    await database.pool.execute(
        "UPDATE series SET silent_after = '3 hours' FROM sensor WHERE sensor.id = sensor_id AND name = 'slow'"
    )
    # By which the watch, at any moment, would store the same.
    await database.pool.execute("UPDATE sensor SET expected_interval = '1 hour' WHERE name = 'slow'")
    for age, default, slow in (
        (2 * MINUTE, "ok", "ok"),
        (3 * MINUTE, "late", "ok"),
        (6 * MINUTE, "silent", "ok"),
        (91 * MINUTE, "silent", "late"),
        (181 * MINUTE, "silent", "silent"),
    ):
        await silence(server, database, age)
        assert await states(server) == {"default": (default, None), "new": ("ok", None), "slow": (slow, None)}


async def test_sensor_is_late_when_one_of_its_metrics_is_silent_and_silent_when_all_are(
    server: Server, database: Database
) -> None:
    await server.post_readings([{"sensor": "pi1", "values": {"t": 1, "h": 50}}])
    await silence(server, database, 6 * MINUTE)
    assert await states(server) == {"pi1": ("silent", None)}
    await server.post_readings([{"sensor": "pi1", "values": {"t": 2}}])
    assert await states(server) == {"pi1": ("late", None)}


async def test_nobody_is_silent_while_ingest_has_only_just_begun_to_run(server: Server, database: Database) -> None:
    await server.post_readings([{"sensor": "pi1", "values": {"t": 1}}])
    await silence(server, database, 60 * MINUTE)
    await database.pool.execute("UPDATE ingest_state SET since = now()")
    assert await states(server) == {"pi1": ("ok", None)}


async def test_state_is_alert_with_the_worst_open_level_and_neither_silence_nor_withdrawn_alerts_hide_it(
    server: Server, database: Database
) -> None:
    await server.post_readings([{"sensor": name, "values": {"t": 1}} for name in ("calm", "hot", "marked")])
    await silence(server, database, 6 * MINUTE)
    for row in (
        ("hot", "warm", "threshold", "warning", None),
        ("hot", "other", "threshold", "critical", None),
        ("calm", "warm", "threshold", "critical", "retracted"),
        ("marked", "warm", "no_data", "critical", "no_data_clear"),
    ):
        await database.pool.execute(OPEN_ALERT, *row)
    assert await states(server) == {"calm": ("silent", None), "hot": ("alert", "critical"), "marked": ("silent", None)}
    await database.pool.execute("UPDATE alert_episode SET resolved_at = now() WHERE level = 'critical'")
    assert (await states(server))["hot"] == ("alert", "warning")


async def test_retired_sensor_is_listed_only_when_asked_for(server: Server, database: Database) -> None:
    await server.post_readings([{"sensor": name, "values": {"t": 1}} for name in ("old", "new")])
    await database.pool.execute("UPDATE sensor SET retired_at = now() WHERE name = 'old'")
    assert await states(server) == {"new": ("ok", None)}
    assert await states(server, retired="true") == {"new": ("ok", None), "old": ("retired", None)}
    assert (await server.get("/api/v1/sensors/old"))["state"] == "retired"


async def test_pages_of_sensors_lose_and_repeat_none(server: Server) -> None:
    names = [f"pi{number}" for number in range(7)]
    await server.post_readings([{"sensor": name, "values": {"t": 1}} for name in names])
    seen: list[str] = []
    cursor = ""
    while True:
        page: Any = await server.get("/api/v1/sensors", limit=3, cursor=cursor)
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == names


async def test_gateway_is_offline_once_all_that_came_through_it_is_silent(server: Server, database: Database) -> None:
    for gateway, sensor in (("roof", "a"), ("roof", "b"), ("yard", "c")):
        await server.post_readings({"gateway": gateway, "readings": [{"sensor": sensor, "values": {"t": 1}}]})
    await server.services.ingest.gateways.write(database.pool)
    await silence(server, database, 6 * MINUTE)
    await server.post_readings({"gateway": "roof", "readings": [{"sensor": "b", "values": {"t": 2}}]})
    gateways: Any = (await server.get("/api/v1/gateways"))["items"]
    assert [(item["name"], item["key"], item["sensors"], item["uploads"], item["state"]) for item in gateways] == [
        ("yard", "API_KEY", 1, 1, "offline"),
        ("roof", "API_KEY", 2, 2, "ok"),
    ]


async def test_states_of_many_sensors_come_from_indexes(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO sensor (name, created_by) SELECT 'pi' || n, 't' FROM generate_series(1, 2000) AS n"
    )
    await database.pool.execute("INSERT INTO series (sensor_id, metric) SELECT id, 't' FROM sensor")
    await database.pool.execute("INSERT INTO series_state SELECT id, now(), 1, now() FROM series")
    await database.pool.execute(
        "INSERT INTO alert_episode (rule, series_id, started_at, fired_at, resolved_at, steps, level)"
        " SELECT 'r' || n, 1 + n % 2000, now(), now(), now(), '[]', 'warning' FROM generate_series(1, 20000) AS n"
    )
    await database.pool.execute("ANALYZE")
    for query, arguments in ((SQL["list_sensors"], ("", 100, None, False)), (live_sql.SQL["list_states"], ())):
        plan = "\n".join(row[0] for row in await database.pool.fetch(f"EXPLAIN {query}", *arguments))
        assert "Seq Scan on alert_episode" not in plan, plan


async def test_gateways_are_listed_in_one_pass_over_the_sensors(server: Server, database: Database) -> None:
    """A client chooses the names of gateways, so there may be as many as there are sensors."""
    await database.pool.execute(
        """INSERT INTO sensor (name, gateway, created_by)
           SELECT 's' || n, 'g' || n, 'k' FROM generate_series(1, 2000) AS n;
           INSERT INTO series (sensor_id, metric) SELECT id, 't' FROM sensor;
           INSERT INTO series_state (series_id, last_time, last_value, received_at)
           SELECT id, now(), 1, now() FROM series;
           INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, uploads, accepted, duplicates, rejected)
           SELECT 'k', gateway, now(), now(), 1, 1, 0, 0 FROM sensor;"""
    )
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '3s'")
        rows = await connection.fetch("SELECT gateway, sensors, state FROM gateway_view ORDER BY gateway LIMIT 2")
    assert [tuple(row) for row in rows] == [("g1", 1, "ok"), ("g10", 1, "ok")]
