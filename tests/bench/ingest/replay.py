"""A day of 50 gateways, shuffled and a tenth of it twice, beside the live uploads of others."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

from app.clock import now_us
from app.db.pool import Connection
from tests.bench.connections import Sent, connected, p99, repeat, request
from tests.bench.ingest.load import watched
from tests.bench.processes import Served, program, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

GATEWAYS = 50
#: One a second.
READINGS = 86_400
BATCH = 1_000
CONNECTIONS = 4
#: What others upload meanwhile: so many readings a second, in uploads of 20.
LIVE_UPLOADS_PER_S = 20.0
LIVE_CONNECTIONS = 4
LIVE_READINGS = 20
BEFORE_S = 30.0
_DAY_MS = 86_400_000


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield a row of what was stored, and one of the live uploads."""
    readings = run.count(READINGS, 20)
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        before = await _send_live(server, run.seconds(BEFORE_S))
        loop = asyncio.get_running_loop()
        began = loop.time()
        command = (sys.executable, "-m", "tests.bench.ingest.replay", server.address, str(readings))
        async with program(*command, cwd=Path(__file__).parents[3]) as replay:
            during = await _send_live(server, None, replay)
        lasted_s = loop.time() - began
        if replay.returncode != 0:
            raise RuntimeError(f"the replay ended with {replay.returncode}")
        yield await _stored_row(database, readings, lasted_s)
        yield Row(
            name="live uploads during a replay: p99",
            shape=f"{len(during.seconds):,} uploads, {LIVE_UPLOADS_PER_S:.0f} a second, of {LIVE_READINGS} readings",
            figure=p99(during.seconds) * 1e3,
            unit="ms",
            beside="before it",
            beside_figure=p99(before.seconds) * 1e3,
            goal=Goal("≤", 2.0),
            peak_mb=server.peak_mb(),
        )


async def _stored_row(database: Connection, readings: int, lasted_s: float) -> Row:
    """Compare what is stored of the gateways with what they have sent: each distinct reading, with its value."""
    rows = await database.fetch(
        "SELECT count(*) AS count, count(DISTINCT value) AS distinct, min(value) AS least, max(value) AS most"
        " FROM reading JOIN series ON series.id = series_id WHERE metric = 'replayed' GROUP BY series_id"
    )
    exact = sum(
        (row["count"], row["distinct"], row["least"], row["most"]) == (readings, readings, 0, readings - 1)
        for row in rows
    )
    stored = sum(row["count"] for row in rows)
    return Row(
        name="replay of a day: gateways not stored exactly",
        shape=f"{GATEWAYS} × {readings:,} readings, shuffled, a tenth twice; {stored:,} stored in {lasted_s:.0f} s",
        figure=float(GATEWAYS - exact),
        unit="gateways",
        goal=Goal("≤", 0),
        note=f"{stored / lasted_s:,.0f} readings a second",
    )


async def _send_live(server: Served, seconds: float | None, replay: asyncio.subprocess.Process | None = None) -> Sent:
    """Upload live readings at a steady rate for so many seconds, or until the replay has ended."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + (seconds or 0)

    def requests() -> Iterator[bytes]:
        while (replay.returncode is None) if replay is not None else (loop.time() < ends_at):
            items = ",".join(f'{{"sensor":"live{n}","values":{{"temperature":20.5}}}}' for n in range(LIVE_READINGS))
            yield request(server.address, "/api/v1/readings", f"[{items}]".encode())

    async with connected(server.address, LIVE_CONNECTIONS) as clients:
        return await repeat(clients, requests(), LIVE_UPLOADS_PER_S)


def _requests(address: str, readings: int) -> Iterator[bytes]:
    """Yield the uploads of all gateways in turn; each has its readings in an order of its own."""
    start_ms = now_us() // 1_000 - _DAY_MS
    step_ms = _DAY_MS // readings
    orders = []
    for gateway in range(GATEWAYS):
        rng = Random(gateway)
        numbers = [*range(readings), *rng.sample(range(readings), readings // 10)]
        rng.shuffle(numbers)
        orders.append(numbers)
    for first in range(0, len(orders[0]), BATCH):
        for gateway, numbers in enumerate(orders):
            items = ",".join(
                f'{{"sensor":"g{gateway}","time":{start_ms + n * step_ms},"values":{{"replayed":{n}}}}}'
                for n in numbers[first : first + BATCH]
            )
            body = f'{{"gateway":"g{gateway}","readings":[{items}]}}'.encode()
            yield request(address, "/api/v1/readings", body)


async def _replay(address: str, readings: int) -> None:
    async with connected(address, CONNECTIONS) as clients:
        await repeat(clients, _requests(address, readings))


if __name__ == "__main__":
    asyncio.run(_replay(sys.argv[1], int(sys.argv[2])))
