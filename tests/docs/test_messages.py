"""The JSON of the documents: messages that clients send are sent, and those of the server are what a server sends."""

import json
import re
import time
from typing import Any

import aiohttp
import pytest

from app.live import session
from tests.conftest import API_KEY, API_KEY_WS, Server
from tests.docs.documents import DOCUMENTS, Block, blocks_to_run
from tests.live.clients import FeedClient, Message, batch, live, sensor_updates

#: What differs from run to run, by what stands for it when messages are compared.
VARIABLE = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z": "<time>",
    r"\d{4}-\d\d-\d\d": "<date>",
    r"\d\d:\d\d:\d\d": "<clock>",
    r"[0-9a-f]{12}\.\d+": "<cursor>",
    r"[0-9a-f]{16}": "<request>",
}


def likened(value: Any) -> Any:
    """Put the same in place of what differs from run to run."""
    if isinstance(value, dict):
        return {name: 0 if name in ("seq", "id") else likened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [likened(inner) for inner in value]
    if isinstance(value, str):
        return next((by for pattern, by in VARIABLE.items() if re.fullmatch(pattern, value)), value)
    return value


def messages(document: str) -> list[tuple[Block, Message]]:
    """Return the messages of a document."""
    return [(block, json.loads(block.text)) for block in blocks_to_run("json", document)]


def test_every_document_with_messages_has_a_test() -> None:
    assert {block.document for block in blocks_to_run("json", *DOCUMENTS)} == {"docs/gateways.md", "docs/live-feed.md"}


async def test_answers_of_gateways_are_those_of_a_server(server: Server) -> None:
    async with aiohttp.ClientSession(server.address) as http:
        sent = '[{"sensor": "cellar", "values": {"humidity": null, "temperature": 12.5}}]'
        answers = [
            await (await http.post("/api/v1/readings", data=sent, headers={"X-API-Key": key})).json()
            for key in (API_KEY, "unknown")
        ]
    for block, message in messages("docs/gateways.md"):
        assert likened(message) in map(likened, answers), block.place


async def test_messages_of_live_feed_are_those_of_a_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(session, "READ_SENSORS_S", 0.2)
    documented = messages("docs/live-feed.md")
    sent = {
        message["type"]: message for _, message in documented if message.get("type") in ("auth", "subscribe", "ping")
    }
    sent["auth"]["key"] = API_KEY_WS
    got = [likened(message) for message in await play(server, sent)]
    for block, message in documented:
        if message.get("type") not in sent:
            assert likened(message) in got, f"{block.place}: {likened(message)}\nnot in {got}"


async def play(server: Server, sent: dict[str, Message]) -> list[Message]:
    """Do what the document tells of, and return everything that the server sent."""
    now_ms = int(time.time() * 1_000) // 1_000 * 1_000
    await server.post_readings(
        [
            {"sensor": "cellar", "time": now_ms - 300_000, "values": {"humidity": 61, "temperature": 12.5}},
            {"sensor": "roof", "time": now_ms - 300_250, "values": {"temperature": -3.25}},
        ]
    )
    got: list[Message] = []
    async with live(server, key=None) as client:
        await client.send(**sent["auth"])
        await client.send(**sent["subscribe"])
        got += await receive_until(client, "snapshot")
        assert "resync" in [message["type"] for message in got]
        # The same without a cursor begins with a snapshot.
        await client.send(**{name: value for name, value in sent["subscribe"].items() if name != "resume"}, states=True)
        got += await receive_until(client, "snapshot", "states", "heartbeat")
        await server.post_readings([{"sensor": "cellar", "time": now_ms - 200_000, "values": {"temperature": 12.75}}])
        got += await receive_until(client, "readings")
        await server.post_readings(batch("cellar", [1.0] * 2_599 + [2.0], now_ms - 150_000))
        got += await receive_until(client, "readings")
        oven = [
            {"sensor": "oven", "time": now_ms - ago_ms, "values": {"temperature": 45}} for ago_ms in (90_000, 9_000)
        ]
        await server.post_readings(oven)
        got += await receive_until(client, "readings", "alert")
        while {"name": "oven", "state": "alert", "level": "critical"} not in got[-1].get("sensors", []):
            got.append(await client.receive())
        await client.send(type="subscribe", sensors=["*"] * 101)
        got += await receive_until(client, "error")
        await client.send(**sent["ping"])
        got += await receive_until(client, "pong")
    return [*got, await legacy_record(server)]


async def receive_until(client: FeedClient, *types: str) -> list[Message]:
    """Receive until there is a message of each type; return all messages."""
    got: list[Message] = []
    while not set(types) <= {message["type"] for message in got}:
        got.append(await client.receive())
    return got


async def legacy_record(server: Server) -> Message:
    """Send a reading as a client of the replaced server, and return it as its feed shows it."""
    body = {"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}
    async with server.http.post("/api/temperature_reading", json=body) as response:
        assert response.status == 201
    async with sensor_updates(server) as client:
        assert isinstance(client, FeedClient)
        record: Message = json.loads(await client.connection.recv())
        return record
