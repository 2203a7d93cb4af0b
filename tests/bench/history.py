"""Trends over an hour to a year of one-minute readings of ten series on each edition, and the bytes of a reading.

Apache-2 runs on an embedded server; Community runs as well where DATABASE_URL names such a server.
"""

import os
from datetime import datetime, timedelta
from statistics import median
from time import perf_counter

from app.db.aggregates import OverduePolicies, ensure_aggregates
from app.db.edition import detect_edition
from app.db.pool import Connection, connect
from app.trends.resolution import choose_resolution
from app.trends.sql import SQL
from tests.bench.database import fresh_database

SERIES = 10
YEAR = timedelta(days=365)
RANGES = {"1 h": timedelta(hours=1), "1 d": timedelta(days=1), "30 d": timedelta(days=30), "1 y": YEAR}
POINTS = 500
ROUNDS = 50
#: The best of so many medians: another process that is busy for a second must not decide.
REPEATS = 3
#: Random walks, so that the columnstore has something to compress as real readings have.
INSERT_DAY = """
INSERT INTO reading (series_id, time, value)
SELECT series_id, time, round((20 + series_id + 5 * sin(extract(epoch FROM time) / 14000) + random())::numeric, 2)
  FROM generate_series(1, $1::int) AS series_id,
       generate_series($2::timestamptz, $2::timestamptz + INTERVAL '1 day' - INTERVAL '1 minute', '1 minute') AS time
 WHERE time <= $3
 ORDER BY series_id, time
"""
#: The same trend without any aggregate.
FROM_RAW = """
SELECT time_bucket($2::interval, time) AS time, avg(value), min(value), max(value), count(*),
       first(value, time), last(value, time)
  FROM reading
 WHERE series_id = ANY($1) AND time >= time_bucket($2, $3::timestamptz) AND time < $4
 GROUP BY 1
 ORDER BY 1
"""
SIZE = """
SELECT sum(hypertable_size(format('%I.%I', schema_name, table_name)::regclass))::float8
  FROM _timescaledb_catalog.hypertable
"""


async def main() -> None:
    """Print the medians of each edition with half a year and a year stored, their ratios, and bytes per reading."""
    servers = [None, os.environ["DATABASE_URL"]] if "DATABASE_URL" in os.environ else [None]
    for server in servers:
        async with fresh_database(server) as dsn:
            connection = await connect(dsn, idle_in_transaction_session_timeout="0")
            await measure_edition(connection)
            await connection.close()


async def measure_edition(connection: Connection) -> None:
    """Store half a year and measure, then the half year before that and measure again."""
    edition = await detect_edition(connection)
    now = await connection.fetchval("SELECT now()")
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    half, whole = (YEAR.days + 1) // 2, YEAR.days + 1
    await store_days(connection, midnight, now, range(half))
    little = await measure(connection, now)
    filled_s = await store_days(connection, midnight, now, range(half, whole))
    much = await measure(connection, now)
    raw = {name: await time_query(connection, FROM_RAW, now, span, rounds=3) for name, span in RANGES.items()}
    stored = await connection.fetchval("SELECT count(*) FROM reading")
    print(f"history: {stored:,} one-minute readings of {SERIES} series on {edition}")
    for name in RANGES:
        print(
            f"  trend of {name}: {much[name] * 1e3:.1f} ms, {much[name] / little[name]:.2f} times that of half the "
            f"history; from raw readings {raw[name] * 1e3:.1f} ms"
        )
    size = await connection.fetchval(SIZE)
    print("  a trend of 1 y has twice the buckets once a year is stored, so twice the time is what to expect of it")
    print(f"  {size / stored:.0f} bytes a reading with all aggregates; a year is aggregated anew in {filled_s:.0f} s")


async def store_days(connection: Connection, midnight: datetime, now: datetime, days: range) -> float:
    """Store readings of so many days ago, bring aggregates and columnstore up to date; return the seconds it took."""
    for number in days:
        await connection.execute(INSERT_DAY, SERIES, midnight - timedelta(days=number), now, timeout=60)
    started = perf_counter()
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    await ensure_aggregates(connection)
    seconds = perf_counter() - started
    if await detect_edition(connection) == "community":
        await connection.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
        policies = OverduePolicies()
        await policies.run(connection)
        while policies.errors:  # TimescaleDB was trying the same
            await policies.run(connection)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    return seconds


async def measure(connection: Connection, now: datetime) -> dict[str, float]:
    """Return the median time of each range, in seconds, as the real query takes it on one connection."""
    medians: dict[str, list[float]] = {name: [] for name in RANGES}
    for _ in range(REPEATS):
        for name, span in RANGES.items():
            sql = SQL[choose_resolution(span, POINTS).query]
            medians[name].append(await time_query(connection, sql, now, span, ROUNDS))
    return {name: min(found) for name, found in medians.items()}


async def time_query(connection: Connection, sql: str, now: datetime, span: timedelta, rounds: int) -> float:
    """Return the median time of a query over each series in turn, in seconds."""
    width = choose_resolution(span, POINTS).width
    times = []
    for number in range(rounds):
        started = perf_counter()
        rows = await connection.fetch(sql, [number % SERIES + 1], width, now - span, now)
        times.append(perf_counter() - started)
        assert len(rows) >= min(span / width, YEAR.days // 2)
    return median(times)


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
