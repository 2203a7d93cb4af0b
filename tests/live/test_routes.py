"""/ws/sensor_updates, compared with the behaviour of the replaced sensor server."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from app.auth import key_ring
from app.auth.keys import create_key, revoke_key
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, YESTERDAY, Database, Server, running_server, wait_until
from tests.live.clients import TIMEOUT_S, FeedClient, sensor_updates

BODY = {"temperature": 21.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}


@pytest.fixture
async def limited(database: Database) -> AsyncIterator[Server]:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, max_ws_connections_per_key=1)
    async with running_server(settings) as running:
        yield running


async def post(server: Server, **changes: object) -> dict[str, Any]:
    async with server.http.post("/api/temperature_reading", json={**BODY, **changes}) as response:
        assert response.status == 201
        answer: dict[str, Any] = await response.json()
        return answer


async def record(client: FeedClient) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_S):
        message: dict[str, Any] = json.loads(await client.connection.recv())
        return message


async def test_sensor_updates_closes_with_1008_when_the_key_is_wrong(server: Server) -> None:
    for key in ("wrong", "", API_KEY):
        async with sensor_updates(server, key) as client:
            assert await client.closed() == (1008, "Invalid or missing API Key.")


async def test_sensor_updates_closes_with_1008_when_no_key_is_sent(server: Server) -> None:
    address = server.address.replace("http://", "ws://")
    async with connect(f"{address}/ws/sensor_updates") as connection:
        assert await FeedClient(connection).closed() == (1008, "Invalid or missing API Key.")


async def test_sensor_updates_closes_with_1008_when_the_key_holds_too_many_connections(limited: Server) -> None:
    await post(limited)
    async with sensor_updates(limited) as first:
        await record(first)
        async with sensor_updates(limited) as second:
            assert await second.closed() == (1008, "Max connections (1) for this API Key reached.")
    await wait_until(lambda: clients(limited) == 0)
    async with sensor_updates(limited) as third:
        await record(third)


def clients(server: Server) -> float | None:
    return server.services.metrics.registry.get_sample_value(
        "tidegauge_websocket_clients", {"path": "/ws/sensor_updates"}
    )


async def test_sensor_updates_closes_with_1008_when_the_key_is_revoked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.05)
    key = await create_key(database.pool, "display", frozenset({"live"}), {})
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as server, sensor_updates(server, key) as client:
        await revoke_key(database.pool, "display")
        assert await client.closed() == (1008, "Invalid or missing API Key.")


async def test_sensor_updates_sends_the_last_record_first_and_then_each_new_one(server: Server) -> None:
    await post(server, temperature=1)
    last = await post(server, temperature=2)
    async with sensor_updates(server) as client:
        assert await record(client) == last
        new = [await post(server, temperature=value, sensor_id=f"s{value}") for value in range(3, 8)]
        assert [await record(client) for _ in new] == new
    assert list(last) == [
        "id",
        "temperature",
        "humidity",
        "pressure",
        "date_recorded",
        "time_recorded",
        "sensor_id",
        "client_ip",
    ]


async def test_sensor_updates_sends_no_first_record_when_nothing_is_stored(server: Server) -> None:
    async with sensor_updates(server) as client:
        await wait_until(lambda: clients(server) == 1)
        new = await post(server)
        assert await record(client) == new


async def test_sensor_updates_sends_each_record_once_when_clients_connect_during_uploads(server: Server) -> None:
    """The last record in the database may also be the first one that the feed has still to send."""

    async def watch() -> None:
        async with sensor_updates(server) as client:
            ids = [(await record(client))["id"] for _ in range(6)]
        assert len(set(ids)) == len(ids)

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(watch()) for _ in range(12)]
        while not all(task.done() for task in watching):
            await post(server)


async def test_sensor_updates_sends_readings_of_other_endpoints_when_they_have_the_three_metrics(
    server: Server,
) -> None:
    async with sensor_updates(server) as client:
        await wait_until(lambda: clients(server) == 1)
        values = {"temperature": 1.5, "humidity": 2.5, "pressure": 3.5}
        await server.post_readings(
            [
                {"sensor": "full", "time": f"{YESTERDAY}T08:00:00Z", "values": {**values, "flow": 4.5}},
                {"sensor": "half", "time": f"{YESTERDAY}T08:00:00Z", "values": {"temperature": 1, "humidity": 2}},
            ]
        )
        received = await record(client)
        assert received == {
            "id": received["id"],
            "temperature": 1.5,
            "humidity": 2.5,
            "pressure": 3.5,
            "date_recorded": YESTERDAY,
            "time_recorded": "05:00:00",
            "sensor_id": "full",
            "client_ip": "127.0.0.1",
        }
        assert received["id"] > 0
        assert (await post(server))["id"] == (await record(client))["id"]


async def test_sensor_updates_ignores_messages_when_the_client_sends_any(server: Server) -> None:
    async with sensor_updates(server) as client:
        for message in ("hello", "", '{"type":"subscribe"}', b"\x00\xff"):
            await client.connection.send(message)
        new = await post(server)
        assert await record(client) == new


async def test_sensor_updates_closes_with_1013_when_the_database_is_away(server: Server) -> None:
    server.services.feed_pool.terminate()
    async with sensor_updates(server) as client:
        assert await client.closed() == (1013, "the database is away")


async def test_sensor_updates_closes_with_1012_when_the_server_stops(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as server:
        address = server.address.replace("http://", "ws://")
        connection = await connect(f"{address}/ws/sensor_updates?api-key={API_KEY_WS}")
        await wait_until(lambda: clients(server) == 1)
    assert (await FeedClient(connection).closed())[0] == 1012
    await connection.close()
