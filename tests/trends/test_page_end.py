"""Pages of readings of many series: the same as from one query over the whole range, for the price of a page."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from asyncpg import Record

from app.clock import to_us
from app.db.pool import Connection
from app.trends.page_end import Range, find_page_end
from app.trends.sql import SQL
from tests.conftest import Database

START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=2)
SENSORS = 30
#: Rows of chunks that this transaction has read so far.
ROWS_READ = """
SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int FROM pg_stat_xact_user_tables WHERE relname LIKE '%_chunk'
"""
INSERT_SERIES = """
WITH new AS (
    INSERT INTO sensor (name, created_by) SELECT 's' || n, 'test' FROM generate_series(1, $1) AS n RETURNING id
)
INSERT INTO series (sensor_id, metric) SELECT new.id, metric FROM new, unnest($2::text[]) AS metric RETURNING id
"""
EVEN_SENSORS = "SELECT id FROM sensor WHERE id % 2 = 0"
INSERT_READINGS = "INSERT INTO reading SELECT $1, time, 1 FROM unnest($2::timestamptz[]) AS time"
INSERT_DENSE = """
INSERT INTO reading SELECT $1, $2::timestamptz + n * INTERVAL '1 second', 1 FROM generate_series(1, $3) AS n
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection to the test's database, in a transaction."""
    async with database.pool.acquire() as connection, connection.transaction():
        yield connection


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
async def test_pages_hold_every_reading_once_and_in_order_when_series_are_of_all_densities(
    connection: Connection, seed: int
) -> None:
    random = Random(seed)
    ids = [row["id"] for row in await connection.fetch(INSERT_SERIES, SENSORS, ["t", "h"])]
    for series_id in ids:
        count = random.choice([0, 1, 3, 20, 200])
        width = random.choice([60, 3_600, 86_400])
        first = random.choice([0, 3_600, 86_400])
        # Whole seconds, so that many readings have the same time.
        seconds = {first + random.randrange(width) for _ in range(count)}
        await connection.execute(INSERT_READINGS, series_id, [START + timedelta(seconds=each) for each in seconds])
    whole = Range(None, None, START, END, START, -1)
    everything = [_key(row) for row in await connection.fetch(SQL["list_readings"], *whole, 100_000)]
    assert len(everything) > 500
    for limit in (1, 7, 61, 10_000):
        assert await _read_all(connection, whole, limit) == everything, limit
    of_some = whole._replace(sensor_ids=[row["id"] for row in await connection.fetch(EVEN_SENSORS)], metrics=["t"])
    expected = [_key(row) for row in await connection.fetch(SQL["list_readings"], *of_some, 100_000)]
    assert await _read_all(connection, of_some, 13) == expected


async def test_page_ends_with_the_range_when_there_are_no_series_or_no_readings(connection: Connection) -> None:
    wanted = Range(None, None, START, END, START, -1)
    assert await find_page_end(connection, wanted, 10) == END
    await connection.execute(INSERT_SERIES, SENSORS, ["t"])
    assert await find_page_end(connection, wanted, 10) == END


async def test_page_reads_about_as_many_rows_as_it_has_when_few_series_are_dense_and_many_sparse(
    connection: Connection,
) -> None:
    ids = [row["id"] for row in await connection.fetch(INSERT_SERIES, 100, ["t"])]
    for series_id in ids[:20]:
        await connection.execute(INSERT_DENSE, series_id, START, 2_000)
    for series_id in ids[20:]:
        await connection.execute(INSERT_READINGS, series_id, [START + timedelta(hours=30)])
    before = await connection.fetchval(ROWS_READ)
    wanted = Range(None, None, START, END, START, -1)
    end = await find_page_end(connection, wanted, 101)
    rows = await connection.fetch(SQL["list_readings"], *wanted._replace(end=end), 101)
    assert len(rows) == 101
    # With the first 101 rows of each series, it would be 2,100.
    assert await connection.fetchval(ROWS_READ) - before < 900


async def _read_all(connection: Connection, wanted: Range, limit: int) -> list[tuple[int, int, str]]:
    """Read page after page, as the route does."""
    read: list[tuple[int, int, str]] = []
    while True:
        end = await find_page_end(connection, wanted, limit + 1)
        rows = await connection.fetch(SQL["list_readings"], *wanted._replace(end=end), limit + 1)
        read += [_key(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return read
        last = rows[limit - 1]
        after = START + timedelta(microseconds=last["time_us"] - to_us(START))
        wanted = wanted._replace(after=after, after_sensor=last["sensor_id"])


def _key(row: Record) -> tuple[int, int, str]:
    return row["time_us"], row["sensor_id"], str(row["values"])
