"""The live feed beside readings: alerts, sensors and problems at the start; states and heartbeats later."""

import asyncio
from typing import Any

import pytest

from app.live import session
from tests.conftest import Database, Server
from tests.live.clients import live, sensor_updates
from tests.sensors.test_routes import OPEN_ALERT

READINGS = [
    {"sensor": "cellar", "values": {"temperature": 9.1}, "tags": {"site": "harbour", "room": "cold"}},
    {"sensor": "roof", "values": {"wind": 12}, "tags": {"site": "hill"}},
]
NEXT = [{"sensor": "roof", "values": {"wind": 13}}, {"sensor": "cellar", "values": {"temperature": 9}}]
NAMES = ("rule", "sensor", "metric", "gateway", "level", "value", "threshold", "unit")


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(session, "READ_SENSORS_S", 0.2)


async def post(server: Server) -> None:
    """Post one reading of each sensor, the first through a gateway."""
    assert (await server.post_readings({"gateway": "quay", "readings": READINGS[:1]})).status == 200
    assert (await server.post_readings(READINGS[1:])).status == 200


async def next_of(client: Any, kind: str) -> dict[str, Any]:
    """Receive until a message of a kind comes."""
    while (message := await client.receive())["type"] != kind:
        pass
    found: dict[str, Any] = message
    return found


async def test_snapshot_has_open_alerts_sensors_and_rule_problems(server: Server, database: Database) -> None:
    await post(server)
    await database.pool.execute("UPDATE series SET unit = '°C' WHERE metric = 'temperature'")
    await database.pool.execute(OPEN_ALERT, "cellar", "warm", "threshold", "critical", None)
    await database.pool.execute("UPDATE alert_episode SET threshold = '8'")
    await database.pool.execute("INSERT INTO rule_problem VALUES (1, 'rules/a.yml:3:5: unknown key')")
    async with live(server) as client:
        snapshot = await client.snapshot(alerts=True)
    assert snapshot["problems"] == ["rules/a.yml:3:5: unknown key"]
    (alert,) = snapshot["alerts"]
    assert {name: alert[name] for name in NAMES} == {
        "rule": "warm",
        "sensor": "cellar",
        "metric": "temperature",
        "gateway": "quay",
        "level": "critical",
        "value": 9.1,
        "threshold": 8,
        "unit": "°C",
    }
    assert alert["tags"] == {"site": "harbour", "room": "cold"}
    by_name = {sensor.pop("name"): sensor for sensor in snapshot["sensors"]}
    assert by_name["cellar"].pop("received_at") is not None
    assert by_name["cellar"] == {
        "display_name": None,
        "tags": {"site": "harbour", "room": "cold"},
        "gateway": "quay",
        "state": "alert",
        "level": "critical",
        "units": {"temperature": "°C"},
    }
    assert (by_name["roof"]["state"], by_name["roof"]["units"]) == ("ok", {})


