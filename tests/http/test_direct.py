"""A route that is called directly answers as the router does, which takes the same address with a slash at its end."""

import aiohttp
import pytest

from app.http.direct import DirectRoutes
from app.ingest.uploads.route import UploadRoute
from tests.conftest import API_KEY, Server

READING = b'[{"sensor":"a","time":"2020-01-01T00:00:00Z","values":{"t":1}}]'
LEGACY = b'{"sensor_id":"a","temperature":1,"humidity":2,"pressure":"x"}'
CASES = {
    "refused readings": ("POST", "/api/v1/readings", READING, {}, 200),
    "no JSON": ("POST", "/api/v1/readings", b"[", {}, 400),
    "no key": ("POST", "/api/v1/readings", READING, {"X-API-Key": ""}, 401),
    "unknown key": ("POST", "/api/v1/readings", READING, {"X-API-Key": "tg_unknown"}, 401),
    "wrong encoding": ("POST", "/api/v1/readings", READING, {"Content-Encoding": "zip"}, 400),
    "no such method": ("PATCH", "/api/v1/readings", READING, {}, 405),
    "wrong field of the replaced server": ("POST", "/api/temperature_reading", LEGACY, {}, 422),
    "no key of the replaced server": ("POST", "/api/temperature_reading", LEGACY, {"X-API-Key": ""}, 401),
    "LoRaWAN": ("POST", "/api/v1/integrations/ttn", b"{}", {}, 400),
    "remote write": ("POST", "/api/v1/write", b"", {"X-API-Key": ""}, 401),
}
#: Headers and fields that differ between any two requests.
OWN = {"date", "x-request-id", "content-length"}


async def answer(server: Server, method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, object]:
    """Return status, headers and body without what is a request's own."""
    sent = {"X-API-Key": API_KEY, **headers}
    async with aiohttp.request(method, server.address + path, data=body, headers=sent) as response:
        text = await response.text()
        fields = {name.lower(): value for name, value in response.headers.items() if name.lower() not in OWN}
        document = await response.json(content_type=None) if text else None
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name not in ("request_id", "server_time")}
    return {"status": response.status, "headers": fields, "body": document}


@pytest.mark.parametrize("case", CASES)
async def test_direct_answer_is_that_of_the_router(case: str, server: Server) -> None:
    method, path, body, headers, status = CASES[case]
    direct = await answer(server, method, path, body, headers)
    assert direct == await answer(server, method, f"{path}/", body, headers)
    assert direct["status"] == status


async def test_routes_without_parameters_are_called_directly(server: Server) -> None:
    async def router(*_: object) -> None:
        raise AssertionError("the router was called")

    server.app.asgi_handler, before = router, server.app.asgi_handler
    try:
        direct = DirectRoutes(server.app, UploadRoute, {"ingest": server.services.ingest})
    finally:
        server.app.asgi_handler = before
    paths = {path for _, path in direct._routes}
    assert {"/api/v1/readings", "/api/temperature_reading", "/api/v1/write", "/write", "/api/v2/write"} <= paths
    assert not [path for path in paths if "telemetry" in path]
