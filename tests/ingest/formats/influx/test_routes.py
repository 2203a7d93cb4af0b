"""Line protocol over HTTP, as clients of InfluxDB 1 and 2 send it: stored rows, and answers that they understand."""

import gzip
from base64 import b64encode
from typing import Any

import aiohttp
import pytest

from app.clock import now_us
from tests.conftest import API_KEY, API_KEY_WS, Database, Server

NOW_NS = now_us() * 1_000
LINE = f"temperature,device=cellar,site=quay value=12.5 {NOW_NS}"
ROWS = """
SELECT name, metric, to_us(time) AS us, value
  FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id ORDER BY 1, 2, 3
"""


async def write(
    server: Server, body: str | bytes, path: str = "/api/v2/write", headers: dict[str, str] | None = None, **query: str
) -> tuple[int, Any]:
    """Write without any key but the given one; return status and answer."""
    async with (
        aiohttp.ClientSession(server.address) as http,
        http.post(path, data=body, headers=headers, params=query) as response,
    ):
        return response.status, await response.json() if response.content_length else None


TOKEN = {"Authorization": f"Token {API_KEY}"}


async def test_lines_are_stored_when_they_are_written_by_either_version(server: Server, database: Database) -> None:
    assert await write(server, LINE, headers=TOKEN, org="o", bucket="b") == (204, None)
    v1 = f'temperature,device=cellar,site=quay value=13 {NOW_NS // 10**9 - 60}\ncpu,host=pi usage=3i,mode="x",up=t'
    assert await write(server, v1, "/write", p=API_KEY, u="any", db="d", precision="s") == (204, None)
    rows = [tuple(row) for row in await database.pool.fetch(ROWS)]
    assert [(name, metric, value) for name, metric, _, value in rows] == [
        ("cellar,site=quay", "temperature", 13.0),
        ("cellar,site=quay", "temperature", 12.5),
        ("pi", "cpu_up", 1.0),
        ("pi", "cpu_usage", 3.0),
    ]
    assert rows[1][2] == NOW_NS // 1_000
    sensor = await server.get("/api/v1/sensors/cellar,site=quay")
    assert sensor["tags"] == {"site": "quay"}


async def test_gzip_is_read_and_sending_again_stores_nothing_twice(server: Server, database: Database) -> None:
    for _ in range(2):
        headers = {**TOKEN, "Content-Encoding": "gzip"}
        assert await write(server, gzip.compress(LINE.encode()), headers=headers) == (204, None)
    assert len(await database.pool.fetch(ROWS)) == 1


@pytest.mark.parametrize(
    ("path", "headers", "query"),
    [
        ("/api/v2/write", {"Authorization": f"Token {API_KEY}"}, {}),
        ("/api/v2/write", {"Authorization": f"Bearer {API_KEY}"}, {}),
        ("/api/v2/write", {"Authorization": f"Token anna:{API_KEY}"}, {}),
        ("/api/v2/write", {"X-API-Key": API_KEY}, {}),
        ("/write", {"Authorization": "Basic " + b64encode(f"anna:{API_KEY}".encode()).decode()}, {}),
        ("/write", {}, {"u": "anna", "p": API_KEY}),
        ("/write", {}, {"p": API_KEY}),
    ],
)
async def test_key_is_found_wherever_clients_put_it(
    server: Server, path: str, headers: dict[str, str], query: dict[str, str]
) -> None:
    assert await write(server, LINE, path, headers, **query) == (204, None)


@pytest.mark.parametrize(
    ("headers", "query", "message"),
    [
        ({}, {}, "Send your API key in the header X-API-Key, or as Authorization: Bearer KEY"),
        ({"Authorization": "Token wrong"}, {}, "This API key is unknown or was revoked"),
        ({}, {"p": "wrong"}, "This API key is unknown or was revoked"),
        (
            {"Authorization": "Basic ???"},
            {},
            "The header Authorization is no valid HTTP Basic: user:password in Base64",
        ),
    ],
)
async def test_missing_or_wrong_key_is_answered_with_401(
    server: Server, headers: dict[str, str], query: dict[str, str], message: str
) -> None:
    answer = await write(server, LINE, "/write", headers, **query)
    assert answer == (401, {"code": "unauthorized", "message": message, "error": message})


async def test_key_without_scope_is_answered_with_403(server: Server) -> None:
    status, answer = await write(server, LINE, headers={"Authorization": f"Token {API_KEY_WS}"})
    assert (status, answer["code"]) == (403, "forbidden")


async def test_malformed_line_is_answered_with_its_place_and_nothing_is_stored(
    server: Server, database: Database
) -> None:
    status, answer = await write(server, f"{LINE}\ncpu value=x", headers=TOKEN)
    message = "line 2, column 11: the value of the field 'value' comes here, not 'x'"
    assert (status, answer) == (400, {"code": "invalid", "message": message, "error": message, "line": 2})
    assert await database.pool.fetch(ROWS) == []


async def test_refused_fields_are_answered_with_422_and_all_others_are_stored(
    server: Server, database: Database
) -> None:
    bad = "\n".join(f"cpu,host=h{number} usage=1e200" for number in range(5))
    status, answer = await write(server, f"{LINE}\n{bad}", headers=TOKEN)
    refusal = "usage is 1e+200; send a finite number within ±1e+100"
    message = (
        "partial write: 5 fields refused, all others stored: "
        f"line 2: {refusal}; line 3: {refusal}; line 4: {refusal}; and 2 more"
    )
    assert (status, answer) == (422, {"code": "unprocessable entity", "message": message, "error": message})
    assert [row["name"] for row in await database.pool.fetch(ROWS)] == ["cellar,site=quay"]


async def test_unknown_precision_is_answered_with_400(server: Server) -> None:
    status, answer = await write(server, LINE, headers=TOKEN, precision="fortnight")
    message = "precision is 'fortnight'; send one of n, ns, u, us, µ, ms, s, m, h"
    assert (status, answer) == (400, {"code": "invalid", "message": message, "error": message})


@pytest.mark.parametrize("body", ["", "\n", "# nothing\n", 'm state="on"'])
async def test_body_without_numbers_is_answered_with_204(server: Server, body: str) -> None:
    assert await write(server, body, headers=TOKEN) == (204, None)


async def test_too_large_body_is_answered_with_413(server: Server) -> None:
    compressed = gzip.compress(b"\n" * (65 * 2**20))
    status, answer = await write(server, compressed, headers={**TOKEN, "Content-Encoding": "gzip"})
    assert (status, answer["code"]) == (413, "request too large")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_probes_of_clients_need_no_key(server: Server, method: str) -> None:
    async with aiohttp.ClientSession(server.address) as http:
        async with http.request(method, "/ping") as response:
            assert (response.status, response.headers["X-Influxdb-Version"]) == (204, "1.8.10")
        async with http.request(method, "/health") as response:
            assert response.status == 200
            if method == "GET":
                assert (await response.json())["status"] == "pass"


async def test_key_in_the_query_is_in_no_log(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    await write(server, "cpu value=x", "/write", p=API_KEY)
    await write(server, LINE, "/write", p=API_KEY)
    captured = capsys.readouterr()
    assert API_KEY not in captured.out + captured.err