async def test_client_hears_a_heartbeat_whether_anything_happens_or_not(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        first, second = await next_of(client, "heartbeat"), await next_of(client, "heartbeat")
    assert set(first) == {"type", "at"}
    assert second["at"] > first["at"]


async def test_client_of_the_replaced_sensor_server_gets_no_heartbeat(server: Server) -> None:
    async with sensor_updates(server) as client, live(server) as witness:
        await witness.snapshot()
        await next_of(witness, "heartbeat")
        await next_of(witness, "heartbeat")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.connection.recv()


async def test_changed_states_come_by_themselves_to_clients_that_ask_for_them(
    server: Server, database: Database
) -> None:
    await post(server)
    async with live(server) as client, live(server) as other:
        await client.snapshot(states=True, sensors=["cellar"])
        await other.snapshot()
        await next_of(client, "states")  # as of the first look
        await database.pool.execute(OPEN_ALERT, "cellar", "warm", "threshold", "critical", None)
        assert (await next_of(client, "states"))["sensors"] == [
            {"name": "cellar", "state": "alert", "level": "critical"}
        ]
        await database.pool.execute("UPDATE sensor SET retired_at = now()")
        assert (await next_of(client, "states"))["sensors"] == [{"name": "cellar", "state": "retired", "level": None}]
        assert {(await other.receive())["type"] for _ in range(2)} == {"heartbeat"}


@pytest.mark.parametrize(
    "wishes",
    [
        {"tags": {"site": "harbour"}},
        {"tags": {"room": "*"}},
        {"gateway": "qu*"},
        {"tags": {"site": "h*"}, "gateway": "quay"},
    ],
    ids=str,
)
async def test_tags_and_gateway_choose_sensors(server: Server, wishes: dict[str, Any]) -> None:
    await post(server)
    async with live(server) as client:
        snapshot = await client.snapshot(**wishes)
        assert [reading["sensor"] for reading in snapshot["readings"]] == ["cellar"]
        assert [sensor["name"] for sensor in snapshot["sensors"]] == ["cellar"]
        await server.post_readings(NEXT)
        frame = await next_of(client, "readings")
        assert [reading["sensor"] for reading in frame["readings"]] == ["cellar"]


async def test_subscribing_again_replaces_the_filter(server: Server) -> None:
    await post(server)
    async with live(server) as client:
        await client.snapshot(tags={"site": "harbour"})
        client.cursor = ""
        snapshot = await client.snapshot(sensors=["roof"])
        assert [reading["sensor"] for reading in snapshot["readings"]] == ["roof"]
        await server.post_readings(NEXT)
        frame = await next_of(client, "readings")
        assert [reading["sensor"] for reading in frame["readings"]] == ["roof"]


async def test_every_client_gets_all_states_first_and_then_each_change(server: Server, database: Database) -> None:
    await post(server)
    calm = {"cellar": "ok", "roof": "ok"}
    async with live(server) as earlier:
        await earlier.snapshot(states=True)
        assert by_name(await next_of(earlier, "states")) == calm
        await database.pool.execute(OPEN_ALERT, "cellar", "warm", "threshold", "critical", None)
        assert by_name(await next_of(earlier, "states")) == {"cellar": "alert"}
        async with live(server) as later:
            # Resumed: no snapshot says what has changed meanwhile.
            await later.subscribe(states=True, resume=earlier.cursor)
            assert by_name(await next_of(later, "states")) == {**calm, "cellar": "alert"}
            await database.pool.execute("UPDATE alert_episode SET resolved_at = now()")
            assert by_name(await next_of(later, "states")) == {"cellar": "ok"}
            assert by_name(await next_of(earlier, "states")) == {"cellar": "ok"}


async def test_heartbeats_come_while_readings_wait_all_the_time(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot(mode="latest")
        async with asyncio.timeout(20):
            kinds: set[str] = set()
            while not {"heartbeat", "readings"} <= kinds:
                await post(server)
                kinds.add((await client.receive())["type"])


async def test_first_reading_of_a_new_sensor_passes_a_filter_by_tag(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot(tags={"site": "harbour"}, mode="all")
        for number in range(5):
            reading = {"sensor": f"quay-{number}", "values": {"level": number}, "tags": {"site": "harbour"}}
            await server.post_readings([reading, {**reading, "sensor": f"hill-{number}", "tags": {"site": "hill"}}])
            frame = await next_of(client, "readings")
            assert [(each["sensor"], each["values"]) for each in frame["readings"]] == [
                (f"quay-{number}", {"level": number})
            ]


async def test_first_reading_passes_a_filter_by_tag_when_the_sensor_was_seen_before_its_tags(server: Server) -> None:
    pool = server.services.pool
    async with live(server) as client:
        await client.snapshot(tags={"site": "harbour"}, mode="all")
        await pool.execute("INSERT INTO sensor (name, created_by) VALUES ('quay', 'API_KEY')")
        await server.services.feed.hub.labels.read(pool)
        await server.post_readings([{"sensor": "quay", "values": {"level": 1}, "tags": {"site": "harbour"}}])
        frame = await next_of(client, "readings")
        assert [each["sensor"] for each in frame["readings"]] == ["quay"]


def by_name(message: dict[str, Any]) -> dict[str, str]:
    """Return the state of each sensor of a message."""
    return {sensor["name"]: sensor["state"] for sensor in message["sensors"]}
