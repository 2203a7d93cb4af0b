"""/ws/live over real sockets: slow clients and large replays."""

import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from app.ingest.flush import feed_payload as payload
from app.live import listener
from app.live.queues import readings as queued_readings
from app.live.retention import prune_feed
from app.model import LegacyRecord
from tests.conftest import YESTERDAY, Database, Server, wait_until
from tests.live.clients import (
    FeedClient,
    expect_resync,
    flatten,
    live,
    metric,
    now_ms,
    paused,
    post,
    reading_slowly,
    sensor_updates,
    serving,
)


@pytest.fixture
async def small_buffer_server(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server with small socket buffers; larger ones would take megabytes for a client that does not read."""
    create_server = socket.create_server

    def create_with_small_buffer(address: tuple[str, int]) -> socket.socket:
        listening = create_server(address)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        return listening

    monkeypatch.setattr(socket, "create_server", create_with_small_buffer)
    async with serving(database.dsn) as running:
        yield running


async def test_live_loses_nothing_when_a_client_that_does_not_read_is_closed_and_resumes(
    small_buffer_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = small_buffer_server
    monkeypatch.setattr(queued_readings, "QUEUE_BYTES", 300_000)
    start, size = now_ms() - 1_000_000, 2_400
    sent = 0
    async with paused(server) as slow, live(server, max_size=None) as quick:
        await quick.snapshot()
        while metric(server, "tidegauge_clients_dropped_total") == 0:
            assert sent < 100 * size, "the client that does not read was never closed"
            await post(server, "s", *range(sent, sent + size), first_ms=start + sent)
            sent += size
            assert len(await quick.values(size)) == size
        received = await read_to_the_end(slow)
        assert slow.connection.close_code == 4408
        assert slow.connection.close_reason == slow.cursor
    assert received == list(range(len(received)))
    assert len(received) < sent
    async with live(server, max_size=None) as back:
        await back.subscribe(resume=slow.connection.close_reason)
        received += [value[3] for value in await back.values(sent - len(received))]
    assert received == list(range(sent))


async def read_to_the_end(client: FeedClient) -> list[float]:
    values: list[float] = []
    with suppress(ConnectionClosed):
        while True:
            values += [value[3] for value in flatten(await client.receive())]
    return values


async def test_live_conflates_when_a_client_of_latest_does_not_read(small_buffer_server: Server) -> None:
    server = small_buffer_server
    sensors = [f"sensor number {number:04}" for number in range(2_000)]
    start = now_ms() - 1_000_000

    async def post_all(value: int) -> None:
        time_ms = start + value * 1_000
        readings = [{"sensor": name, "time": time_ms, "values": {"level": value}} for name in sensors]
        assert (await server.post_readings(readings)).status == 200

    async with paused(server, mode="latest") as slow:
        value = 0
        while metric(server, "tidegauge_frames_conflated_total") < 3 * len(sensors):
            assert value < 100, "nothing was conflated"
            value += 1
            await post_all(value)
        last: dict[str, float] = dict.fromkeys(sensors, 0.0)
        frames = 0
        while min(last.values()) < value:
            frames += 1
            for sensor, _, _, level in flatten(await slow.receive()):
                assert level > last[sensor], "an older value came after a newer one"
                last[sensor] = level
    assert set(last.values()) == {float(value)}
    assert frames < value


async def test_hub_is_given_back_what_waits_for_clients_when_their_connections_break(
    small_buffer_server: Server, database: Database
) -> None:
    backlog = small_buffer_server.services.hub.backlog
    async with (
        paused(small_buffer_server) as slow,
        paused(small_buffer_server, mode="latest") as latest,
        sensor_updates(small_buffer_server, **await reading_slowly(small_buffer_server)) as replaced,
    ):
        rows = [(1, big_frame(number)) for number in range(20)]
        await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', $1, $2)", rows)
        await wait_until(lambda: small_buffer_server.services.hub.head >= 20)
        assert backlog.bytes > 0
        for client in (slow, latest, replaced):
            client.connection.transport.abort()
        for path in ("/ws/live", "/ws/sensor_updates"):
            await wait_until(
                lambda path=path: metric(small_buffer_server, "tidegauge_websocket_clients", path=path) == 0  # type: ignore[misc]
            )
    assert backlog.bytes == 0


async def test_live_latest_sends_no_late_reading_when_the_client_resumes(server: Server) -> None:
    now = now_ms()
    async with live(server) as client:
        await client.snapshot(mode="latest")
        await post(server, "s", 10, first_ms=now)
        assert [value[3] for value in await client.values(1)] == [10]
    await post(server, "s", 5, first_ms=now - 60_000)  # late: the client has the newer value 10
    await post(server, "t", 1, first_ms=now)
    async with live(server) as back:
        await back.subscribe(mode="latest", resume=client.cursor)
        assert [(sensor, value) for sensor, _, _, value in await back.values(1)] == [("t", 1)]


async def test_live_closes_with_4408_when_rows_are_pruned_before_a_slow_client_reads_them(
    small_buffer_server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = small_buffer_server
    monkeypatch.setattr(listener, "PAGE_ROWS", 3)
    async with live(server, max_size=None) as client:
        await client.snapshot()
        cursor = client.cursor
    rows = [(1, big_frame(number)) for number in range(20)]
    await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', $1, $2)", rows)
    await wait_until(lambda: server.services.hub.head >= 20)
    async with paused(server, sensors=["none"]) as slow:
        await slow.subscribe(resume=cursor)
        received = [value[3] for value in flatten(await slow.receive())]
        await prune_feed(database.pool, payload_bytes=1)
        received += await read_to_the_end(slow)
        assert slow.connection.close_code == 4408
        assert slow.connection.close_reason == slow.cursor
    assert received == list(range(len(received))), "rows were skipped without an error"
    await expect_resync(server, slow.cursor)


def big_frame(number: int) -> bytes:
    reading = {"sensor": "s" * 200_000, "time": "2026-11-21T08:00:00Z", "values": {"m": number}}
    record = LegacyRecord(number + 1, "s" * 200_000, 0, 1.0, 2.0, 3.0, "")
    return msgspec.json.encode({"readings": [reading], "legacy": [record]})


async def test_live_describes_omitted_values_when_a_replay_is_large(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "FRAME_VALUES_LIMIT", 10)
    async with live(server) as client, live(server) as filtered:
        await client.snapshot()
        await filtered.snapshot(sensors=["b"])
        readings = [
            {"sensor": sensor, "time": f"{YESTERDAY}T08:00:{second:02}Z", "values": {"level": second}}
            for sensor in ("a", "b")
            for second in range(20)
        ]
        await server.post_readings(readings)
        message = await client.receive()
        assert message["readings"] == [
            {"sensor": "a", "time": f"{YESTERDAY}T08:00:19Z", "values": {"level": 19.0}},
            {"sensor": "b", "time": f"{YESTERDAY}T08:00:19Z", "values": {"level": 19.0}},
        ]
        assert message["truncated"] == {"omitted": 38, "from": f"{YESTERDAY}T08:00:00Z", "to": f"{YESTERDAY}T08:00:19Z"}
        part = await filtered.receive()
        assert [reading["sensor"] for reading in part["readings"]] == ["b"]
        assert part["truncated"] == message["truncated"]
    answer = await server.get("/api/v1/readings", **{"from": f"{YESTERDAY}T08:00:00Z", "to": f"{YESTERDAY}T08:00:20Z"})
    items: Any = answer["items"]
    assert len(items) == 40
