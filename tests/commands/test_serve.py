"""`tidegauge serve`, run as a process, and its listening sockets."""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app import services
from app.commands.processes import server as serving
from app.commands.processes.serve import serve
from app.commands.processes.server import StartError, listen
from app.errors import SettingsError
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, YESTERDAY, Database, wait_until
from tests.processes import running, tidegauge
from tests.wire import Wire

#: Texts that must never occur in a log.
SECRETS = (API_KEY, API_KEY_WS, "hidden-one")


@pytest.fixture
def restored_gc_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


# The process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
async def test_serve_ends_with_0_when_signalled_while_clients_are_served(
    tmp_path: Path, database: Database, number: signal.Signals
) -> None:
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn) as server:
        watcher = await connect(f"ws://127.0.0.1:{server.port}/ws/live", additional_headers={"X-API-Key": API_KEY_WS})
        await watcher.send('{"type":"subscribe"}')
        await watcher.recv()
        old = await connect(f"ws://127.0.0.1:{server.port}/ws/sensor_updates?api-key={API_KEY_WS}")
        signalled = asyncio.Event()
        uploading = asyncio.create_task(upload_slowly(server.http, signalled))
        await wait_until(lambda: not uploading.done())
        server.process.send_signal(number)
        for client in (watcher, old):
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1012
        signalled.set()
        assert await uploading == (200, 1)
        assert await server.wait() == 0
        assert [line for line in server.log if line["level"] in ("warning", "error")] == []
        assert server.log[-1]["event"] in ("stopping", "lease_lost")
        assert len(server.log) == len(server.err.splitlines())
    assert await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > now() - INTERVAL '1 day'") == 1


async def upload_slowly(http: aiohttp.ClientSession, send_rest: asyncio.Event) -> tuple[int, int]:
    """Send the first half of a body, and the second half once the event is set; return status and accepted readings."""

    async def body() -> AsyncIterator[bytes]:
        yield b'[{"sensor": "slow", "values": '
        await send_rest.wait()
        yield b'{"m": 1}}]'

    async with http.post("/api/v1/readings", data=body()) as response:
        return response.status, (await response.json())["accepted"]


async def test_serve_ends_in_time_and_answers_what_waits_with_503_when_its_database_hangs(
    tmp_path: Path, database: Database, wire: Wire
) -> None:
    async with running(tmp_path, "serve", DATABASE_URL=wire.url) as server:
        for _ in range(3):
            assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        wire.freeze()
        waiting = [
            asyncio.create_task(
                answer(server.http.post("/api/v1/readings", json=[{"sensor": "s", "values": {"m": 2}}]))
            )
            for _ in range(5)
        ]
        waiting += [asyncio.create_task(answer(server.http.get("/api/v1/sensors"))) for _ in range(5)]
        await asyncio.sleep(0.5)
        started = monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*waiting) == [(503, "5")] * 10
        assert await server.wait() == 0
        assert monotonic() - started < 20
        assert "Traceback" not in server.err


async def answer(response: Any) -> tuple[int, str | None]:
    async with response as answered:
        return answered.status, answered.headers.get("Retry-After")


@pytest.mark.parametrize("form", ["json", "console"])
async def test_serve_never_logs_a_secret(tmp_path: Path, database: Database, form: str) -> None:
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn, LOG_LEVEL="debug", LOG_FORMAT=form) as server:
        base = f"ws://127.0.0.1:{server.port}"
        for address in ("/ws/sensor_updates?api-key=hidden-one", f"/ws/sensor_updates?api-key={API_KEY_WS}"):
            async with connect(base + address) as client:
                with suppress(ConnectionClosed):
                    await client.send("x")
        for path in ("/api/v1/sensors?api-key=hidden-one", "/nothing?token=hidden-one", "/write?p=hidden-one"):
            async with server.http.get(path, headers={"Authorization": "Bearer hidden-one"}) as response:
                assert "hidden-one" not in await response.text()
        async with server.http.get("/api/v1/sensors", headers={"X-API-Key": "hidden-one"}) as response:
            assert response.status == 401
            assert "hidden-one" not in await response.text()
        assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        # The missing table makes a request fail, and a background task.
        await database.pool.execute("ALTER TABLE sensor RENAME TO sensor_away")
        async with server.http.get("/api/v1/sensors") as response:
            assert response.status == 500
            problem = await response.json()
            assert set(problem) == {"type", "title", "status", "detail", "request_id"}
            assert "sensor" not in problem["detail"]
        await wait_until(lambda: "request_failed" in server.err)
        assert await server.end(signal.SIGTERM) == 0
        log = server.out + server.err
    assert "Traceback" in log
    assert problem["request_id"] in log
    password = database.dsn.partition("://")[2].partition(":")[2].partition("@")[0]
    assert [secret for secret in (*SECRETS, password) if len(secret) > 9 and secret in log] == []


async def test_serve_logs_one_line_for_each_upload_with_its_request_id(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn) as server:
        readings = [{"sensor": "s", "time": f"{YESTERDAY}T08:00:00Z", "values": {"m": 1, "n": None}}]
        for number in range(3):
            body = {"gateway": "pi", "readings": readings}
            assert await server.post(body, **{"X-Request-ID": f"upload-{number}"}) == 200
        assert await server.end(signal.SIGTERM) == 0
        lines = [line for line in server.log if line["event"] == "upload_stored"]
    seq = lines[0]["seq"]
    assert [{name: line[name] for name in ("request_id", "accepted", "duplicates", "seq")} for line in lines] == [
        {"request_id": "upload-0", "accepted": 1, "duplicates": 0, "seq": seq},
        {"request_id": "upload-1", "accepted": 0, "duplicates": 1, "seq": None},
        {"request_id": "upload-2", "accepted": 0, "duplicates": 1, "seq": None},
    ]
    assert {(line["key"], line["gateway"], line["rejected"], line["level"]) for line in lines} == {
        ("API_KEY", "pi", 1, "info")
    }


# Refusals


def test_serve_refuses_in_one_line_when_the_port_is_taken(tmp_path: Path, database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = tidegauge(tmp_path, "serve", DATABASE_URL=database.dsn, API_KEY="k", PORT=str(port)).refusal
    assert line == f"Wrong setting: HOST 127.0.0.1 and PORT {port} cannot be listened on: Address already in use"


@pytest.mark.usefixtures("restored_gc_thresholds")
async def test_serve_refuses_when_its_services_do_not_open(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "DATABASE_WAIT_S", 0.3)
    await database.pool.execute("DELETE FROM feed_epoch")
    with pytest.raises(StartError, match="The log above says why"):
        await serve(Settings(database_url=database.dsn, api_key="k", port=0))


# Listening


async def test_listen_sets_a_timeout_for_vanished_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_UNACKNOWLEDGED_MS", 12_345)
    with ExitStack() as stack:
        (listening,) = [stack.enter_context(one) for one in await listen("127.0.0.1", 0)]
        stack.enter_context(socket.create_connection(listening.getsockname()))
        accepted = stack.enter_context(listening.accept()[0])
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_345


async def test_listen_opens_a_socket_for_every_address_of_a_host() -> None:
    with ExitStack() as stack:
        listening = [stack.enter_context(one) for one in await listen("localhost", 0)]
        addresses = {one.getsockname()[0] for one in listening}
    assert "127.0.0.1" in addresses
    assert addresses <= {"127.0.0.1", "::1"}
    assert len(addresses) == len(listening)


async def test_listen_closes_its_sockets_when_an_address_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="Address already in use"):
            await listen("127.0.0.1", port)
    (again,) = await listen("127.0.0.1", port)
    again.close()
