"""The key in a request's headers, and the answers when it is missing, wrong or lacks a scope."""

import asyncio
from typing import Any

import pytest

from app.auth import key_ring
from app.auth.guard import first_headers, key_from_headers
from app.auth.keys import create_key, revoke_key
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server

READING = b'[{"sensor": "pi1", "values": {"t": 1}}]'


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"x-api-key": "k"}, "k"),
        ({"x-api-key": "Bearer k"}, "k"),
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer  k "}, "k"),
        ({"authorization": "Token k"}, "k"),
        ({"authorization": "TOKEN k"}, "k"),
        ({"authorization": "k"}, "k"),
        ({"authorization": "Bearer"}, "Bearer"),
        ({"authorization": "Bearer "}, "Bearer"),
        ({"authorization": "Basic a2V5"}, "Basic a2V5"),
        ({"x-api-key": "first", "authorization": "Bearer second"}, "first"),
        ({"x-api-key": "", "authorization": "Bearer second"}, "second"),
        ({"x-api-key": ""}, None),
        ({"authorization": ""}, None),
    ],
)
def test_key_is_read_from_either_header_in_every_accepted_form(headers: dict[str, str], key: str | None) -> None:
    assert key_from_headers(headers) == key


def test_first_of_several_headers_counts() -> None:
    scope: Any = {"headers": [(b"x-api-key", b"a"), (b"accept", b"*/*"), (b"x-api-key", b"b")]}
    assert first_headers(scope) == {"x-api-key": "a", "accept": "*/*"}


async def test_request_is_accepted_or_refused_by_the_key_it_carries(server: Server) -> None:
    for headers, status in (
        ({"X-API-Key": API_KEY}, 200),
        ({"X-API-Key": "", "Authorization": f"Bearer {API_KEY}"}, 200),
        ({"X-API-Key": "", "Authorization": f"Token {API_KEY}"}, 200),
        ({"X-API-Key": "", "Authorization": API_KEY}, 200),
        ({"X-API-Key": API_KEY, "Authorization": "Bearer wrong"}, 200),
        ({"X-API-Key": "wrong", "Authorization": f"Bearer {API_KEY}"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": API_KEY_WS}, 200),
    ):
        async with server.http.get("/api/v1/sensors", headers=headers) as response:
            assert response.status == status, headers


async def test_problem_says_how_to_send_a_key_when_there_is_none(server: Server) -> None:
    async with server.http.get("/api/v1/sensors", headers={"X-API-Key": ""}) as response:
        problem = await response.json(content_type="application/problem+json")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (problem["type"], problem["status"]) == ("/problems/unauthorized", 401)
    assert problem["detail"] == "Send your API key in the header X-API-Key, or as Authorization: Bearer KEY"


async def test_live_key_reads_what_the_page_shows_and_writes_nothing(server: Server) -> None:
    headers = {"X-API-Key": API_KEY_WS}
    for path in (
        "/api/v1/sensors",
        "/api/v1/alerts",
        "/api/v1/rules",
        "/api/v1/silences",
        "/api/v1/gateways",
        "/api/v1/limits?sensor=a",
        "/api/v1/notifications/outbox",
        "/api/v1/channels",
    ):
        async with server.http.get(path, headers=headers) as response:
            assert response.status == 200, path
    # Messages of other programs are for keys with `read` alone.
    async with server.http.get("/api/v1/notifications", headers=headers) as response:
        assert response.status == 403
    for path in ("/api/v1/readings", "/api/v1/silences", "/api/v1/alerts/1/ack", "/api/v1/channels/ops/test"):
        async with server.http.post(path, data=READING, headers=headers) as response:
            assert response.status == 403, path


async def test_problem_names_the_scopes_when_one_is_missing(server: Server) -> None:
    key = await create_key(server.services.pool, "display", frozenset({"read", "live"}), {})
    async with server.http.post("/api/v1/readings", data=READING, headers={"X-API-Key": key}) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (problem["type"], problem["status"]) == ("/problems/forbidden", 403)
    assert problem["detail"] == "The key 'display' has the scopes live, read; this needs ingest"
    async with server.http.get("/api/v1/sensors", headers={"X-API-Key": key}) as response:
        assert (await response.json())["items"] == []


async def test_stored_key_works_at_once_and_is_refused_soon_after_it_is_revoked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.01)
    upload = [{"sensor": "pi1", "values": {"t": 1}}]
    async with running_server(Settings(database_url=database.dsn, api_key=API_KEY)) as server:
        headers = {"X-API-Key": await create_key(database.pool, "roof", frozenset({"ingest"}), {})}
        assert (await server.post_readings(upload, headers=headers)).status == 200
        await revoke_key(database.pool, "roof")
        async with asyncio.timeout(20):
            while (await server.post_readings(upload, headers=headers)).status == 200:
                pass
        assert (await server.post_readings(upload, headers=headers)).status == 401
