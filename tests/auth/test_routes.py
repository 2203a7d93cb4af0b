"""Facts that a client can ask about its own key."""

from app.auth.keys import create_key
from tests.conftest import API_KEY_WS, Database, Server


async def test_key_shows_its_label_scopes_and_limits_but_not_itself(server: Server, database: Database) -> None:
    key = await create_key(database.pool, "roof", frozenset({"live", "admin", "ingest"}), {"sensors": 5})
    async with server.http.get("/api/v1/key", headers={"X-API-Key": key}) as response:
        assert response.status == 200
        assert key not in await response.text()
        assert await response.json() == {
            "label": "roof",
            "scopes": ["ingest", "live", "admin"],
            "limits": {
                "ws_connections": None,
                "sensors": 5,
                "notifications_per_minute": None,
                "uploads_per_minute": None,
            },
            "binding": None,
            "expires_at": None,
        }


async def test_key_of_the_environment_shows_itself(server: Server) -> None:
    async with server.http.get("/api/v1/key", headers={"X-API-Key": API_KEY_WS}) as response:
        shown = await response.json()
    assert (shown["label"], shown["scopes"]) == ("API_KEY_WS", ["live"])


async def test_key_without_any_scope_may_ask_about_itself(server: Server, database: Database) -> None:
    key = await create_key(database.pool, "idle", frozenset(), {})
    async with server.http.get("/api/v1/key", headers={"X-API-Key": key}) as response:
        assert (response.status, (await response.json())["scopes"]) == (200, [])


async def test_key_is_not_shown_when_it_is_missing_or_unknown(server: Server) -> None:
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "unknown"}):
        async with server.http.get("/api/v1/key", headers=headers) as response:
            assert response.status == 401
            assert (await response.json(content_type="application/problem+json"))["type"] == "/problems/unauthorized"
