"""Ingest without rules beside one session's COPY; small batches and repeated ones beside large and new ones."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from app.db.pool import Connection
from tests.bench.ingest.load import EQUAL_TABLE, Copied, Load, Shape, Stored, copy, store, watched
from tests.bench.processes import Served, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

BATCH = Shape(series=50, readings=100)
CONNECTIONS = 8
UPLOADS = 200
ROUNDS = 3
#: Uploads of 100 values: their shape, connections, uploads, and the least ratio to those of 5,000 values.
SMALL = (
    (Shape(series=10, readings=10), 64, 3_000, 0.5),
    (Shape(series=10, readings=10), 8, 600, None),
    (Shape(series=100, readings=1), 8, 600, None),
)
#: Uploads of one transaction of the COPY: 10,000 rows, as a flush under this load has.
UPLOADS_TOGETHER = 2


class Round(NamedTuple):
    """One load stored by COPY and over HTTP."""

    copied: Copied
    stored: Stored

    @property
    def ratio(self) -> float:
        """Return the rate over HTTP divided by that of the COPY."""
        return self.stored.per_second / self.copied.per_second


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the rows."""
    async with run.database() as dsn, served(dsn) as server, watched(dsn) as database:
        await database.execute(EQUAL_TABLE)
        parts = ROUNDS + len(SMALL)
        rounds = []
        for number in range(ROUNDS):
            load = Load(BATCH, run.count(UPLOADS, 4), part=(number, parts))
            copied = await copy(dsn, load, UPLOADS_TOGETHER, database)
            rounds.append(Round(copied, await store(server, load, CONNECTIONS, database)))
        middle = sorted(rounds, key=lambda each: each.ratio)[ROUNDS // 2]
        shape = f"{BATCH.series} × {BATCH.readings} in an upload, {CONNECTIONS} connections, {load.values:,} values"
        yield Row(
            name="no rules",
            shape=f"{shape}, {ROUNDS} rounds, the middle one",
            figure=middle.stored.per_second,
            unit="values/s",
            beside="COPY of 10,000 rows a transaction",
            beside_figure=middle.copied.per_second,
            goal=Goal("≥", 0.8),
            p99_ms=middle.stored.p99_ms,
            api_cpu_s=middle.stored.api_cpu_s,
            database_cpu_s=middle.stored.database_cpu_s,
            wal_bytes=middle.stored.wal_bytes,
            peak_mb=server.peak_mb(),
        )
        for row in _cpu_rows(middle, shape):
            yield row
        yield await _send_again(server, load, database, middle.stored, shape)
        for number in range(len(SMALL)):
            yield await _send_small(server, run, database, middle.stored, number)


def _cpu_rows(middle: Round, shape: str) -> list[Row]:
    """Return the CPU time of the round as rows, because it has goals of its own."""
    api = Row(
        name="no rules: CPU of the API",
        shape=shape,
        figure=middle.stored.api_cpu_s,
        unit="s a million",
        goal=Goal("≤", 1.3),
    )
    if middle.stored.database_cpu_s is None or middle.copied.cpu_s is None:
        return [api]
    database = Row(
        name="no rules: CPU of the database",
        shape=shape,
        figure=middle.stored.database_cpu_s,
        unit="s a million",
        beside="that COPY",
        beside_figure=middle.copied.cpu_s,
        goal=Goal("≤", 1.3),
    )
    return [api, database]


async def _send_again(server: Served, load: Load, database: Connection, first: Stored, shape: str) -> Row:
    again = await store(server, load, CONNECTIONS, database)
    return Row(
        name="the same batches again",
        shape=shape,
        figure=again.per_second,
        unit="values/s",
        beside="the first sending",
        beside_figure=first.per_second,
        goal=Goal("≥", 0.5),
        p99_ms=again.p99_ms,
        api_cpu_s=again.api_cpu_s,
        database_cpu_s=again.database_cpu_s,
        wal_bytes=again.wal_bytes,
        peak_mb=server.peak_mb(),
    )


async def _send_small(server: Served, run: Run, database: Connection, large: Stored, number: int) -> Row:
    shape, connections, uploads, least = SMALL[number]
    load = Load(shape, run.count(uploads, connections), part=(ROUNDS + number, ROUNDS + len(SMALL)))
    small = await store(server, load, connections, database)
    return Row(
        name=f"batches of {shape.series} × {shape.readings}, {connections} at a time",
        shape=f"{shape.series} × {shape.readings} in an upload, {connections} connections, {load.values:,} values",
        figure=small.per_second,
        unit="values/s",
        beside="batches of 5,000",
        beside_figure=large.per_second,
        goal=None if least is None else Goal("≥", least),
        p99_ms=small.p99_ms,
        api_cpu_s=small.api_cpu_s,
        database_cpu_s=small.database_cpu_s,
        wal_bytes=small.wal_bytes,
        peak_mb=server.peak_mb(),
    )
