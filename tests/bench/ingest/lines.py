"""Batches of 5,000 in Influx line protocol beside the same batches as JSON, in turn."""

from collections.abc import AsyncIterator

from tests.bench.ingest.batches import BATCH, CONNECTIONS
from tests.bench.ingest.load import Load, Stored, store, watched
from tests.bench.processes import served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

UPLOADS = 200
ROUNDS = 3


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the row of the middle round."""
    rounds: list[tuple[Stored, Stored]] = []
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        for number in range(ROUNDS):
            loads = [Load(BATCH, run.count(UPLOADS, 4), part=(2 * number + half, 2 * ROUNDS)) for half in (0, 1)]
            as_json = await store(server, loads[0], CONNECTIONS, database)
            as_lines = await store(server, loads[1], CONNECTIONS, database, form="lines")
            rounds.append((as_lines, as_json))
    lines, json = sorted(rounds, key=lambda each: each[0].per_second / each[1].per_second)[ROUNDS // 2]
    yield Row(
        name="line protocol",
        shape=f"{BATCH.series} × {BATCH.readings} in an upload, {CONNECTIONS} connections, {loads[0].values:,} values, "
        f"{ROUNDS} rounds, the middle one",
        figure=lines.per_second,
        unit="values/s",
        beside="the same as JSON",
        beside_figure=json.per_second,
        goal=Goal("≥", 1.0),
        p99_ms=lines.p99_ms,
        api_cpu_s=lines.api_cpu_s,
        database_cpu_s=lines.database_cpu_s,
        wal_bytes=lines.wal_bytes,
        note=f"JSON: {json.api_cpu_s:.2f} s of CPU of the API a million",
    )
