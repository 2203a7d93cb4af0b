"""Single readings, also of the replaced sensor server's clients, beside a bare Litestar handler."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import uvicorn
import uvloop
from litestar import Litestar, Request, Response, post

from app.db.pool import Connection
from tests.bench.connections import Sent, connected, for_seconds, p99, repeat, request
from tests.bench.ingest.load import wal_bytes, watched
from tests.bench.processes import running, served, wait_for_port
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run
from tests.bench.usage import cpu_s, database_cpu_s
from tests.ports import free_port

SECONDS = 5.0
WARM_UP_S = 1.0
SENSORS = 100
#: Least ratio to the bare handler by connections.
GOALS = {16: 0.35, 64: 0.5}
_ANSWER = b'{"seq":1,"accepted":1,"duplicates":0,"rejected":[],"rejected_count":0}'


class Endpoint(NamedTuple):
    """Where single readings are posted, the bodies that are posted in turn, and the answer's status."""

    name: str
    path: str
    bodies: list[bytes]
    status: int


NATIVE = Endpoint(
    "single readings",
    "/api/v1/readings",
    [json.dumps([{"sensor": f"s{n}", "values": {"temperature": 20.5}}]).encode() for n in range(SENSORS)],
    200,
)
LEGACY = Endpoint(
    "single readings, replaced server's endpoint",
    "/api/temperature_reading",
    [
        json.dumps({"sensor_id": f"s{n}", "temperature": 20.5, "humidity": 60.2, "pressure": 1012.5}).encode()
        for n in range(SENSORS)
    ],
    201,
)


class Measured(NamedTuple):
    """Requests a second, their p99, CPU time for a million of the server and of the database, and WAL a request."""

    per_second: float
    p99_ms: float
    cpu_s: float
    database_cpu_s: float
    wal_bytes: float


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield a row for each endpoint and number of connections."""
    port = free_port()
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        with running(serve_bare, port) as bare_pid:
            await wait_for_port(port)
            for connections, goal in GOALS.items():
                bare_address = f"http://127.0.0.1:{port}"
                bare = await _post(run, bare_address, NATIVE, connections, [bare_pid], database)
                for endpoint in (NATIVE, LEGACY):
                    ours = await _post(run, server.address, endpoint, connections, server.pids, database)
                    yield Row(
                        name=f"{endpoint.name} × {connections}",
                        shape=f"1 reading a request of {SENSORS} sensors in turn, {connections} connections",
                        figure=ours.per_second,
                        unit="requests/s",
                        beside="bare Litestar handler",
                        beside_figure=bare.per_second,
                        goal=Goal("≥", goal),
                        p99_ms=ours.p99_ms,
                        api_cpu_s=ours.cpu_s,
                        database_cpu_s=ours.database_cpu_s,
                        wal_bytes=ours.wal_bytes,
                        peak_mb=server.peak_mb(),
                        note=f"bare: p99 {bare.p99_ms:.1f} ms, {bare.cpu_s:.0f} s of CPU a million",
                    )


async def _post(
    run: Run, address: str, endpoint: Endpoint, connections: int, pids: list[int], database: Connection
) -> Measured:
    requests = [request(address, endpoint.path, body) for body in endpoint.bodies]
    async with connected(address, connections) as clients:
        await repeat(clients, for_seconds(run.seconds(WARM_UP_S), requests), status=endpoint.status)
        before, database_before, wal = cpu_s(pids), await database_cpu_s(database) or 0.0, await wal_bytes(database)
        sent: Sent = await repeat(clients, for_seconds(run.seconds(SECONDS), requests), status=endpoint.status)
        used_s, database_used_s = cpu_s(pids) - before, (await database_cpu_s(database) or 0.0) - database_before
        written = await wal_bytes(database) - wal
    count = len(sent.seconds)
    return Measured(
        per_second=count / sent.lasted_s,
        p99_ms=p99(sent.seconds) * 1e3,
        cpu_s=used_s / count * 1e6,
        database_cpu_s=database_used_s / count * 1e6,
        wal_bytes=written / count,
    )


@post("/api/v1/readings", status_code=200)
async def take(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
    """Read a body and answer as the real endpoint does, without doing anything."""
    await request.body()
    return Response(_ANSWER, media_type="application/json")


def serve_bare(port: int) -> None:
    """Serve the bare handler until ended, with the server's settings for speed."""
    config = uvicorn.Config(
        Litestar([take], openapi_config=None, logging_config=None),
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())
