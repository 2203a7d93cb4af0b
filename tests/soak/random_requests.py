"""Random requests, made from the OpenAPI document with a seed: none is answered with 5xx, and the server stays well.

Each part of a request, path, query, header or body, fits its schema, or is one of the values that break programs.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from tests.conftest import API_KEY, copied, make_template
from tests.faults.victim import victim_server
from tests.ports import free_port
from tests.processes import ServerProcess, running
from tests.soak.totals import Totals

PART = "requests"
CLIENTS = 8
#: Requests of one seed.
CHUNK = 5_000
#: Rules and channels do not go anywhere: nobody listens on this port.
_NOWHERE = "http://127.0.0.1:9"
#: Values that break programs, for any place that takes JSON.
_HOSTILE: Sequence[Any] = (
    None, True, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308, -0.0, 5e-324, "", "\0", "a\0b", "\ud83d\ude00",
    "\u202e", "'; DROP TABLE reading; --", "%", "*", "?" * 50, "x" * 300, "x" * 20_000, "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "2026-02-30", "now", "-1h", "NaN", "Infinity", "١٢٣",
    [], {}, [[]], [None], {"": None}, {"\0": 1}, [1] * 1_000,
)  # fmt: skip
_RAW_BODIES = (
    b"",
    b"\0",
    b"{",
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"\xff\xfe",
    b"1e999",
    b'"\\ud800"',
    b"NaN",
    b" " * 9_000,
)
_TYPES = ("application/json", "text/plain", "text/csv", "application/x-www-form-urlencoded", "multipart/form-data", "x")
_ENCODINGS = ("gzip", "zstd", "br", "identity", "deflate", "gzip, gzip")


class Maker:
    """Makes requests from a document; equal seeds make equal requests."""

    def __init__(self, document: Mapping[str, Any], seed: int) -> None:
        self._rng = Random(f"requests {seed}")
        self._schemas = document["components"]["schemas"]
        self._operations = [
            (method.upper(), path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in ("get", "post", "put", "patch", "delete")
        ]

    def make(self) -> tuple[str, str, dict[str, str], bytes | None]:
        """Return a method, a path with its query, headers and a body."""
        rng = self._rng
        method, path, operation = rng.choice(self._operations)
        query, headers = [], {}
        for parameter in operation.get("parameters", []):
            text = self._text(parameter.get("schema", {}))
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(text, safe="") or "%00")
            elif parameter["in"] == "query" and rng.random() < 0.5:
                query += [(parameter["name"], text)] * rng.choice((1, 1, 1, 2))
            elif parameter["in"] == "header" and rng.random() < 0.5:
                headers[parameter["name"]] = quote(text[:1_000], safe=" ")
        if query:
            path += "?" + "&".join(f"{quote(name)}={quote(text, safe='')}" for name, text in query)
        body = self._body(operation, headers)
        if rng.random() < 0.02:
            method = rng.choice(("PUT", "PATCH", "HEAD", "OPTIONS", "DELETE", "POST"))
        return method, path, headers, body

    def _body(self, operation: Mapping[str, Any], headers: dict[str, str]) -> bytes | None:
        rng = self._rng
        content = operation.get("requestBody", {}).get("content", {})
        if not content:
            return None
        headers["Content-Type"] = next(iter(content)) if rng.random() < 0.9 else rng.choice(_TYPES)
        if rng.random() < 0.05:
            headers["Content-Encoding"] = rng.choice(_ENCODINGS)
        if rng.random() < 0.05:
            headers["Idempotency-Key"] = quote(self._text({"type": "string"})[:300], safe=" ")
        if rng.random() < 0.1:
            return rng.choice(_RAW_BODIES)
        schema = next(iter(content.values()))["schema"]
        return json.dumps(self._value(schema, 0), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")

    def _text(self, schema: Mapping[str, Any]) -> str:
        value = self._value(schema, 3)
        return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace").decode()

    def _value(self, schema: Mapping[str, Any], depth: int) -> Any:
        """Return a value that fits a schema, or with some chance a hostile one at any place in it."""
        rng = self._rng
        if rng.random() < 0.08 or depth > 8:
            return rng.choice(_HOSTILE)
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]], depth)
        for several in ("oneOf", "anyOf", "allOf"):
            if several in schema:
                return self._value(rng.choice(schema[several]), depth)
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema.get("type", "string")
        return self._value_of_type(rng.choice(kind) if isinstance(kind, list) else kind, schema, depth)

    def _value_of_type(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        rng = self._rng
        match kind:
            case "object":
                return dict(self._members(schema, depth))
            case "array":
                return [self._value(schema.get("items", {}), depth + 1) for _ in range(rng.choice((0, 1, 2, 5, 30)))]
            case "integer":
                return rng.choice((0, 1, 7, 100, 1_000, rng.randrange(-(2**40), 2**40)))
            case "number":
                return rng.choice((0, 1.5, -20, rng.uniform(-1e6, 1e6)))
            case "boolean":
                return rng.random() < 0.5
            case "null":
                return None
        times = ("2026-11-01T00:00:00Z", "2026-11-28T10:00:00+02:00", "1700000000000")
        return rng.choice((f"s-{rng.randrange(20)}", "temperature", "*", *times, "é" * rng.randrange(40)))

    def _members(self, schema: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        rng = self._rng
        required = schema.get("required", ())
        for name, member in schema.get("properties", {}).items():
            if rng.random() < (0.95 if name in required else 0.5):
                yield name, self._value(member, depth + 1)
        if isinstance(more := schema.get("additionalProperties"), Mapping):
            for _ in range(rng.choice((0, 1, 3))):
                yield rng.choice(("temperature", "humidity", "é", "x" * 100, "a b")), self._value(more, depth + 1)


async def run(count: int, totals: Totals) -> None:
    """Send a number of requests; raise AssertionError with the first that is answered with 5xx."""
    with tempfile.TemporaryDirectory() as folder, victim_server(Path(folder) / "server") as victim:
        await make_template(victim.server.dsn, victim.template)
        async with copied(victim.server.dsn, victim.template) as dsn, _served(Path(folder), dsn) as server:
            async with server.http.get("/schema/openapi.json") as response:
                document = await response.json()
            for _ in range(0, count, CHUNK):
                seed = totals.next_seed(PART)
                found = await _send_all(server, Maker(document, seed), CHUNK)
                totals.add(PART, seed, f"{CHUNK:,} requests", passed=not found)
                causes = "\n".join(sorted({line["exception"].splitlines()[-1] for line in _failures(server)}))
                assert not found, f"seed {seed}: {len(found)} requests:\n{found[0]}\n{causes}"
                await server.until_ready()
                assert _failures(server) == []


@asynccontextmanager
async def _served(folder: Path, dsn: str) -> AsyncIterator[ServerProcess]:
    away: dict[str, Any] = {"SLACK_WEBHOOK_PREFIX": f"{_NOWHERE}/", "TELEGRAM_API_BASE": _NOWHERE, "LOG_FORMAT": "json"}
    port = free_port()
    async with (
        running(folder / "api", "serve", DATABASE_URL=dsn, API_KEY=API_KEY, **away) as server,
        # Without a worker, test messages are answered with 503.
        running(folder / "worker", "work", f"--port={port}", port=port, DATABASE_URL=dsn, **away),
    ):
        yield server


def _failures(server: ServerProcess) -> list[dict[str, Any]]:
    return [line for line in server.log if "exception" in line]


async def _send_all(server: ServerProcess, maker: Maker, count: int) -> list[str]:
    """Send requests of several clients at a time; return the description of each that was answered with 5xx."""
    requests = (maker.make() for _ in range(count))
    found: list[str] = []

    async def send() -> None:
        for method, path, headers, body in requests:
            url = URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)
            try:
                async with server.http.request(method, url, headers=headers, data=body) as response:
                    text = (await response.read())[:500]
                    if response.status >= 500 and path != "/health/ready":
                        found.append(
                            f"{method} {path[:300]} {headers} {(body or b'')[:500]!r}: {response.status} {text!r}"
                        )
            except aiohttp.ClientError as error:
                found.append(f"{method} {path[:300]} {headers} {(body or b'')[:500]!r}: {error!r:.500}")

    await asyncio.gather(*(send() for _ in range(CLIENTS)))
    return found
