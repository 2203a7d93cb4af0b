"""`tidegauge mqtt` between a real broker and a real server."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest

from app.auth.keys import Binding, create_key
from app.clock import from_us
from tests.conftest import API_KEY, YESTERDAY, YESTERDAY_AT_8_MS, Database, Server
from tests.mqtt.bridges import (
    bridge,
    in_flight,
    metric,
    outcome,
    plan,
    stored,
    until_in_flight,
    until_logged,
    until_metric,
    until_stored,
)
from tests.mqtt.mosquitto import mosquitto, needs_mosquitto
from tests.ports import free_port
from tests.processes import tidegauge
from tests.wire import wire_to

pytestmark = needs_mosquitto
PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@PROTOCOLS
async def test_messages_become_readings_with_units_and_tags(
    server: Server, database: Database, tmp_path: Path, protocol: str
) -> None:
    topics = """
  - {topic: "tele/{sensor}/SENSOR", time: Time, timezone: UTC, units: {DS.T: "°C"}}
  - {topic: "home/{room}/{sensor}/{metric}", payload: plain, words: {ON: 1}}
"""
    async with mosquitto(tmp_path) as broker:
        text = plan(broker.port, topics, protocol=protocol)
        async with bridge(tmp_path / "bridge", text, server.address) as process:
            await broker.publish("tele/boiler/SENSOR", json.dumps({"Time": f"{YESTERDAY}T08:00:00", "DS": {"T": 61.5}}))
            await broker.publish("home/cellar/fridge/door", "ON")
            await broker.publish("home/cellar/fridge/temperature", "4.25")
            await until_stored(database.pool, 3)
            assert await process.end(signal.SIGTERM) == 0
            assert process.complaints == []
    assert await stored(database.pool) == [
        ("boiler", "DS.T", 61.5),
        ("fridge", "door", 1.0),
        ("fridge", "temperature", 4.25),
    ]
    about = await database.pool.fetchrow("SELECT tags->>'room' AS room, gateway FROM sensor WHERE name = 'fridge'")
    assert about is not None
    assert tuple(about) == ("cellar", "mqtt")
    assert await database.pool.fetchval("SELECT unit FROM series WHERE metric = 'DS.T'") == "°C"
    assert await database.pool.fetchval("SELECT min(time) FROM reading") == _at_8()


@PROTOCOLS
async def test_broker_keeps_messages_while_the_server_is_away_and_while_the_bridge_is(
    server: Server, database: Database, tmp_path: Path, protocol: str
) -> None:
    async with mosquitto(tmp_path) as broker:
        text = plan(broker.port, protocol=protocol)
        nowhere = f"http://127.0.0.1:{free_port()}"
        async with bridge(tmp_path / "bridge", text, nowhere, waits=False) as process:
            await until_logged(process, "mqtt_connected")
            await broker.publish_lines("plain/a/m", ["1", "2"])
            await until_logged(process, "mqtt_upload_waits")
            async with process.http.get("/health/ready") as response:
                (problem,) = (await response.json())["problems"]
                assert response.status == 503
                assert problem.startswith("the server does not store: no connection")
            process.kill()
        await broker.publish("plain/a/m", "3", "-i", "publisher")
        assert in_flight(broker) == 2
        async with bridge(tmp_path / "bridge", text, server.address) as process:
            await until_stored(database.pool, 3)
            assert await process.end(signal.SIGTERM) == 0
        # Two were sent twice, and acknowledged once.
        await until_in_flight(broker, 2)
    assert [value for _, _, value in await stored(database.pool)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "reconnected"])
@PROTOCOLS
async def test_message_without_a_time_is_one_reading_when_its_acknowledgement_was_lost(
    server: Server, database: Database, tmp_path: Path, protocol: str, is_killed: bool
) -> None:
    async with mosquitto(tmp_path) as broker, wire_to(f"mqtt://127.0.0.1:{broker.port}") as wire:
        text = plan(int(wire.url.rpartition(":")[2]), protocol=protocol)
        folder = tmp_path / "bridge"
        async with bridge(folder, text, server.address) as process:
            # The server holds the upload, so that the acknowledgement comes when nothing passes any more.
            async with database.pool.acquire() as connection, connection.transaction():
                await connection.execute("LOCK TABLE feed IN EXCLUSIVE MODE")
                await broker.publish("plain/a/m", "21.5")
                await until_waits_for_a_lock(database)
                wire.freeze()
            await until_stored(database.pool, 1)
            await until_metric(process, outcome("stored"), 1)
            if is_killed:
                process.kill()
            await wire.cut()
            await wire.mend()
            if not is_killed:
                await until_metric(process, outcome("stored"), 2)
        if is_killed:
            async with bridge(folder, text, server.address) as process:
                await until_metric(process, outcome("stored"), 1)
        assert "d1, q1" in broker.log
        assert await stored(database.pool) == [("a", "m", 21.5)]


async def until_waits_for_a_lock(database: Database) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(20):
        while not await database.pool.fetchval(waiting):  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.02)


async def test_no_more_messages_are_in_flight_than_the_file_says(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker:
        nowhere = f"http://127.0.0.1:{free_port()}"
        text = plan(broker.port, in_flight=5)
        async with bridge(tmp_path / "bridge", text, nowhere, waits=False) as process:
            await until_logged(process, "mqtt_connected")
            await broker.publish_lines("plain/a/m", [str(number) for number in range(50)])
            await until_logged(process, "mqtt_upload_waits")
            assert in_flight(broker) == 5
        async with bridge(tmp_path / "bridge", text, server.address):
            await until_stored(database.pool, 50)
    assert [value for _, _, value in await stored(database.pool)] == [float(number) for number in range(50)]


async def test_bad_message_is_acknowledged_named_and_does_not_hold_the_next(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker:
        topics = '\n  - {topic: "{sensor}/json", time: at}\n  - {topic: "{sensor}/plain", payload: plain, metric: m}\n'
        async with bridge(tmp_path / "bridge", plan(broker.port, topics), server.address) as process:
            poisoned = [
                ("a/json", b"{broken"),
                ("a/plain", b"open"),
                ("a/json", b'{"at": "yesterday", "x": 1}'),
                ("a/json", b'{"at": %d, "x": nan, "y": 1}' % YESTERDAY_AT_8_MS),
                ("a/plain", b"\xff" * 100_000),
                ("  /json", b'{"x": 1}'),
                ("b" * 300 + "/plain", b"1"),
                ("a/json", b'{"\\ud800": 1}'),
                ("a/json", b"[" * 50_000),
            ]
            for number, (topic, payload) in enumerate(poisoned, 1):
                await broker.publish(topic, payload)
                await broker.publish("good/plain", str(number))
                async with asyncio.timeout(20):
                    while ("good", "m", number) not in await stored(database.pool):  # noqa: ASYNC110 -- no event
                        await asyncio.sleep(0.02)
            refused = [(line["topic"], line["code"]) for line in process.log if line["event"] == "mqtt_value_refused"]
            await until_metric(process, outcome("refused"), len(refused))
            assert await metric(process, outcome("stored")) == len(poisoned) + 1
            await until_in_flight(broker, 0)
    assert {(name, m) for name, m, _ in await stored(database.pool)} == {("good", "m"), ("a", "y"), ("a", "\\ud800")}
    assert refused == [
        ("a/json", "values_missing"),
        ("a/plain", "value_not_a_number"),
        ("a/json", "time_invalid"),
        ("a/json", "value_not_a_number"),
        ("a/plain", "value_not_a_number"),
        ("  /json", "sensor_invalid"),
        ("b" * 300 + "/plain", "sensor_invalid"),
        ("a/json", "values_missing"),
    ]


async def test_retained_message_is_stored_only_with_its_own_time(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker:
        await broker.publish("plain/a/m", "1", "-r")
        await broker.publish("timed/b", f'{{"at": {YESTERDAY_AT_8_MS}, "m": 2}}', "-r")
        async with bridge(tmp_path / "bridge", plan(broker.port), server.address) as process:
            await until_metric(process, outcome("retained"), 1)
            await until_stored(database.pool, 1)
            await broker.publish("plain/a/m", "3", "-r")
            await until_stored(database.pool, 2)
    assert await stored(database.pool) == [("a", "m", 3.0), ("b", "m", 2.0)]


async def test_bridge_logs_in_over_tls_with_a_password_from_a_file(
    server: Server, database: Database, tmp_path: Path
) -> None:
    _make_certificate(tmp_path)
    (tmp_path / "password").write_text("correct horse\n")
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "barn", "correct horse"], check=True)
    more = (
        f"certfile {tmp_path}/ca.pem\nkeyfile {tmp_path}/ca.key\nallow_anonymous false\npassword_file {tmp_path}/users"
    )
    options = ("--cafile", f"{tmp_path}/ca.pem", "-u", "barn", "-P", "correct horse")
    environ = {"MQTT_USERNAME": "barn", "MQTT_PASSWORD_FILE": str(tmp_path / "password")}
    async with mosquitto(tmp_path, more, *options) as broker:
        text = plan(broker.port, address=f"mqtts://127.0.0.1:{broker.port}", ca=tmp_path / "ca.pem")
        async with bridge(tmp_path / "bridge", text, server.address, True, **environ) as process:
            await broker.publish("plain/a/m", "1")
            await until_stored(database.pool, 1)
            assert "correct horse" not in process.err
        # Without the certificate, and with a wrong password, it says why and goes on trying.
        unknown = plan(broker.port, address=f"mqtts://127.0.0.1:{broker.port}")
        async with bridge(tmp_path / "bridge", unknown, server.address, False, **environ) as process:
            reason = (await until_logged(process, "mqtt_unreachable"))["reason"]
            assert "certificate verify failed" in str(reason)
        environ["MQTT_USERNAME"] = "stranger"
        async with bridge(tmp_path / "bridge", text, server.address, False, **environ) as process:
            await until_logged(process, "mqtt_connection_refused")
            async with process.http.get("/health/ready") as response:
                assert response.status == 503
                assert (await response.json())["problems"] == [
                    "the broker refuses the connection: Not authorized; set MQTT_USERNAME and MQTT_PASSWORD"
                ]


async def test_second_client_of_the_same_name_is_noticed(server: Server, tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        bridge(tmp_path / "one", plan(broker.port), server.address) as first,
        bridge(tmp_path / "two", plan(broker.port), server.address) as second,
    ):
        # Each throws the other out; the one that notices first leaves the session to the other for a while.
        noticing = [asyncio.create_task(until_logged(each, "mqtt_session_taken_over")) for each in (first, second)]
        await asyncio.wait(noticing, return_when=asyncio.FIRST_COMPLETED)
        noticed = first if noticing[0].done() else second
        for task in noticing:
            task.cancel()
        async with noticed.http.get("/health/ready") as response:
            assert (await response.json())["problems"] == [
                'another client uses the client id "tidegauge"; give each its own'
            ]


async def test_topic_that_was_taken_out_of_the_file_is_not_subscribed_to_any_more(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker:
        async with bridge(tmp_path / "bridge", plan(broker.port), server.address) as process:
            assert await process.end(signal.SIGTERM) == 0
        only = '\n  - {topic: "plain/{sensor}/{metric}", payload: plain}\n'
        async with bridge(tmp_path / "bridge", plan(broker.port, only), server.address) as process:
            await broker.publish("timed/a", f'{{"at": {YESTERDAY_AT_8_MS}, "m": 1}}')
            await broker.publish("plain/a/m", "1")
            await until_stored(database.pool, 1)
            assert await metric(process, outcome("unmatched")) == 0
    assert "tidegauge timed/+" in broker.log.partition("Received UNSUBSCRIBE")[2]


async def test_revoked_key_holds_what_the_broker_has_until_there_is_another(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with mosquitto(tmp_path) as broker:
        folder = tmp_path / "bridge"
        async with bridge(folder, plan(broker.port), server.address, waits=False, MQTT_API_KEY="gone") as process:
            await until_logged(process, "mqtt_connected")
            await broker.publish("plain/a/m", "1")
            line = await until_logged(process, "mqtt_upload_denied")
            assert (line["level"], line["answer"]) == ("error", "401")
        async with bridge(folder, plan(broker.port), server.address, MQTT_API_KEY=API_KEY):
            await until_stored(database.pool, 1)


async def test_bound_key_puts_its_prefix_before_names_and_keeps_other_sensors_from_the_bridge(
    server: Server, database: Database, tmp_path: Path
) -> None:
    await server.post_readings({"gateway": "roof", "readings": [{"sensor": "b/oven", "values": {"m": 1}}]})
    key = await create_key(database.pool, "barn", frozenset({"ingest"}), {}, Binding("barn", prefix="b/"))
    async with (
        mosquitto(tmp_path) as broker,
        bridge(tmp_path / "bridge", plan(broker.port), server.address, MQTT_API_KEY=key) as process,
    ):
        for sensor in ("oven", "fridge"):
            await broker.publish(f"plain/{sensor}/m", "2")
        line = await until_logged(process, "mqtt_value_refused")
        await until_metric(process, outcome("stored"), 1)
    assert (line["topic"], line["code"]) == ("plain/oven/m", "sensor_of_other_gateway")
    assert await stored(database.pool) == [("b/fridge", "m", 2.0), ("b/oven", "m", 1.0)]
    assert await database.pool.fetchval("SELECT owner FROM sensor WHERE name = 'b/fridge'") == "barn"


def test_command_checks_its_file_and_names_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "mqtt.yml").write_text(plan(1883))
    assert tidegauge(tmp_path, "mqtt", "--check").out == "timed/+\nplain/+/+\n"
    (tmp_path / "bad.yml").write_text(plan(1883, '\n  - {topc: "a", payload: xml}\n'))
    ran = tidegauge(tmp_path, "mqtt", "bad.yml", "--check", COLUMNS="200")
    assert ran.code == 1
    first, second, third = ran.err.removeprefix("A file cannot be used: ").splitlines()
    assert first.startswith('bad.yml:6:5: "topic" is missing: the topics that it takes;')
    assert second.startswith(
        'bad.yml:6:6: unknown key "topc"; did you mean "topic"? (accepted: topic, payload, sensor, '
    )
    assert third == 'bad.yml:6:26: "payload": "xml" is not known (accepted: json, plain or ignore)'


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem"),
        ],
        check=True,
        capture_output=True,
    )


def _at_8() -> object:
    return from_us(YESTERDAY_AT_8_MS * 1_000)
