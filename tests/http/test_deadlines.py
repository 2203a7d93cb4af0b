"""Requests whose answer does not begin in time, at a database in which somebody holds a lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from app.http import deadlines
from tests.conftest import API_KEY, Database, Server

READING = [{"sensor": "s", "values": {"m": 1}}]
SILENCE = {"matchers": {"sensor": "s"}, "minutes": 5, "reason": "r"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deadlines.READ_WITHIN_S + deadlines.LOOK_EVERY_S < 10
    assert deadlines.CHANGE_WITHIN_S + deadlines.LOOK_EVERY_S < 30
    monkeypatch.setattr(deadlines, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(deadlines, "READ_WITHIN_S", 1.5)
    monkeypatch.setattr(deadlines, "CHANGE_WITHIN_S", 1.5)


async def test_read_is_answered_503_in_time_and_others_go_on_when_a_lock_is_held(
    server: Server, database: Database
) -> None:
    async with _locked(database, "alert_episode"):
        started = monotonic()
        answers = await asyncio.gather(*(_ask(server, "GET", "/api/v1/alerts") for _ in range(5)))
        assert monotonic() - started < 4
        assert await server.get("/api/v1/silences") == {"items": [], "next": None}
    for status, headers, body in answers:
        assert (status, headers["Retry-After"]) == (503, "5")
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["X-Request-ID"] == body["request_id"]
        assert (body["type"], body["title"]) == ("/problems/too_late", "No answer in time")
        assert body["detail"] == "The server could not answer in time. Ask again."
    assert await server.get("/api/v1/alerts") == {"items": [], "next": None}


async def test_change_is_answered_503_that_says_what_is_not_known_when_a_lock_is_held(
    server: Server, database: Database
) -> None:
    assert (await server.post_readings(READING)).status == 200
    async with _locked(database, "sensor"):
        status, headers, body = await _ask(server, "PUT", "/api/v1/sensors/s", {"display_name": "S"})
    assert (status, headers["Retry-After"]) == (503, "5")
    assert body["detail"] == (
        "The server could not answer in time. The request may have been carried out. Readings with a time can be sent "
        "again safely; before you repeat anything else, look whether it was."
    )
    status, _, body = await _ask(server, "PUT", "/api/v1/sensors/s", {"display_name": "S"})
    assert status == 200


async def test_time_of_a_change_counts_from_the_end_of_its_body(server: Server) -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        yield b'[{"sensor": "s", '
        await asyncio.sleep(2.0)
        yield b'"values": {"m": 1}}]'

    async with server.http.post("/api/v1/readings", data=slow_body()) as response:
        assert response.status == 200


@pytest.mark.parametrize("first", [b"", b'{"display_name": '])
async def test_change_is_answered_408_when_its_body_does_not_come(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(deadlines, "PIECE_WITHIN_S", 0.3)

    async def stalled_body() -> AsyncIterator[bytes]:
        yield first
        await asyncio.Event().wait()

    headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    async with server.http.put("/api/v1/sensors/s", data=stalled_body(), headers=headers) as response:
        assert response.status == 408
        body = await response.json()
    assert (body["type"], body["detail"]) == (
        "/problems/slow_body",
        "Nothing of the body came for 0 s. Send it again.",
    )


async def test_connections_are_given_back_when_requests_were_late(server: Server, database: Database) -> None:
    async with _locked(database, "alert_episode"):
        for _ in range(2):
            await asyncio.gather(*(_ask(server, "GET", "/api/v1/alerts") for _ in range(5)))
    for _ in range(15):
        assert (await _ask(server, "GET", "/api/v1/alerts"))[0] == 200


async def _ask(server: Server, method: str, path: str, body: object = None) -> tuple[int, Any, Any]:
    async with server.http.request(method, path, json=body, headers={"X-API-Key": API_KEY}) as response:
        return response.status, response.headers, await response.json()


@asynccontextmanager
async def _locked(database: Database, table: str) -> AsyncIterator[None]:
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
