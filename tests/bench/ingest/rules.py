"""Ingest with the example rules loaded and calm values: the rate, and how far evaluation is behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.db.pool import Connection
from tests.bench.ingest.batches import BATCH, CONNECTIONS
from tests.bench.ingest.load import Load, Stored, store, watched
from tests.bench.processes import Served, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

RULES = Path(__file__).parents[3] / "rules"
UPLOADS = 200
ROUNDS = 2
#: Gateways that take turns, each with sensors of its own: one gateway's uploads do not overtake each other.
GATEWAYS = 20
#: How long evaluation may take to catch up before the row says so.
CATCH_UP_LIMIT_S = 60.0
_LOOK_EVERY_S = 0.05


class Evaluation:
    """How far the evaluation of rules is behind: the age of the oldest row in `dirty`."""

    def __init__(self, database: Connection) -> None:
        self._database = database
        #: When each newest id was first seen.
        self._seen: list[tuple[float, int]] = []
        self.lag_s = 0.0
        self.most_lag_s = 0.0

    async def look(self) -> None:
        """Look at the table once."""
        row = await self._database.fetchrow("SELECT min(id) AS oldest, max(id) AS newest FROM dirty")
        now = time.monotonic()
        if row is None or row["oldest"] is None:
            self._seen, self.lag_s = [], 0.0
            return
        self._seen = [each for each in self._seen if each[1] >= row["oldest"]] or [(now, row["newest"])]
        if row["newest"] > self._seen[-1][1]:
            self._seen.append((now, row["newest"]))
        self.lag_s = now - self._seen[0][0]
        self.most_lag_s = max(self.most_lag_s, self.lag_s)

    async def follow(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def catch_up(self) -> float:
        """Return the seconds until nothing is left to evaluate; CATCH_UP_LIMIT_S when it takes longer."""
        started = time.monotonic()
        await self.look()
        while self._seen and time.monotonic() - started < CATCH_UP_LIMIT_S:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self.look()
        return time.monotonic() - started


@asynccontextmanager
async def followed(dsn: str) -> AsyncIterator[Evaluation]:
    """Follow the evaluation on a connection of its own for as long as the block lasts."""
    async with watched(dsn) as connection:
        evaluation = Evaluation(connection)
        task = asyncio.create_task(evaluation.follow())
        try:
            yield evaluation
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def begin(server: Served, database: Connection, part: tuple[int, int]) -> None:
    """Send one upload of each gateway and wait until it is evaluated: the first readings of a series cost more."""
    await store(server, Load(BATCH, GATEWAYS, GATEWAYS, part=part), CONNECTIONS, database)
    await Evaluation(database).catch_up()


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield rows for the full rate and for half of it."""
    parts = ROUNDS + 2
    plain: list[Stored] = []
    ruled: list[Stored] = []
    lags: list[tuple[float, float]] = []
    async with (
        run.database() as dsn,
        run.database() as ruled_dsn,
        served(dsn) as server,
        served(ruled_dsn, RULES_DIR=str(RULES)) as ruled_server,
        watched(dsn) as database,
        watched(ruled_dsn) as ruled_database,
    ):
        await begin(server, database, (0, parts))
        await begin(ruled_server, ruled_database, (0, parts))
        for number in range(1, ROUNDS + 1):
            load = Load(BATCH, run.count(UPLOADS, 4), GATEWAYS, part=(number, parts))
            plain.append(await store(server, load, CONNECTIONS, database))
            async with followed(ruled_dsn) as evaluation:
                ruled.append(await store(ruled_server, load, CONNECTIONS, ruled_database))
                lag_s = evaluation.lag_s
            lags.append((lag_s, await Evaluation(ruled_database).catch_up()))
        ratios = [with_rules.per_second / without.per_second for with_rules, without in zip(ruled, plain, strict=True)]
        middle = ratios.index(sorted(ratios)[ROUNDS // 2])
        shape = (
            f"{BATCH.series} × {BATCH.readings} in an upload of one of {GATEWAYS} gateways, {CONNECTIONS} connections, "
            f"{load.values:,} values"
        )
        yield Row(
            name="example rules, calm values",
            shape=f"{shape}, {ROUNDS} rounds",
            figure=ruled[middle].per_second,
            unit="values/s",
            beside="without rules",
            beside_figure=plain[middle].per_second,
            goal=Goal("≥", 0.85),
            p99_ms=ruled[middle].p99_ms,
            lag_s=max(lag for lag, _ in lags),
            catch_up_s=max(caught_up for _, caught_up in lags),
            api_cpu_s=ruled[middle].api_cpu_s,
            database_cpu_s=ruled[middle].database_cpu_s,
            wal_bytes=ruled[middle].wal_bytes,
            peak_mb=ruled_server.peak_mb(),
            note=f"worker {ruled[middle].worker_cpu_s:.2f} s of CPU a million while ingest ran; "
            f"uploads refused with 503 and sent again: {sum(each.refused for each in ruled)}",
        )
        yield Row(
            name="example rules: p99 of a request",
            shape=shape,
            figure=ruled[middle].p99_ms,
            unit="ms",
            beside="without rules",
            beside_figure=plain[middle].p99_ms,
            goal=Goal("≤", 2.0),
        )
        half = plain[middle].per_second / 2
        load = Load(BATCH, run.count(UPLOADS, 4), GATEWAYS, part=(ROUNDS + 1, parts))
        async with followed(ruled_dsn) as evaluation:
            stored = await store(ruled_server, load, CONNECTIONS, ruled_database, half)
        yield Row(
            name="example rules at half the rate: most lag",
            shape=f"{BATCH.series} × {BATCH.readings} in an upload, {half:,.0f} values/s, {load.values:,} values",
            figure=evaluation.most_lag_s,
            unit="s",
            goal=Goal("≤", 2.0),
            p99_ms=stored.p99_ms,
            api_cpu_s=stored.api_cpu_s,
            database_cpu_s=stored.database_cpu_s,
            wal_bytes=stored.wal_bytes,
            peak_mb=ruled_server.peak_mb(),
        )
