"""/ws/live over real sockets: keys, snapshots, frames, filters, resuming, slow clients, closing."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from time import thread_time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from app.auth import keys
from app.auth.keys import create_key, revoke_key
from app.ingest.flush import feed_payload as payload
from app.live import inbox, listener, session
from app.live.protocol import BAD_MESSAGES_LIMIT
from app.live.queues import readings as queued_readings
from app.live.retention import prune_feed
from app.model import LegacyRecord
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, YESTERDAY, Database, Server, running_server, wait_until
from tests.live.clients import FeedClient, Message, batch, flatten, live, paused, reading_slowly, sensor_updates, seq_of


def now_ms() -> int:
    return int(time.time() * 1000)


def serving(dsn: str, **settings: Any) -> AbstractAsyncContextManager[Server]:
    return running_server(Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, **settings))


async def post(server: Server, sensor: str, *values: float, first_ms: int | None = None, metric: str = "level") -> None:
    response = await server.post_readings(batch(sensor, values, first_ms or now_ms(), metric))
    assert response.status == 200


def metric(server: Server, name: str, **labels: str) -> float:
    value = server.services.metrics.registry.get_sample_value(name, labels)
    assert value is not None
    return value


# Keys


async def test_live_accepts_a_client_when_the_key_is_in_a_header(server: Server) -> None:
    async with live(server) as client:
        assert (await client.snapshot())["readings"] == []


async def test_live_accepts_a_client_when_the_key_is_a_bearer_token(server: Server) -> None:
    async with live(server, key=None, additional_headers={"Authorization": f"Bearer {API_KEY_WS}"}) as client:
        assert (await client.snapshot())["readings"] == []


async def test_live_accepts_a_client_when_the_first_message_has_the_key(server: Server) -> None:
    async with live(server, key=None) as client:
        await client.send(type="auth", key=API_KEY_WS)
        assert (await client.snapshot())["readings"] == []


async def test_live_closes_with_4401_when_the_first_message_has_a_wrong_key(server: Server) -> None:
    for key in ("wrong", "", "ключ", "k" * 4_000):
        async with live(server, key=None) as client:
            await client.send(type="auth", key=key)
            assert (await client.closed())[0] == 4401


async def test_live_closes_with_4401_when_the_header_has_a_wrong_key(server: Server) -> None:
    async with live(server, key="wrong") as client:
        assert await client.closed() == (4401, "This API key is unknown or was revoked")


async def test_live_closes_with_4401_when_the_first_message_is_not_auth(server: Server) -> None:
    async with live(server, key=None) as client:
        await client.subscribe()
        assert await client.closed() == (4401, 'first send {"type":"auth","key":…}')


async def test_live_closes_with_4401_when_no_key_comes_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "AUTH_TIMEOUT_S", 0.05)
    async with live(server, key=None) as client:
        code, _ = await client.closed()
    assert code == 4401


async def test_live_closes_with_4403_when_the_key_lacks_the_scope(server: Server) -> None:
    async with live(server, key=API_KEY) as client:
        code, reason = await client.closed()
    assert code == 4403
    assert reason is not None
    assert "needs live" in reason


async def test_live_closes_with_4429_when_the_key_holds_too_many_connections(database: Database) -> None:
    async with serving(database.dsn, max_ws_connections_per_key=2) as server, live(server) as first:
        async with live(server) as second:
            await first.snapshot()
            await second.snapshot()
            async with live(server) as third:
                assert await third.closed() == (4429, "Max connections (2) for this API Key reached.")
        await wait_until(lambda: metric(server, "tidegauge_websocket_clients", path="/ws/live") == 1)
        async with live(server) as fourth:
            await fourth.snapshot()


async def test_live_closes_with_4429_when_the_keys_own_limit_is_exceeded(server: Server) -> None:
    key = await create_key(server.services.pool, "screen", frozenset({"live"}), {"ws_connections": 1})
    async with live(server, key=key) as first:
        await first.snapshot()
        async with live(server, key=key) as second:
            assert await second.closed() == (4429, "Max connections (1) for this API Key reached.")


async def test_live_closes_with_4401_when_the_key_is_revoked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REFRESH_S", 0.05)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client, live(server) as other:
        await client.snapshot()
        await other.snapshot()
        await revoke_key(database.pool, "screen")
        assert await client.closed() == (4401, "this API key was revoked")
        await post(server, "s", 1)
        assert [value[3] for value in await other.values(1)] == [1]


@pytest.mark.parametrize(
    "change", ["scopes = '{live,read}'", """limits = '{"ws_connections": 9}'""", "label = 'other'"]
)
async def test_live_closes_with_4401_when_the_key_changes_while_it_is_connected(
    change: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REFRESH_S", 0.05)
    monkeypatch.setattr(session, "REFRESH_S", 0.05, raising=False)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client:
        await client.snapshot()
        await database.pool.execute(f"UPDATE api_key SET {change}")
        assert await client.closed() == (4401, "this API key was revoked")
        async with live(server, key=key) as again:
            await again.snapshot()


async def test_live_closes_with_4403_when_a_key_lost_its_scope_and_comes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REFRESH_S", 0.05)
    monkeypatch.setattr(session, "REFRESH_S", 0.05, raising=False)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client:
        await client.snapshot()
        await database.pool.execute("UPDATE api_key SET scopes = '{read}'")
        assert await client.closed() == (4401, "this API key was revoked")
        async with live(server, key=key) as again:
            assert (await again.closed())[0] == 4403


# Messages


#: One test with one server checks all of them, because a server for each would take long to start.
INVALID_MESSAGES: list[str | bytes] = [
    "hello",
    "",
    "[]",
    '{"type":"shout"}',
    '{"type":"subscribe","mode":"most"}',
    '{"type":"subscribe","sensors":"*"}',
    '{"type":"subscribe","resume":5}',
    json.dumps({"type": "subscribe", "sensors": ["a"] * 101}),
    json.dumps({"type": "subscribe", "sensors": ["a" * 201]}),
    json.dumps({"type": "subscribe", "metrics": ["a\0"]}),
    json.dumps({"type": "subscribe", "tags": {"site": "*" * 201}}),
    json.dumps({"type": "subscribe", "gateway": "*" * 201}),
    json.dumps({"type": "subscribe", "sensors": ["*" * 1_000_000]}),
    '{"type":' * 50_000,
    '{"type":"subscribe","tags":' + "[" * 50_000,
    b"\xff\x00",
]


async def test_live_names_the_problem_and_goes_on_when_a_message_is_invalid(server: Server) -> None:
    assert len(INVALID_MESSAGES) < BAD_MESSAGES_LIMIT
    async with live(server) as client:
        await client.snapshot()
        for text in INVALID_MESSAGES:
            await client.connection.send(text)
            error = await client.receive()
            assert error["type"] == "error", text[:100]
            assert error["message"], text[:100]
            assert len(error["message"]) < 300
        await post(server, "s", 1)
        assert len(await client.values(1)) == 1


async def test_live_answers_before_the_key_has_come_when_a_message_is_invalid_or_a_ping(server: Server) -> None:
    async with live(server, key=None) as client:
        await client.connection.send("ping")
        assert (await client.receive())["type"] == "error"
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        await client.send(type="auth", key=API_KEY_WS)
        assert (await client.snapshot())["readings"] == []


async def test_live_closes_with_4400_when_too_many_messages_are_invalid(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        for _ in range(BAD_MESSAGES_LIMIT):
            await client.send(type="ping")
            await client.send(type="shout")
        for _ in range(BAD_MESSAGES_LIMIT):
            assert await client.receive() == {"type": "pong"}
            assert (await client.receive())["type"] == "error"
        assert await client.closed() == (4400, "20 messages could not be understood")


async def test_live_goes_on_when_many_messages_are_invalid_over_a_long_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_WITHIN_S", 0.0)
    async with live(server) as client:
        await client.snapshot()
        for _ in range(3 * BAD_MESSAGES_LIMIT):
            await client.send(type="shout")
            assert (await client.receive())["type"] == "error"
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}


async def test_live_takes_hundreds_of_patterns_without_holding_others_up(server: Server) -> None:
    patterns = ["*a" * 95 + f"*{number}" for number in range(100)]
    async with live(server) as client, live(server) as other:
        await client.snapshot()
        await other.snapshot()
        holds: list[float] = []
        watching = asyncio.create_task(_note_holds(holds))
        tags = {str(number): pattern for number, pattern in enumerate(patterns)}
        assert (await client.snapshot(sensors=patterns, metrics=patterns, tags=tags))["sensors"] == []
        watching.cancel()
        await other.send(type="ping")
        assert await other.receive() == {"type": "pong"}
    assert max(holds) < 0.1


async def _note_holds(holds: list[float]) -> None:
    """Note the processor time of the event loop between two of its turns."""
    while True:
        before = thread_time()
        await asyncio.sleep(0)
        holds.append(thread_time() - before)


async def test_live_continues_when_a_key_is_sent_again(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        await client.send(type="auth", key="anything")
        await post(server, "s", 1)
        assert len(await client.values(1)) == 1


async def test_live_first_sends_the_latest_value_of_every_series(server: Server) -> None:
    await server.post_readings(
        [
            {"sensor": "b", "time": f"{YESTERDAY}T08:00:00Z", "values": {"level": 1, "flow": 2}},
            {"sensor": "b", "time": f"{YESTERDAY}T08:00:01.5Z", "values": {"level": 3}},
            {"sensor": "a", "time": f"{YESTERDAY}T07:00:00Z", "values": {"level": 4}},
        ]
    )
    await wait_until(lambda: server.services.hub.head == 1)
    async with live(server) as client:
        message = await client.snapshot()
    assert message["readings"] == [
        {"sensor": "a", "time": f"{YESTERDAY}T07:00:00Z", "values": {"level": 4.0}},
        {"sensor": "b", "time": f"{YESTERDAY}T08:00:00Z", "values": {"flow": 2.0}},
        {"sensor": "b", "time": f"{YESTERDAY}T08:00:01.500000Z", "values": {"level": 3.0}},
    ]
    assert message["cursor"] == str(server.services.hub.cursor)


async def test_live_sends_readings_as_they_were_posted(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        await server.post_readings([{"sensor": "ø", "time": f"{YESTERDAY}T08:00:00Z", "values": {"level": 1.25}}])
        message = await client.receive()
    assert message == {
        "type": "readings",
        "cursor": message["cursor"],
        "readings": [{"sensor": "ø", "time": f"{YESTERDAY}T08:00:00Z", "values": {"level": 1.25}}],
    }


async def test_live_sends_each_reading_once_and_in_order_when_several_upload(server: Server) -> None:
    uploaders, uploads = 6, 15
    start = now_ms()

    async def upload(number: int) -> None:
        for round_ in range(uploads):
            await post(server, f"s{number}", round_, round_ + 0.5, first_ms=start + round_ * 10)

    async with live(server) as client, live(server) as filtered:
        await client.snapshot()
        await filtered.snapshot(sensors=["s3"])
        await asyncio.gather(*(upload(number) for number in range(uploaders)))
        values = await client.values(uploaders * uploads * 2)
        only = await filtered.values(uploads * 2)
        await post(server, "end", 1)
        assert [value[0] for value in flatten(await client.receive())] == ["end"]
    expected = sorted(round_ + half for round_ in range(uploads) for half in (0, 0.5))
    for number in range(uploaders):
        assert [value[3] for value in values if value[0] == f"s{number}"] == expected
    assert [value[3] for value in only] == expected


async def test_live_sends_no_duplicate_when_a_batch_is_sent_again(server: Server) -> None:
    start = now_ms()
    async with live(server) as client:
        await client.snapshot()
        await post(server, "s", 1, 2, first_ms=start)
        await post(server, "s", 1, 2, first_ms=start)
        await post(server, "s", 9, 2, 3, first_ms=start)  # the first value stored stays; only the third reading is new
        assert [value[3] for value in await client.values(3)] == [1, 2, 3]
        await post(server, "s", 4)
        assert [value[3] for value in await client.values(1)] == [4]


# Filters


FILTERS = [
    (["pi*"], ["*"], ["pi1.level", "pi1.temp.in", "pi2.level"]),
    (["pi?"], ["level"], ["pi1.level", "pi2.level"]),
    (["*"], ["temp.*", "flow"], ["a[1].flow", "pi1.temp.in"]),
    (["a[1]"], ["*"], ["a[1].flow"]),
    (["*1*", "pi*2"], ["lev?l"], ["pi1.level", "pi2.level"]),
    (["*i*1", "*i*2*"], ["l*v*l"], ["pi1.level", "pi2.level"]),
    (["PI*"], ["*"], []),
    ([], ["*"], []),
]


async def test_live_filters_snapshot_and_frames_by_globs(server: Server) -> None:
    readings = [
        {"sensor": "pi1", "values": {"level": 1, "temp.in": 2}},
        {"sensor": "pi2", "values": {"level": 3}},
        {"sensor": "a[1]", "values": {"flow": 4}},
        {"sensor": "a1", "values": {"other": 4}},
    ]
    await server.post_readings(readings)
    for sensors, metrics, expected in FILTERS:
        async with live(server) as client:
            snapshot = await client.snapshot(sensors=sensors, metrics=metrics)
            assert names({**snapshot, "type": "readings"}) == expected
            await server.post_readings(readings)
            if expected:
                assert names(await client.receive()) == expected


def names(message: Message) -> list[str]:
    return sorted(f"{sensor}.{metric}" for sensor, _, metric, _ in flatten(message))


async def test_live_sends_no_frame_when_the_filter_matches_nothing_in_it(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot(sensors=["wanted"])
        await post(server, "other", 1)
        await post(server, "wanted", 2)
        assert [value[0] for value in flatten(await client.receive())] == ["wanted"]


async def test_live_serves_the_new_subscription_when_the_client_subscribes_again(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot(sensors=["a"])
        await client.snapshot(sensors=["b"])
        await post(server, "a", 1)
        await post(server, "b", 2)
        assert [value[0] for value in flatten(await client.receive())] == ["b"]


# Alerts


async def insert_alert(database: Database, name: str) -> None:
    await database.pool.execute(
        "INSERT INTO feed (kind, n, payload) VALUES ('alert', 1, $1)", json.dumps({"rule": name}).encode()
    )


async def test_live_sends_alerts_only_when_asked(server: Server, database: Database) -> None:
    async with live(server) as asked, live(server) as other:
        await asked.snapshot(alerts=True, sensors=["none"])
        await other.snapshot()
        await insert_alert(database, "flood")
        message = await asked.receive()
        assert message == {"type": "alert", "cursor": message["cursor"], "rule": "flood"}
        await post(server, "s", 1)
        assert (await other.receive())["type"] == "readings"


# Resuming


async def test_live_sends_exactly_what_was_missed_when_it_resumes(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
        cursor = client.cursor
    await post(server, "s", 2)
    await post(server, "s", 3)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        await post(server, "s", 4)
        assert [value[3] for value in await client.values(3)] == [2, 3, 4]


async def test_live_sends_exactly_what_was_missed_when_the_server_was_restarted(database: Database) -> None:
    async with serving(database.dsn) as server:
        async with live(server) as client:
            await client.snapshot()
            await post(server, "s", 1)
            await client.values(1)
        await post(server, "s", 2)
    async with serving(database.dsn) as server:
        await post(server, "s", 3)
        async with live(server) as back:
            await back.subscribe(resume=client.cursor)
            assert [value[3] for value in await back.values(2)] == [2, 3]


async def test_live_sends_all_pages_in_order_when_it_resumes_while_readings_come_in(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE_ROWS", 4)
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    start = now_ms()
    for number in range(15):
        await post(server, "s", number, first_ms=start + number)
    received_all = asyncio.Event()

    async def upload() -> None:
        number = 15
        while not received_all.is_set() or number < 30:
            await post(server, "s", number, first_ms=start + number)
            number += 1

    uploading = asyncio.create_task(upload())
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        values = await client.values(30)
        received_all.set()
    await uploading
    assert [value[3] for value in values] == list(range(len(values)))


async def test_live_sends_exactly_what_was_missed_when_it_fills_many_pages(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    await insert_frames(database, 450)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert [value[3] for value in await client.values(450)] == list(range(450))


async def insert_frames(database: Database, count: int) -> None:
    """Insert feed rows like those of flushes, without storing the readings."""
    frames = [
        (1, msgspec.json.encode({"readings": [{"sensor": "s", "time": "2026-11-21T08:00:00Z", "values": {"m": n}}]}))
        for n in range(count)
    ]
    await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', $1, $2)", frames)


async def test_live_sends_resync_when_the_cursor_was_pruned(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    await post(server, "s", 1)
    await post(server, "s", 2)
    await prune_feed(database.pool, payload_bytes=1)
    await expect_resync(server, cursor)


async def test_live_resumes_when_the_cursor_is_the_last_row_that_was_pruned(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
        cursor = client.cursor
    await post(server, "s", 2)
    await prune_feed(database.pool, payload_bytes=1)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert [value[3] for value in await client.values(1)] == [2]


async def test_live_sends_resync_when_the_cursor_is_impossible(server: Server) -> None:
    await post(server, "s", 1)
    async with live(server) as client:
        await client.snapshot()
    epoch, seq = client.cursor.partition(".")[0], seq_of(client.cursor)
    future = f"{epoch}.{seq + 1_000}"
    foreign = f"0123456789ab.{seq}"
    for cursor in (future, foreign, f"{epoch}.-1", "", "nonsense", f"{epoch}.{'9' * 40}", "..", f"{epoch}.١"):
        await expect_resync(server, cursor)


async def expect_resync(server: Server, cursor: str) -> None:
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert await client.receive() == {"type": "resync"}
        assert (await client.receive())["type"] == "snapshot"
        await post(server, "s", 7)
        assert [value[3] for value in await client.values(1)] == [7]


async def test_live_sends_resync_when_the_cursor_is_from_the_original_of_a_copied_database(
    database: Database, server_dsn: str
) -> None:
    """A restored copy assigns the same sequence numbers again, to other readings."""
    async with serving(database.dsn) as server, live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
    await database.pool.close()
    async with copied(database.dsn, server_dsn) as dsn, serving(dsn) as server:
        await post(server, "s", 2)
        await expect_resync(server, client.cursor)


@asynccontextmanager
async def copied(dsn: str, server_dsn: str) -> AsyncIterator[str]:
    name = urlsplit(dsn).path.removeprefix("/")
    connection = await asyncpg.connect(server_dsn)
    try:
        # A background worker of a Community server would stay connected, and a database in use cannot be copied.
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await connection.execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}" STRATEGY file_copy')
        yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}_copy"))
    finally:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}_copy" WITH (FORCE)')
        await connection.close()


async def test_live_resumes_when_the_client_comes_from_another_process_that_is_ahead(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (1.0,))
    async with serving(database.dsn) as ahead, live(ahead) as client:
        (pid,) = await listener_pids(database)
        async with serving(database.dsn) as behind:
            await client.snapshot()
            (other,) = await listener_pids(database) - {pid}
            await database.pool.execute("SELECT pg_terminate_backend($1)", other)
            await post(ahead, "s", 1)
            await client.values(1)
            assert behind.services.hub.head < seq_of(client.cursor)
            async with live(behind) as moved:
                await moved.subscribe(resume=client.cursor)
                await post(ahead, "s", 2)
                assert [value[3] for value in await moved.values(1)] == [2]


async def listener_pids(database: Database) -> set[int]:
    rows = await database.pool.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1",
        "tidegauge listener",
    )
    return {row["pid"] for row in rows}


# Slow clients


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


# Large replays


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


# Closing


async def test_live_closes_with_1012_when_the_server_stops(database: Database) -> None:
    async with AsyncExitStack() as stack:
        async with serving(database.dsn) as server:
            clients = [await stack.enter_async_context(live(server)) for _ in range(3)]
            await clients[0].snapshot()
            await clients[1].snapshot(mode="latest")  # the third has not subscribed
        assert [(await client.closed())[0] for client in clients] == [1012, 1012, 1012]


async def test_live_removes_a_client_when_its_connection_breaks(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        assert metric(server, "tidegauge_websocket_clients", path="/ws/live") == 1
        client.connection.transport.abort()
        await wait_until(lambda: metric(server, "tidegauge_websocket_clients", path="/ws/live") == 0)


async def test_hub_keeps_nothing_of_clients_when_they_have_left_or_subscribed_again(server: Server) -> None:
    hub = server.services.hub
    async with AsyncExitStack() as stack:
        for mode in ("all", "latest"):
            client = await stack.enter_async_context(live(server))
            await client.snapshot(mode=mode, sensors=["a*"], tags={"site": "x"}, states=True)
            await client.snapshot(mode=mode, sensors=["b*"], alerts=True)
            await client.snapshot(mode=mode, sensors=["c*"], tags={"site": "x"})
        await stack.enter_async_context(sensor_updates(server))
        await wait_until(lambda: len(hub._subscribers) == 3)
        assert len(hub.labels._filters) == 2
        assert not hub.wants_states
        await post(server, "cellar", 1)
    await wait_until(lambda: not hub._subscribers)
    assert hub.labels._filters == set()
    assert hub.backlog.bytes == 0


async def test_live_closes_with_1013_when_the_database_is_away_at_the_start(server: Server) -> None:
    async with live(server) as client:
        server.services.feed_pool.terminate()
        await client.subscribe()
        assert await client.closed() == (1013, "the database is away")


async def test_live_closes_with_1013_when_the_database_is_away_and_the_key_is_not_known_yet(server: Server) -> None:
    server.services.key_pool.terminate()
    async with live(server, key="new") as client:
        assert await client.closed() == (1013, "the database is away")
