"""Ingest with a hundred times the history and with a hundred times the series; and one reading of each of 10,000."""

from collections.abc import AsyncIterator
from statistics import median
from time import perf_counter

import aiohttp

from app.db.pool import Connection
from tests.bench.ingest.batches import BATCH, CONNECTIONS
from tests.bench.ingest.load import Load, Shape, Stored, store, watched
from tests.bench.ingest.rules import RULES, Evaluation
from tests.bench.processes import API_KEY, Served, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

UPLOADS = 20
TIMES = 100
TREND_REQUESTS = 40
WIDE, NARROW = Shape(series=10_000, readings=1), Shape(series=170, readings=59)
WIDE_UPLOADS = 40
MORE_SERIES_UPLOADS = 100
#: Two readings a minute back from yesterday, for each of the series.
FILL = """
INSERT INTO reading (series_id, time, value)
SELECT id, now() - INTERVAL '1 day' - i * INTERVAL '30 seconds', 20 + i % 7 * 0.01
  FROM generate_series($1::int, $2::int) AS i, series
 WHERE id <= $3
 ORDER BY i DESC, id
"""
FILL_STEP = 20_000


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the rows."""
    async with run.database() as dsn, served(dsn, RULES_DIR=str(RULES)) as server, watched(dsn) as database:
        async for row in _more_history(run, server, database):
            yield row
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        async for row in _more_series(run, server, database):
            yield row


async def _more_history(run: Run, server: Served, database: Connection) -> AsyncIterator[Row]:
    load = Load(BATCH, run.count(UPLOADS, 4), part=(0, 2))
    before = await _store_and_evaluate(server, load, database)
    trend_before = await _trend_ms(server)
    per_series = TIMES * load.values // BATCH.series
    for first in range(1, per_series + 1, FILL_STEP):
        last = min(first + FILL_STEP - 1, per_series)
        await database.execute(FILL, first, last, BATCH.series, timeout=120)
    # So that autovacuum after the bulk insert does not slow down what is measured next.
    await database.execute("VACUUM (ANALYZE) reading", timeout=120)
    after = await _store_and_evaluate(server, Load(BATCH, load.uploads, part=(1, 2)), database)
    shape = (
        f"{BATCH.series} × {BATCH.readings} in an upload, {CONNECTIONS} connections, {load.values:,} values, example "
        f"rules, {per_series * BATCH.series:,} values stored before"
    )
    yield Row(
        name=f"{TIMES} × the history: ingest",
        shape=shape,
        figure=after[0].per_second,
        unit="values/s",
        beside="little history",
        beside_figure=before[0].per_second,
        goal=Goal("≥", 0.8),
        p99_ms=after[0].p99_ms,
        catch_up_s=after[1],
        api_cpu_s=after[0].api_cpu_s,
        database_cpu_s=after[0].database_cpu_s,
        wal_bytes=after[0].wal_bytes,
        peak_mb=server.peak_mb(),
    )
    yield Row(
        name=f"{TIMES} × the history: all evaluated",
        shape=shape,
        figure=load.values / (load.values / after[0].per_second + after[1]),
        unit="values/s",
        beside="little history",
        beside_figure=load.values / (load.values / before[0].per_second + before[1]),
        goal=Goal("≥", 0.8),
    )
    yield Row(
        name=f"{TIMES} × the history: trend of an hour",
        shape=f"GET /api/v1/trends, median of {TREND_REQUESTS}",
        figure=await _trend_ms(server),
        unit="ms",
        beside="little history",
        beside_figure=trend_before,
        goal=Goal("≤", 1.25),
    )


async def _store_and_evaluate(server: Served, load: Load, database: Connection) -> tuple[Stored, float]:
    """Return what storing took, and the seconds until all was evaluated."""
    stored = await store(server, load, CONNECTIONS, database)
    return stored, await Evaluation(database).catch_up()


async def _trend_ms(server: Served) -> float:
    times = []
    async with aiohttp.ClientSession(server.address, headers={"X-API-Key": API_KEY}) as http:
        for number in range(TREND_REQUESTS):
            asked = {"sensor": f"s{number % BATCH.series}", "metric": "temperature", "from": "-1h", "points": "60"}
            started = perf_counter()
            async with http.get("/api/v1/trends", params=asked) as response:
                assert response.status == 200, await response.text()
                await response.read()
            times.append((perf_counter() - started) * 1e3)
    return median(times)


async def _more_series(run: Run, server: Served, database: Connection) -> AsyncIterator[Row]:
    uploads = run.count(MORE_SERIES_UPLOADS, 4)
    few = await store(server, Load(BATCH, uploads, part=(0, 4)), CONNECTIONS, database)
    # So that the first sight of each series is not part of what is measured.
    await store(server, Load(Shape(TIMES * BATCH.series, 1), 1, part=(1, 4)), 1, database)
    many = await store(server, Load(BATCH, uploads, TIMES, part=(2, 4)), CONNECTIONS, database)
    yield _row(
        f"{TIMES} × the series",
        f"{BATCH.series} × {BATCH.readings} in an upload, {TIMES * BATCH.series:,} series in turn, {CONNECTIONS} "
        f"connections, {uploads * BATCH.values:,} values",
        (many, few),
        f"{BATCH.series} series",
        0.8,
        server,
    )
    narrow = await store(server, Load(NARROW, run.count(WIDE_UPLOADS, 2), part=(3, 4)), CONNECTIONS, database)
    await store(server, Load(WIDE, 1, part=(3, 5)), 1, database)
    wide = await store(server, Load(WIDE, run.count(WIDE_UPLOADS, 2), part=(4, 5)), CONNECTIONS, database)
    yield _row(
        "one reading of each of 10,000 series",
        f"{WIDE.series:,} × {WIDE.readings} in an upload, {CONNECTIONS} connections, "
        f"{run.count(WIDE_UPLOADS, 2) * WIDE.values:,} values",
        (wide, narrow),
        f"{NARROW.series} × {NARROW.readings}",
        0.3,
        server,
    )


def _row(name: str, shape: str, measured: tuple[Stored, Stored], beside: str, least: float, server: Served) -> Row:
    ours, other = measured
    return Row(
        name=name,
        shape=shape,
        figure=ours.per_second,
        unit="values/s",
        beside=beside,
        beside_figure=other.per_second,
        goal=Goal("≥", least),
        p99_ms=ours.p99_ms,
        api_cpu_s=ours.api_cpu_s,
        database_cpu_s=ours.database_cpu_s,
        wal_bytes=ours.wal_bytes,
        peak_mb=server.peak_mb(),
    )
