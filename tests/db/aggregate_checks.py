"""Checks of the aggregates on every edition: they must equal a plain query over the raw readings."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from app.db.pool import Connection

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WIDTHS = {"reading_1m": MINUTE, "reading_1h": HOUR, "reading_1d": DAY}
#: Without time_bucket, first and last, so that TimescaleDB is not compared with itself.
RAW = """
SELECT date_bin($1, time, '2000-01-03T00:00:00Z') AS bucket, series_id, count(*) AS n, sum(value) AS sum,
       min(value) AS min, max(value) AS max,
       (array_agg(value ORDER BY time))[1] AS first, (array_agg(value ORDER BY time DESC))[1] AS last
  FROM reading GROUP BY 1, 2 ORDER BY 2, 1
"""
AGGREGATED = "SELECT bucket, series_id, n, sum, min, max, first, last FROM {relation} ORDER BY series_id, bucket"
Rows = Sequence[tuple[int, datetime, float]]


def make_rows(now: datetime, seed: int = 1, days: int = 40) -> Rows:
    """Make readings of three series over the days before `now`, some of them exactly on the edges of buckets."""
    random = Random(seed)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = [midnight - number * DAY + hour * HOUR for number in range(1, days) for hour in (0, 7, 9)]
    times = {now - random.random() * days * DAY for _ in range(900)} | set(random.sample(edges, 40))
    return [(random.randint(1, 3), time.replace(tzinfo=UTC), random.gauss(20, 5)) for time in sorted(times)]


async def store(connection: Connection, rows: Rows) -> None:
    """Store readings without COPY, which not every test server supports."""
    series, times, values = (list(column) for column in zip(*rows, strict=True))
    await connection.execute(
        "INSERT INTO reading SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::float8[]) ON CONFLICT DO NOTHING",
        series,
        times,
        values,
    )


async def check_aggregates(connection: Connection) -> None:
    """Compare every bucket of every level with the raw readings."""
    for relation, width in WIDTHS.items():
        raw = await connection.fetch(RAW, width)
        aggregated = await connection.fetch(AGGREGATED.format(relation=relation))
        assert raw
        assert [_rounded(row) for row in aggregated] == [_rounded(row) for row in raw], relation
        assert all(type(row["n"]) is int for row in aggregated)


async def read_hours(connection: Connection) -> list[tuple[object, ...]]:
    """Read all hours, to be compared with hours read later."""
    return [_rounded(row) for row in await connection.fetch(AGGREGATED.format(relation="reading_1h"))]


async def count_values(connection: Connection) -> list[int]:
    """Return the number of readings in each level."""
    counts = [f"(SELECT coalesce(sum(n), 0)::bigint FROM {relation})" for relation in WIDTHS]
    row = await connection.fetchrow(f"SELECT {', '.join(counts)}")
    return list(row or ())


def _rounded(row: asyncpg.Record) -> tuple[object, ...]:
    """Return a bucket whose sum is compared approximately, because another order of addition rounds differently."""
    bucket, series_id, n, total, *rest = row.values()
    return bucket, series_id, n, pytest.approx(total, rel=1e-12), *rest
