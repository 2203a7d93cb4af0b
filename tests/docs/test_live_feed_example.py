"""examples/live_feed.py against a real server that is cut off, replays in bulk, or has forgotten the client's place."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from app.live.retention import prune_feed
from app.settings import Settings
from tests.conftest import API_KEY_WS, YESTERDAY_AT_8_MS, Database, Server, running_server, wait_until
from tests.docs.example_process import Example, running_example
from tests.live.clients import batch, seq_of
from tests.wire import wire_to

#: More values than one frame holds.
BULK = 2_600


@pytest.fixture
async def server(database: Database) -> AsyncIterator[Server]:
    """Serve with one key for everything, as the development keys are."""
    settings = Settings(database_url=database.dsn, api_key=API_KEY_WS, api_key_ws=API_KEY_WS)
    async with running_server(settings) as running:
        running.http.headers["X-API-Key"] = API_KEY_WS
        yield running


def follower(folder: Path, url: str, *options: str, key: str = API_KEY_WS) -> AbstractAsyncContextManager[Example]:
    """Run the follower of a server."""
    return running_example(folder, "live_feed.py", "--url", url, *options, key=key)


def values(example: Example, sensor: str) -> list[float]:
    """Return the values of a sensor that were written, in order."""
    written = (json.loads(line) for line in example.lines)
    return [line["values"]["level"] for line in written if "alert" not in line and line["sensor"] == sensor]


async def test_follower_writes_each_reading_once_when_the_connection_breaks_and_it_is_started_again(
    server: Server, tmp_path: Path
) -> None:
    async with wire_to(server.address) as wire:
        async with follower(tmp_path, wire.url, "--sensors", "tank*") as client:
            await wait_until((tmp_path / "live_feed.json").exists)  # the snapshot has come
            await server.post_readings(
                [*batch("tank", [1.0], YESTERDAY_AT_8_MS), *batch("roof", [0.5], YESTERDAY_AT_8_MS)]
            )
            await wait_until(lambda: values(client, "tank") == [1.0])
            await wire.cut()
            await server.post_readings(batch("tank", [2.0, 3.0], YESTERDAY_AT_8_MS + 10))
            await wire.mend()
            await wait_until(lambda: values(client, "tank") == [1.0, 2.0, 3.0])
            # The place is kept after the lines are written; killed in between, it would write them again.
            await wait_until(lambda: seq_of(json.loads((tmp_path / "live_feed.json").read_text())["cursor"]) == 2)
            await client.kill()
        await server.post_readings(batch("tank", [4.0], YESTERDAY_AT_8_MS + 20))
        async with follower(tmp_path, wire.url, "--sensors", "tank*") as client:
            await wait_until(lambda: values(client, "tank") == [4.0])
        assert values(client, "roof") == []


async def test_follower_reads_what_is_left_out_when_a_frame_is_truncated(server: Server, tmp_path: Path) -> None:
    async with follower(tmp_path, server.address) as client:
        await wait_until((tmp_path / "live_feed.json").exists)
        await server.post_readings(batch("tank", [float(number) for number in range(BULK)], YESTERDAY_AT_8_MS))
        await wait_until(lambda: len(client.lines) >= BULK)
        assert sorted(values(client, "tank")) == [float(number) for number in range(BULK)]


async def test_follower_reads_what_it_missed_from_the_database_when_its_cursor_is_too_old(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with follower(tmp_path, server.address) as client:
        await wait_until((tmp_path / "live_feed.json").exists)
        await client.kill()
    await server.post_readings([{"sensor": "tank", "values": {"level": value}} for value in (1.0, 2.0, 3.0)])
    await server.post_readings([{"sensor": "tank", "values": {"level": 4.0}}])
    await prune_feed(database.pool, timedelta(0))  # the newest row stays, and the cursor is before it
    async with follower(tmp_path, server.address) as client:
        await client.see_note("the cursor is too old")
        await wait_until(lambda: values(client, "tank") == [4.0, 1.0, 2.0, 3.0, 4.0])
        # The snapshot brought a new place, from which on it goes by itself.
        await server.post_readings([{"sensor": "tank", "values": {"level": 5.0}}])
        await wait_until(lambda: values(client, "tank")[-1] == 5.0)


async def test_follower_writes_alerts_when_rules_fire(server: Server, tmp_path: Path) -> None:
    async with follower(tmp_path, server.address) as client:
        await wait_until((tmp_path / "live_feed.json").exists)
        times = (YESTERDAY_AT_8_MS, YESTERDAY_AT_8_MS + 90_000)
        await server.post_readings(
            [{"sensor": "oven", "time": time, "values": {"temperature": 45.0}} for time in times]
        )
        await wait_until(lambda: any('"alert": "firing"' in line for line in client.lines))


async def test_follower_ends_when_the_server_will_not_have_it(server: Server, tmp_path: Path) -> None:
    async with follower(tmp_path, server.address, key="wrong") as client:
        assert await client.end() == 1
    assert client.notes == ["The server refuses this client: 4401 This API key is unknown or was revoked"]
