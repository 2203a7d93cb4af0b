"""Changes of a sensor over HTTP, while uploads, queries, alerts and the live feed go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.clock import MINUTE_US, SECOND_US, now_us, rfc3339
from app.ingest.sql import SQL as INGEST_SQL
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server
from tests.live.clients import FeedClient, live

RULES = """
version: 1
rules:
  - name: too-warm
    sensors: {id: "cold-*", metric: temperature}
    levels:
      warning: {above: 8}
    no_data: {after: 1h, then: alert}
"""


@pytest.fixture
async def ruled(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """A server whose rule watches the temperature of all sensors named cold-…"""
    (tmp_path / "cold.yml").write_text(RULES)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, rules_dir=tmp_path)
    async with running_server(settings) as running:
        yield running


async def change(server: Server, sensor: str, **fields: object) -> tuple[int, Any]:
    """Send a PUT, and return status and answer."""
    body = msgspec.json.encode(fields)
    async with server.http.put(f"/api/v1/sensors/{sensor}", data=body) as response:
        return response.status, await response.json()


async def delete(server: Server, sensor: str) -> int:
    """Send a DELETE, and return the status."""
    async with server.http.delete(f"/api/v1/sensors/{sensor}") as response:
        return response.status


async def post(server: Server, sensor: str, at_us: int | None = None, **values: float) -> Any:
    """Post one reading; return the answer."""
    reading = {"sensor": sensor, "values": values, **({} if at_us is None else {"time": rfc3339(at_us)})}
    response = await server.post_readings([reading])
    assert response.status == 200
    return await response.json()


async def names(server: Server, **parameters: str) -> list[str]:
    """List the names of all sensors."""
    answer: Any = await server.get("/api/v1/sensors", **parameters)
    return [item["name"] for item in answer["items"]]


async def alerts(server: Server, path: str = "/api/v1/alerts") -> list[tuple[str, str, str | None]]:
    """List sensor, state and reason of alerts."""
    answer: Any = await server.get(path)
    return [(item["sensor"], item["state"], item["reason"]) for item in answer["items"]]


async def alert_frame(feed: FeedClient) -> dict[str, Any]:
    """Wait for the next end of an alert; return its transition, sensor and reason."""
    while True:
        frame = await feed.receive()
        if frame["type"] == "alert" and frame["transition"] == "resolved":
            return {field: frame[field] for field in ("transition", "sensor", "reason")}


async def sensor_of_value(feed: FeedClient, wanted: float) -> str:
    """Wait for the frame of a value and return the name of its sensor; frames from before may come first."""
    while True:
        for sensor, _, _, value in await feed.values(1):
            if value == wanted:
                return sensor


async def evaluate(server: Server) -> None:
    """Let the server evaluate all that is new, and watch silence."""
    await server.tick()
    await server.watch_silence()


async def test_sensor_shows_what_was_put_and_keeps_the_rest(server: Server) -> None:
    await post(server, "pi1", temperature=21.5, humidity=40)
    status, answer = await change(
        server,
        "pi1",
        display_name="Cold room 1",
        units={"temperature": "°C"},
        expected_interval="10m",
        tags={"site": "harbour"},
        notes="Behind\nthe second door",
    )
    assert status == 200
    assert answer == await server.get("/api/v1/sensors/pi1")
    shown = {field: answer[field] for field in ("name", "display_name", "expected_interval", "tags", "notes")}
    assert shown == {
        "name": "pi1",
        "display_name": "Cold room 1",
        "expected_interval": 600.0,
        "tags": {"site": "harbour"},
        "notes": "Behind\nthe second door",
    }
    assert {metric: latest["unit"] for metric, latest in answer["latest"].items()} == {
        "humidity": None,
        "temperature": "°C",
    }
    _, again = await change(server, "pi1", notes=None, expected_interval=90.5)
    assert again == {**answer, "notes": None, "expected_interval": 90.5}


async def test_sensor_may_be_put_back_as_it_was_read(server: Server) -> None:
    await post(server, "pi1", t=1)
    item = await server.get("/api/v1/sensors/pi1")
    status, answer = await change(server, "pi1", **item)
    assert (status, answer) == (200, item)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "  "}, "name is '  '; send a text of 1 to 200 printable characters"),
        ({"name": "a\tb"}, "name is 'a\\tb'; send"),
        ({"display_name": ""}, "display_name is ''; send a text of 1 to 200 printable characters, or null for none"),
        ({"notes": "x" * 2_001}, "notes has 2,001 characters; send at most 2,000"),
        ({"notes": "a\0b"}, "without NUL"),
        ({"units": {"temperatur": "°C"}}, 'never sent; did you mean "temperature"? Its metrics are temperature'),
        ({"units": {"temperature": "x" * 31}}, "send 1 to 30 printable characters"),
        ({"units": {"temperature": ""}}, "the unit of 'temperature' is ''"),
        ({"expected_interval": "10"}, 'its unit is missing; did you mean "10s" or "10m"?'),
        ({"expected_interval": 0}, "expected_interval is 0"),
        (
            {"expected_interval": 1e308},
            "expected_interval is 1e+308; send seconds, or a text such as 10m, at most 366d",
        ),
        ({"expected_interval": "400d"}, "at most 366d"),
        ({"tags": {"site": "x" * 201}}, "send texts of at most 200 characters"),
        ({"display": "x"}, "display"),
        ({"retired": "yes"}, "retired"),
    ],
)
async def test_put_is_refused_when_a_value_cannot_be_used(
    server: Server, fields: dict[str, object], message: str
) -> None:
    await post(server, "pi1", temperature=1)
    before = await server.get("/api/v1/sensors/pi1")
    status, answer = await change(server, "pi1", **fields)
    assert status == 400
    assert message in answer["detail"]
    assert await server.get("/api/v1/sensors/pi1") == before


async def test_only_keys_with_admin_change_sensors(server: Server) -> None:
    await post(server, "pi1", t=1)
    server.http.headers["X-API-Key"] = API_KEY_WS
    assert (await change(server, "pi1", notes="x"))[0] == 403
    assert await delete(server, "pi1") == 403
    server.http.headers["X-API-Key"] = API_KEY
    assert (await change(server, "nobody", notes="x"))[0] == 404
    assert await delete(server, "nobody") == 404


async def test_uploads_do_not_change_tags_that_were_put_until_these_are_taken_back(server: Server) -> None:
    async def upload(seconds: int, tags: dict[str, str]) -> dict[str, str]:
        reading = {"sensor": "pi1", "time": rfc3339(start + seconds * SECOND_US), "values": {"t": 1}, "tags": tags}
        assert (await server.post_readings([reading])).status == 200
        item: Any = await server.get("/api/v1/sensors/pi1")
        tags_now: dict[str, str] = item["tags"]
        return tags_now

    start = now_us() - MINUTE_US
    assert await upload(0, {"site": "quay", "floor": "1"}) == {"site": "quay", "floor": "1"}
    assert (await change(server, "pi1", tags={"site": "harbour"}))[1]["tags"] == {"site": "harbour"}
    assert await upload(1, {"site": "yard"}) == {"site": "harbour"}
    assert (await change(server, "pi1", tags=None))[1]["tags"] == {"site": "yard"}
    assert await upload(2, {"site": "roof"}) == {"site": "roof"}


async def test_tags_and_gateway_are_those_of_the_newest_reading_when_processes_change_and_sensors_are_renamed(
    server: Server, database: Database
) -> None:
    async def upload(to: Server, seconds_ago: int, room: str) -> None:
        time = rfc3339(now_us() - seconds_ago * SECOND_US)
        reading = {"sensor": "pi1", "time": time, "values": {"t": 1}, "tags": {"room": room}}
        assert (await to.post_readings({"gateway": f"at-{room}", "readings": [reading]})).status == 200

    async def shown() -> tuple[object, object]:
        item = await server.get("/api/v1/sensors/pi1")
        return item["tags"], item["gateway"]

    await upload(server, 3_000, "x")
    await upload(server, 1_000, "x")
    await post(server, "other", t=1)
    await change(server, "other", name="another")
    await upload(server, 2_000, "y")
    assert await shown() == ({"room": "x"}, "at-x")
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as other:
        await upload(other, 900, "y")
        await upload(server, 800, "x")
        await upload(server, 0, "x")
        async with database.pool.acquire() as connection:
            for each in (server, other):
                await each.services.ingest.writer.registry.store_seen(connection)
    assert await shown() == ({"room": "x"}, "at-x")


async def test_unit_is_the_smaller_text_when_two_uploads_of_one_time_differ(server: Server) -> None:
    at = rfc3339(now_us() - SECOND_US)
    for sensor, units in (("a", ("C", "F")), ("b", ("F", "C"))):
        for unit in units:
            assert (await server.post_readings([{"sensor": sensor, "time": at, "values": {"t": 1}, "unit": unit}])).ok
        item: Any = await server.get(f"/api/v1/sensors/{sensor}")
        assert item["latest"]["t"]["unit"] == "C"


async def test_unit_is_that_of_the_oldest_upload_whatever_their_order_and_put_wins(server: Server) -> None:
    async def units(sensor: str) -> dict[str, str | None]:
        item: Any = await server.get(f"/api/v1/sensors/{sensor}")
        return {metric: latest["unit"] for metric, latest in item["latest"].items()}

    async def upload(sensor: str, seconds: int, **reading: object) -> None:
        body = {"sensor": sensor, "time": rfc3339(start + seconds * SECOND_US), "values": {"t": 1, "h": 1}, **reading}
        assert (await server.post_readings([body])).status == 200

    start = now_us() - MINUTE_US
    for sensor, order in (("a", (1, 2, 3)), ("b", (3, 2, 1)), ("c", (2, 3, 1))):
        for second in order:
            await upload(sensor, second, units={"t": ["°F", "K", "°C"][second - 1], "p": "hPa"})
        assert await units(sensor) == {"h": None, "t": "°F"}
    await change(server, "a", units={"t": "°C"})
    await upload("a", 0, unit="K")
    assert await units("a") == {"h": "K", "t": "°C"}
    await change(server, "a", units={"t": None})
    assert await units("a") == {"h": "K", "t": None}
    await upload("a", 9, units={"t": "mK"}, unit="X")
    assert await units("a") == {"h": "K", "t": "mK"}


async def test_old_name_is_free_for_another_sensor_once_it_is_forgotten(server: Server) -> None:
    await post(server, "pi1", t=1)
    await change(server, "pi1", name="a")
    await change(server, "pi1", name="b")
    status, answer = await change(server, "b", old_names=["nobody"])
    assert status == 400
    assert answer["detail"].startswith("old_names has 'nobody', which is not one of its old names: pi1, a.")
    assert (await change(server, "b", old_names=["a"]))[1]["old_names"] == ["a"]
    assert (await post(server, "pi1", t=2))["accepted"] == 1
    assert await names(server) == ["b", "pi1"]
    assert (await server.get("/api/v1/sensors/a"))["name"] == "b"


async def test_change_waits_for_an_upload_that_describes_the_sensor_and_neither_fails(
    server: Server, database: Database
) -> None:
    """Both lock the sensor, then its series, so that they cannot deadlock."""
    await post(server, "pi1", t=1, u=2)
    async with database.pool.acquire() as describing, describing.transaction():
        await describing.execute(INGEST_SQL["lock_sensors"], [1])
        changing = asyncio.create_task(change(server, "pi1", units={"t": "°C", "u": "%"}))
        async with asyncio.timeout(10):
            while not await database.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await describing.execute(INGEST_SQL["lock_series"], [1, 2])
    assert (await changing)[0] == 200


async def test_change_that_changes_nothing_leaves_the_sensors_of_other_processes_alone(
    server: Server, database: Database
) -> None:
    await post(server, "pi1", t=1)
    item = await server.get("/api/v1/sensors/pi1")
    version = await database.pool.fetchval("SELECT version FROM sensor_version")
    for fields in ({"name": "pi1", "retired": False}, {"notes": "x"}, {"units": {"t": "°C"}}):
        assert (await change(server, "pi1", **{**item, **fields}))[0] == 200
    assert await database.pool.fetchval("SELECT version FROM sensor_version") == version


async def test_sensor_that_came_back_is_not_written_again_by_each_upload(server: Server, database: Database) -> None:
    await post(server, "pi1", t=1)
    await change(server, "pi1", retired=True)
    await post(server, "pi1", t=2)
    row = "SELECT xmin::text, retired_at FROM sensor"
    before = tuple(await database.pool.fetchrow(row) or ())
    assert before[1] is None
    for value in (3, 4):
        await post(server, "pi1", t=value)
    assert tuple(await database.pool.fetchrow(row) or ()) == before


async def test_processes_of_the_version_before_still_register_sensors(server: Server, database: Database) -> None:
    await post(server, "gone", t=1)
    assert await delete(server, "gone") == 204
    insert = "INSERT INTO sensor (name, created_by) VALUES ($1, 'k') ON CONFLICT (name) DO NOTHING"
    for _ in range(2):
        await database.pool.execute(insert, "gone")
    assert await names(server) == ["gone"]


async def test_renamed_sensor_is_reached_by_both_names_and_is_one_series(server: Server) -> None:
    start = now_us() - MINUTE_US
    await post(server, "old", start, t=1)
    status, answer = await change(server, "old", name="new")
    assert (status, answer["name"], answer["old_names"]) == (200, "new", ["old"])
    assert (await post(server, "old", start + SECOND_US, t=2))["accepted"] == 1
    assert (await post(server, "new", start + SECOND_US, t=3))["duplicates"] == 1
    assert (await post(server, "old", start + 2 * SECOND_US, t=4, u=5))["accepted"] == 2
    assert await names(server) == ["new"]
    for name in ("old", "new"):
        assert (await server.get(f"/api/v1/sensors/{name}"))["name"] == "new"
        readings: Any = await server.get("/api/v1/readings", sensor=name)
        assert [(item["sensor"], item["values"]) for item in readings["items"]] == [
            ("new", {"t": 1.0}),
            ("new", {"t": 2.0}),
            ("new", {"t": 4.0, "u": 5.0}),
        ]
        trend: Any = await server.get("/api/v1/trends", sensor=name, metric="t")
        assert sum(bucket["count"] for bucket in trend["buckets"]) == 3


async def test_two_names_of_a_sensor_in_one_upload_are_one_sensor(server: Server) -> None:
    start = now_us() - MINUTE_US
    values = {"temperature": 1, "humidity": 2, "pressure": 3}
    await post(server, "old", start, **values)
    await change(server, "old", name="new")
    response = await server.post_readings(
        [
            {"sensor": name, "time": rfc3339(start + number * SECOND_US), "values": values, "tags": {"n": name}}
            for number, name in ((1, "old"), (2, "new"), (2, "old"))
        ]
    )
    answer = await response.json()
    assert (answer["accepted"], answer["duplicates"]) == (6, 3)
    item = await server.get("/api/v1/sensors/new")
    assert item["tags"] == {"n": "old"}


async def test_rename_is_refused_when_the_name_is_taken_and_free_again_when_taken_back(server: Server) -> None:
    for name in ("a", "b"):
        await post(server, name, t=1)
    status, answer = await change(server, "a", name="b")
    assert (status, answer["detail"]) == (
        409,
        "There is a sensor 'b'; choose another name, or delete that sensor first",
    )
    assert (await change(server, "a", name="a"))[0] == 200
    assert (await change(server, "a", name="c"))[0] == 200
    status, answer = await change(server, "b", name="a")
    assert status == 409
    assert "Sensor 'c' has the old name 'a'" in answer["detail"]
    status, answer = await change(server, "c", name="a")
    assert (status, answer["name"], answer["old_names"]) == (200, "a", ["c"])


async def test_rename_reaches_a_second_process_that_knows_the_old_name(server: Server, database: Database) -> None:
    await post(server, "old", t=1)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as other, live(other) as feed:
        await post(other, "old", t=2)
        await feed.snapshot()
        await change(server, "old", name="new")
        assert (await post(other, "old", t=3))["accepted"] == 1
        assert await sensor_of_value(feed, 3) == "new"
        assert await names(other) == ["new"]


async def test_live_filter_for_an_old_name_goes_on_after_the_rename(server: Server) -> None:
    await post(server, "old", t=1)
    async with live(server) as feed:
        await feed.snapshot(sensors=["old"])
        await post(server, "old", t=2)
        assert await sensor_of_value(feed, 2) == "old"
        await change(server, "old", name="new")
        await post(server, "other", t=3)
        await post(server, "old", t=4)
        assert await sensor_of_value(feed, 4) == "new"
        snapshot = await feed.snapshot(sensors=["old"])
        assert [reading["sensor"] for reading in snapshot["readings"]] == ["new"]


async def test_silence_of_one_sensor_follows_its_new_name(ruled: Server) -> None:
    await post(ruled, "cold-1", temperature=9)
    silence = {"matchers": {"sensor": "cold-1"}, "to": rfc3339(now_us() + 60 * MINUTE_US), "author": "Ana"}
    async with ruled.http.post("/api/v1/silences", data=msgspec.json.encode(silence)) as response:
        assert response.status == 201
    await change(ruled, "cold-1", name="cold-room")
    silences: Any = await ruled.get("/api/v1/silences")
    assert [item["matchers"] for item in silences["items"]] == [{"sensor": "cold-room"}]
    async with ruled.http.post("/api/v1/silences", data=msgspec.json.encode(silence)) as response:
        assert (await response.json())["matchers"] == {"sensor": "cold-room"}


async def test_silence_is_not_widened_when_the_new_name_has_a_wildcard(ruled: Server) -> None:
    await post(ruled, "cold-1", temperature=9)
    silence = {"matchers": {"sensor": "cold-1"}, "to": rfc3339(now_us() + 60 * MINUTE_US), "author": "Ana"}
    async with ruled.http.post("/api/v1/silences", data=msgspec.json.encode(silence)) as response:
        assert response.status == 201
    assert (await change(ruled, "cold-1", name="cold-*"))[0] == 200
    silences: Any = await ruled.get("/api/v1/silences")
    assert [item["matchers"] for item in silences["items"]] == [{"sensor": "cold-1"}]


async def test_alert_is_open_again_when_a_retired_sensor_is_taken_into_use_again(ruled: Server) -> None:
    await post(ruled, "cold-1", temperature=9)
    await evaluate(ruled)
    await change(ruled, "cold-1", retired=True)
    await evaluate(ruled)
    assert await alerts(ruled) == []
    await change(ruled, "cold-1", retired=False)
    await evaluate(ruled)
    assert await alerts(ruled) == [("cold-1", "firing", None)]
    await post(ruled, "cold-1", temperature=7)
    await evaluate(ruled)
    assert await alerts(ruled) == []
    history = await alerts(ruled, "/api/v1/alerts/history")
    assert sorted(history, key=str) == [("cold-1", "resolved", "retired"), ("cold-1", "resolved", None)]


async def test_alert_ends_when_a_rename_takes_the_sensor_out_of_its_rule_and_begins_when_it_comes_back(
    ruled: Server,
) -> None:
    await post(ruled, "cold-1", temperature=9)
    await evaluate(ruled)
    assert await alerts(ruled) == [("cold-1", "firing", None)]
    await change(ruled, "cold-1", name="warm-1")
    await evaluate(ruled)
    assert await alerts(ruled) == []
    assert await alerts(ruled, "/api/v1/alerts/history?sensor=cold-1") == [("warm-1", "resolved", "no longer selected")]
    await change(ruled, "warm-1", name="cold-2")
    await evaluate(ruled)
    assert await alerts(ruled) == [("cold-2", "firing", None)]


async def test_retired_sensor_ends_its_alerts_says_nothing_and_comes_back_when_it_reports(
    ruled: Server, database: Database
) -> None:
    for name in ("cold-1", "cold-2"):
        await post(ruled, name, temperature=9)
    await evaluate(ruled)
    async with live(ruled) as feed:
        await feed.snapshot(alerts=True)
        assert (await change(ruled, "cold-1", retired=True))[1]["state"] == "retired"
        await evaluate(ruled)
        frame = await alert_frame(feed)
        assert frame == {"transition": "resolved", "sensor": "cold-1", "reason": "retired"}
        snapshot = await feed.snapshot()
        assert [sensor["name"] for sensor in snapshot["sensors"]] == ["cold-2"]
        assert [reading["sensor"] for reading in snapshot["readings"]] == ["cold-2"]
    assert await names(ruled) == ["cold-2"]
    assert await names(ruled, retired="true") == ["cold-1", "cold-2"]
    await database.pool.execute("UPDATE series_state SET received_at = now() - INTERVAL '2 hours'")
    await ruled.count_silence_from_the_beginning()
    await evaluate(ruled)
    assert set(await alerts(ruled)) == {("cold-2", "firing", "no_data"), ("cold-2", "firing", None)}
    await post(ruled, "cold-1", temperature=9.5)
    await evaluate(ruled)
    assert await names(ruled) == ["cold-1", "cold-2"]
    assert ("cold-1", "firing", None) in await alerts(ruled)
    assert (await ruled.get("/api/v1/sensors/cold-1"))["state"] == "alert"


async def test_retired_sensor_stays_retired_when_an_upload_brings_nothing_new(server: Server) -> None:
    at = now_us() - SECOND_US
    await post(server, "pi1", at, t=1)
    await change(server, "pi1", retired=True)
    assert (await post(server, "pi1", at, t=1))["duplicates"] == 1
    assert await names(server) == []
    assert (await change(server, "pi1", retired=False))[1]["state"] == "ok"


async def test_alert_of_missing_data_ends_as_retired_when_silence_is_watched_first(
    ruled: Server, database: Database
) -> None:
    await post(ruled, "cold-1", temperature=1)
    await evaluate(ruled)
    await database.pool.execute("UPDATE series_state SET received_at = now() - INTERVAL '2 hours'")
    await ruled.count_silence_from_the_beginning()
    await evaluate(ruled)
    assert await alerts(ruled) == [("cold-1", "firing", "no_data")]
    await change(ruled, "cold-1", retired=True)
    await ruled.watch_silence()
    assert await alerts(ruled) == []
    assert await alerts(ruled, "/api/v1/alerts/history") == [("cold-1", "resolved", "retired")]


async def test_deleted_sensor_is_hidden_at_once_and_its_name_makes_a_new_one(ruled: Server) -> None:
    start = now_us() - MINUTE_US
    await post(ruled, "cold-0", start, temperature=9)
    await change(ruled, "cold-0", name="cold-1")
    await evaluate(ruled)
    async with live(ruled) as feed:
        await feed.snapshot(alerts=True)
        assert await delete(ruled, "cold-1") == 204
        await evaluate(ruled)
        frame = await alert_frame(feed)
        assert frame == {"transition": "resolved", "sensor": "cold-1", "reason": "deleted"}
    for name in ("cold-0", "cold-1"):
        assert await delete(ruled, name) == 404
        async with ruled.http.get("/api/v1/readings", params={"sensor": name}) as response:
            assert response.status == 404
    assert await names(ruled, retired="true") == []
    assert await alerts(ruled) == []
    assert await alerts(ruled, "/api/v1/alerts/history") == []
    assert (await ruled.get("/api/v1/readings"))["items"] == []
    assert (await post(ruled, "cold-1", start, temperature=5))["accepted"] == 1
    readings: Any = await ruled.get("/api/v1/readings", sensor="cold-1")
    assert [item["values"] for item in readings["items"]] == [{"temperature": 5.0}]


async def test_upload_of_a_process_that_knows_the_deleted_sensor_makes_a_new_one(
    server: Server, database: Database
) -> None:
    at = now_us() - SECOND_US
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as other:
        await post(other, "pi1", at, t=1)
        assert await delete(server, "pi1") == 204
        assert (await post(other, "pi1", at, t=1))["accepted"] == 1
        assert (await post(other, "pi1", t=2, u=3))["accepted"] == 2
        assert await names(server) == ["pi1"]


class Load:
    """Uploads of some sensors, sent again until they are acknowledged, and the seconds that each must keep."""

    def __init__(self, sensors: list[str]) -> None:
        self.start = now_us() - 60 * MINUTE_US
        self.acknowledged: dict[str, set[int]] = {name: set() for name in sensors}
        #: How often a deletion of each sensor has begun or ended: what is under way meanwhile may go with it.
        self.deletions: dict[str, int] = dict.fromkeys(sensors, 0)

    async def upload(self, server: Server, seconds: range) -> None:
        """Send one upload of all sensors for each second."""
        for second in seconds:
            time = rfc3339(self.start + second * SECOND_US)
            body = [{"sensor": name, "time": time, "values": {"t": second}} for name in self.acknowledged]
            before = dict(self.deletions)
            while (await server.post_readings(body)).status == 503:
                before = dict(self.deletions)
            for name, kept in self.acknowledged.items():
                if before[name] == self.deletions[name]:
                    kept.add(second)

    async def delete(self, server: Server, name: str) -> None:
        """Delete a sensor, whose readings so far must go."""
        self.deletions[name] += 1
        self.acknowledged[name].clear()
        assert await delete(server, name) in (204, 404)
        self.deletions[name] += 1

    async def stored(self, server: Server, name: str) -> set[int]:
        """Return the stored seconds of a sensor."""
        since = self.start // 1_000
        readings: Any = await server.get("/api/v1/readings", sensor=name, limit=1_000, **{"from": since})
        return {int(item["values"]["t"]) for item in readings["items"]}


async def test_no_acknowledged_reading_is_lost_while_sensors_are_renamed_and_deleted_under_load(
    server: Server, database: Database
) -> None:
    kept, deleted = [f"k{number}" for number in range(4)], [f"d{number}" for number in range(4)]
    load = Load([*kept, *deleted])

    async def operate() -> None:
        for step in range(12):
            for name in kept:
                assert (await change(server, name, name=f"{name}-{step}"))[0] == 200
            for name in deleted:
                await load.delete(server, name)

    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as other:
        await load.upload(server, range(1))
        await asyncio.gather(load.upload(server, range(1, 60)), load.upload(other, range(60, 120)), operate())
        await load.upload(server, range(120, 121))  # so that each exists, also if it was deleted last
        for name in deleted:
            assert load.acknowledged[name] <= await load.stored(server, name)
        for name in kept:
            assert load.acknowledged[name] == set(range(121)) == await load.stored(server, name)


async def test_frames_hold_no_old_name_once_the_rename_is_answered(server: Server) -> None:
    await post(server, "old", t=0)
    async with live(server) as feed:
        await feed.snapshot()
        await change(server, "old", name="new")
        for value in (1, 2):
            await post(server, "old", t=value)
            assert await sensor_of_value(feed, value) == "new"


async def test_put_says_that_the_body_is_empty_or_what_is_wrong_in_it(server: Server) -> None:
    await post(server, "pi1", t=1)
    for body, detail in (
        (b"", "The body is empty; send JSON"),
        (b'{"notes": 1}', "notes: Expected `str | null`, got `int`"),
    ):
        async with server.http.put("/api/v1/sensors/pi1", data=body) as response:
            assert response.status == 400
            assert (await response.json())["detail"].startswith(detail)
