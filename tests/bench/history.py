"""Trends over an hour to a year of one-minute readings of ten series, and the bytes of a reading."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from statistics import median
from time import perf_counter

from app.db.aggregates import OverduePolicies, ensure_aggregates
from app.db.edition import detect_edition
from app.db.pool import Connection
from app.trends.resolution import choose_resolution
from app.trends.sql import SQL
from tests.bench.ingest.load import watched
from tests.bench.report.rows import Row
from tests.bench.report.run import Run

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


async def measure(run: Run) -> AsyncIterator[Row]:
    """Store half a year and measure, then the half year before that and measure again."""
    async with run.database() as dsn, watched(dsn) as connection:
        now = await connection.fetchval("SELECT now()")
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = run.count(YEAR.days + 1, 4)
        await store_days(connection, midnight, now, range(days // 2))
        little = await measure_ranges(connection, now)
        filled_s = await store_days(connection, midnight, now, range(days // 2, days))
        much = await measure_ranges(connection, now)
        stored = await connection.fetchval("SELECT count(*) FROM reading")
        size = await connection.fetchval(SIZE)
        raw_size = await connection.fetchval("SELECT hypertable_size('reading')")
        raw = {name: await time_query(connection, FROM_RAW, now, span, rounds=3) for name, span in RANGES.items()}
    for name in RANGES:
        yield Row(
            name=f"trend of {name}",
            shape=f"{SERIES} series × {days} days of one-minute readings",
            figure=much[name] * 1e3,
            unit="ms",
            beside="half the history",
            beside_figure=little[name] * 1e3,
            note=f"from raw readings {raw[name] * 1e3:.1f} ms",
        )
    yield Row(
        name="stored with all aggregates",
        shape=f"{stored:,} one-minute readings of {SERIES} series",
        figure=size / stored,
        unit="bytes/value",
        note=f"raw readings {raw_size / stored:.0f}, aggregates {(size - raw_size) / stored:.0f}; half of it "
        f"aggregated anew in {filled_s:.0f} s; of 1 y there are twice the buckets once a year is stored, so twice the "
        "time is to be expected",
    )


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


async def measure_ranges(connection: Connection, now: datetime) -> dict[str, float]:
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
        assert rows
    return median(times)
