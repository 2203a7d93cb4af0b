"""The last refused uploads of a gateway over HTTP, with the beginnings of their bodies."""

import gzip
from typing import Any

import aiohttp
import msgspec
import pytest

from app.auth.keys import Binding, create_key
from app.ingest.gateways.refusals import BODY_KEPT, show_body
from app.ingest.uploads.upload import Sent
from tests.conftest import API_KEY, Database, Server
from tests.ingest.client import READINGS, RECORD, send


async def rejected(server: Server, gateway: str) -> list[dict[str, Any]]:
    """Return what is listed of a gateway, the newest first."""
    await server.services.ingest.gateways.write(server.services.ingest_pool)
    found: Any = await server.get(f"/api/v1/gateways/{gateway}/rejected")
    return list(found["items"])


def bad(number: int = 0, gateway: str = "roof") -> Any:
    return {"gateway": gateway, "readings": [{"sensor": f"pi{number}", "values": {"t": None, "u": 1}}]}


async def test_refused_values_are_listed_with_the_beginning_of_the_body(server: Server) -> None:
    await send(server, bad())
    (listed,) = await rejected(server, "roof")
    assert listed.pop("at").endswith("Z")
    assert listed == {
        "key": "API_KEY",
        "path": "/api/v1/readings",
        "error": None,
        "rejected_count": 1,
        "by_code": {"value_not_a_number": 1},
        "rejected": [
            {
                "index": 0,
                "code": "value_not_a_number",
                "message": "t is null; send a number, or leave the metric out",
                "metric": "t",
            }
        ],
        "body": msgspec.json.encode(bad()).decode(),
    }


async def test_the_last_twenty_of_a_gateway_are_kept(server: Server) -> None:
    for number in range(50):
        await send(server, bad(number))
        await send(server, bad(number, "cellar"))
        if number % 7 == 0:
            await server.services.ingest.gateways.write(server.services.ingest_pool)
    for gateway in ("roof", "cellar"):
        listed = await rejected(server, gateway)
        assert [each["body"].partition('"pi')[2][:2] for each in listed] == [
            str(number) for number in range(49, 29, -1)
        ]


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (READINGS, b'{"readings": [', "The body is not valid JSON"),
        ("/api/v2/write", b"temperature,host=pi value=", "line 1"),
        (RECORD, b'{"temperature": 1}', "Fields are missing or wrong: body.humidity: Field required"),
        ("/api/v1/integrations/ttn", b"[]", "The body cannot be used"),
    ],
)
async def test_upload_that_is_refused_as_a_whole_is_listed_with_the_reason(
    server: Server, database: Database, path: str, body: bytes, error: str
) -> None:
    key = await create_key(database.pool, "a", frozenset({"ingest"}), {}, Binding("roof"))
    answer = await send(server, body, path, X_API_Key=key)
    assert answer.status in (400, 422)
    (listed,) = await rejected(server, "roof")
    assert listed["error"].startswith(error) or error in listed["error"]
    assert (listed["path"], listed["key"], listed["body"]) == (path, "a", body.decode())
    assert await database.pool.fetchval("SELECT refused_for FROM gateway") in ("invalid_request", "unprocessable")


async def test_upload_is_listed_when_its_key_may_not_write_to_the_sensor(server: Server, database: Database) -> None:
    key = await create_key(database.pool, "a", frozenset({"ingest"}), {}, Binding("roof", "r-*"))
    await send(server, [{"sensor": "x", "values": {"t": 1}}], X_API_Key=key)
    (listed,) = await rejected(server, "roof")
    assert (listed["by_code"], listed["body"]) == ({"sensor_not_allowed": 1}, '[{"sensor":"x","values":{"t":1}}]')
    found: Any = await server.get("/api/v1/gateways")
    assert [(each["name"], each["rejected"]) for each in found["items"]] == [("roof", {"sensor_not_allowed": 1})]


async def test_body_is_shown_decompressed_and_cut(server: Server) -> None:
    body = b'[{"sensor": "x", "values": {"t": null}}' + b" " * 100_000 + b"]"
    await send(server, gzip.compress(body), Content_Encoding="gzip")
    (listed,) = await rejected(server, "API_KEY")
    assert listed["body"] == body[:1_000].decode()


@pytest.mark.parametrize(
    "secret",
    [
        '"password": "hunter22',
        '"wifi_secret":"hunter22"',
        '"apiKey" : "hunter22\\"hunter22"',
        "token=hunter22&x=1",
        f"tg_{'hunter22' * 5}abc",
        "my-own-key hunter22"[:10],
    ],
)
def test_what_looks_like_a_secret_is_not_shown(secret: str) -> None:
    shown = show_body(Sent("", f'{{"a": 1, {secret}, "b": 2'.encode(), "my-own-key"))
    assert "hunter22" not in shown
    assert "my-own-key" not in shown
    assert "[redacted]" in shown
    assert shown.startswith('{"a": 1, ')


def test_secret_that_is_cut_in_two_is_not_shown_in_part() -> None:
    for place in range(BODY_KEPT - 60, BODY_KEPT):
        body = b"x" * place + b" tg_" + b"s" * 43
        assert "s" not in show_body(Sent("", body[:BODY_KEPT]))


async def test_key_of_the_request_is_not_shown(server: Server) -> None:
    await send(server, [{"sensor": API_KEY, "values": {"t": None}}])
    (listed,) = await rejected(server, "API_KEY")
    assert API_KEY not in listed["body"]


async def test_gateway_without_refusals_has_an_empty_list_and_an_unknown_one_none(server: Server) -> None:
    await send(server, {"gateway": "hall/roof", "readings": [{"sensor": "x", "values": {"t": 1}}]})
    assert await rejected(server, "hall/roof") == []
    assert await rejected(server, "hall%2Froof") == []
    for path in ("/api/v1/gateways/attic/rejected", "/api/v1/gateways/hall/roof"):
        async with server.http.get(path) as response:
            assert response.status == 404
    path = f"{server.address}/api/v1/gateways/hall/roof/rejected"
    async with aiohttp.ClientSession() as nobody, nobody.get(path) as response:
        assert response.status == 401


async def test_conflicts_are_counted_where_another_value_is_stored(server: Server) -> None:
    def batch(*values: float, count: int = 1) -> Any:
        readings = [
            {"sensor": f"pi{number}", "time": "2026-11-01T08:00:00Z", "values": {"t": value}}
            for number in range(count)
            for value in values
        ]
        return {"gateway": "roof", "readings": readings}

    for body, expected in (
        (batch(1), (0, 0)),
        (batch(1), (1, 0)),  # the same again
        (batch(2), (2, 1)),  # another value
        (batch(1, 3), (4, 2)),  # within one batch, too
        (batch(1, count=500), (5, 2)),
        (batch(1, count=500), (505, 2)),
        (batch(7, count=500), (1_005, 502)),
    ):
        await send(server, body)
        await server.services.ingest.gateways.write(server.services.ingest_pool)
        found: Any = await server.get("/api/v1/gateways")
        (gateway,) = found["items"]
        assert (gateway["duplicates"], gateway["conflicts"]) == expected
    metrics = server.services.metrics.render().decode()
    assert "tidegauge_values_conflicting_total 502.0" in metrics
