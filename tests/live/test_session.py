"""/ws/live over real sockets: messages, snapshots, frames, filters, alerts."""

import asyncio
import gc
import json
from time import thread_time

import pytest

from app.live import inbox
from app.live.protocol import BAD_MESSAGES_LIMIT
from tests.conftest import API_KEY_WS, YESTERDAY, Database, Server, wait_until
from tests.live.clients import (
    Message,
    flatten,
    live,
    now_ms,
    post,
)

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
        gc.collect()
        gc.disable()  # a collection of all objects of this process is a hold of its own
        watching = asyncio.create_task(_note_holds(holds))
        tags = {str(number): pattern for number, pattern in enumerate(patterns)}
        try:
            assert (await client.snapshot(sensors=patterns, metrics=patterns, tags=tags))["sensors"] == []
        finally:
            watching.cancel()
            gc.enable()
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
