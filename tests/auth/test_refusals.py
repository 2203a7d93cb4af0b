"""Refused keys are counted in the metrics, by reason."""

import aiohttp

from app.auth.keys import create_key
from tests.conftest import API_KEY_WS, Database, Server
from tests.live.clients import live


def refused(server: Server, reason: str) -> float:
    return server.services.metrics.registry.get_sample_value("tidegauge_auth_failures_total", {"reason": reason}) or 0.0


async def test_refused_requests_are_counted_by_reason(server: Server, database: Database) -> None:
    await create_key(database.pool, "reader", frozenset({"read"}), {})
    async with aiohttp.ClientSession(server.address) as http:
        for key in ("", "wrong-one", "wrong-two", API_KEY_WS):
            async with http.post("/api/v1/readings", data="[]", headers={"X-API-Key": key}) as response:
                assert response.status in (401, 403)
    assert {reason: refused(server, reason) for reason in ("missing", "unknown", "scope")} == {
        "missing": 1,
        "unknown": 2,
        "scope": 1,
    }


async def test_refused_websockets_are_counted_by_reason(server: Server) -> None:
    async with live(server, key="wrong") as client:
        assert (await client.closed())[0] == 4401
    assert refused(server, "unknown") == 1
