"""The aggregates on TimescaleDB Community: filled, refreshed, rebuilt, and replacing those of the other edition."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.db.aggregates import RAW_RETENTION, ensure_aggregates, refresh_day, refresh_late_days, roll_up
from app.db.aggregates.roll_up import create_views
from app.db.aggregates.sql import read_script
from app.db.edition import detect_edition
from app.db.migrations import load_migrations, migrate
from app.db.pool import Connection, connect, open_pool
from tests.db.aggregate_checks import (
    DAY,
    HOUR,
    MINUTE,
    WIDTHS,
    check_aggregates,
    count_values,
    make_rows,
    read_hours,
    store,
)

#: One worker runs all tests of this module, so that they share one server.
pytestmark = pytest.mark.xdist_group("community")

#: The WebAssembly server always; also the real server of DATABASE_URL if that is set.
SERVERS = ["wasm", "native"] if os.environ.get("DATABASE_URL") else ["wasm"]
NAMES = [migration.name for migration in load_migrations()]
WATERMARK = """
SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id))
  FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = current_schema() AND user_view_name = $1
"""
JOBS = """
SELECT proc_name, coalesce(view_name, job.hypertable_name) AS relation, schedule_interval,
       config ->> 'start_offset' AS start_offset, config ->> 'end_offset' AS end_offset,
       coalesce(config ->> 'drop_after', config ->> 'compress_after') AS after,
       config ->> 'buckets_per_batch' AS buckets_per_batch
  FROM timescaledb_information.jobs AS job
  LEFT JOIN timescaledb_information.continuous_aggregates AS aggregate
    ON materialization_hypertable_schema = job.hypertable_schema
   AND materialization_hypertable_name = job.hypertable_name
 WHERE job.hypertable_schema = current_schema() OR view_schema = current_schema()
 ORDER BY 1, 2
"""


class RebuildInterruptedError(Exception):
    """Ends a rebuild before it is complete, like the end of the process."""


@pytest.fixture(params=SERVERS)
async def dsn(request: pytest.FixtureRequest, community_dsn: str) -> AsyncIterator[str]:
    """The address of an empty database on a Community server, or of an empty schema on the WebAssembly server."""
    empty = _schema(community_dsn) if request.param == "wasm" else _database(os.environ["DATABASE_URL"])
    async with empty as dsn:
        connection = await connect(dsn)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        edition = await detect_edition(connection)
        if request.param == "native":
            # A policy that runs between two steps of a test would hide what the test has not refreshed yet.
            await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        await connection.close()
        if edition != "community":
            pytest.skip("DATABASE_URL names an Apache-2 server; the WebAssembly server tests the same SQL")
        yield dsn


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    """The only connection to a migrated database."""
    await migrate(dsn)
    connection = await connect(dsn)
    yield connection
    await connection.close()


async def test_database_is_unchanged_when_migrated_again(dsn: str) -> None:
    assert await migrate(dsn) == [*NAMES, "aggregates"]
    assert await migrate(dsn) == []
    async with await open_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        assert await detect_edition(connection) == "community"
        assert await ensure_aggregates(connection) is False


async def test_policies_exist_for_each_level_when_migrated(connection: Connection) -> None:
    rows = [tuple(row) for row in await connection.fetch(JOBS)]
    refresh = "policy_refresh_continuous_aggregate"
    assert [row for row in rows if row[0] == refresh] == [
        (refresh, "reading_1d", HOUR, "30 days", "2 days", None, "0"),
        (refresh, "reading_1h", timedelta(minutes=15), "7 days", "02:00:00", None, "0"),
        (refresh, "reading_1m", MINUTE, "1 day", "00:02:00", None, "0"),
    ]
    assert [(row[0], row[1], row[5]) for row in rows if row[0] != refresh] == [
        ("policy_compression", "reading", "7 days"),
        ("policy_compression", "reading_1m", "30 days"),
        ("policy_retention", "reading", "400 days"),
        ("policy_retention", "reading_1m", "800 days"),
    ]


async def test_aggregates_agree_with_raw_readings_when_none_part_or_all_is_materialised(
    connection: Connection,
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await check_aggregates(connection)
    for days_ago in range(40, 18, -1):
        await refresh_day(connection, (now - days_ago * DAY).date(), now)
    await check_aggregates(connection)
    for days_ago in range(40, -1, -1):
        await refresh_day(connection, (now - days_ago * DAY).date(), now)
    await check_aggregates(connection)
    assert await connection.fetchval(WATERMARK, "reading_1d") <= now - 2 * DAY


async def test_fresh_readings_are_visible_at_once_when_all_earlier_data_are_materialised(
    connection: Connection,
) -> None:
    now = datetime.now(UTC)
    await store(connection, [(1, now - 3 * DAY, 1.0)])
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    assert await ensure_aggregates(connection) is True
    await store(connection, [(1, now, 2.0), (1, now - 90 * timedelta(seconds=1), 3.0)])
    assert await count_values(connection) == [3, 3, 3]
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0


async def test_late_readings_become_visible_in_every_level_when_their_days_are_refreshed(
    connection: Connection,
) -> None:
    now = datetime.now(UTC)
    await _store_and_rebuild(connection, now)
    before = await count_values(connection)
    # At the start of an hour, at the start of a day, within a day, and on a day without readings.
    midnight = datetime.combine(now.date(), time(), tzinfo=UTC)
    late = [midnight - 20 * DAY + 7 * HOUR, midnight - 20 * DAY + 9 * HOUR, midnight - 12 * DAY, midnight - 11 * DAY]
    late += [midnight - 12 * DAY + 11 * HOUR + 7 * MINUTE, midnight - 50 * DAY + MINUTE]
    for series_id in (1, 4):
        await store(connection, [(series_id, at, 1000.0) for at in late])
    assert await count_values(connection) == before
    touched = sorted({at.date() for at in late})
    await connection.executemany("INSERT INTO late_day (day) VALUES ($1)", [(day,) for day in [*touched, *touched]])
    assert await refresh_late_days(connection, now) == 4
    await check_aggregates(connection)
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0
    assert await refresh_late_days(connection, now) == 0


async def test_real_time_part_is_not_materialised_when_today_is_refreshed(
    connection: Connection,
) -> None:
    now = datetime(2026, 1, 31, 8, 30, 30, tzinfo=UTC)
    await store(connection, [(1, now - 5 * HOUR, 1.0), (1, now - 3 * MINUTE, 2.0), (1, now, 3.0)])
    await refresh_day(connection, date(2026, 1, 31), now)
    assert await connection.fetchval(WATERMARK, "reading_1m") == datetime(2026, 1, 31, 8, 28, tzinfo=UTC)
    assert await connection.fetchval(WATERMARK, "reading_1h") == datetime(2026, 1, 31, 4, tzinfo=UTC)
    await store(connection, [(1, now - MINUTE, 4.0), (1, now + MINUTE, 5.0)])
    await check_aggregates(connection)


async def test_late_days_are_kept_and_refreshed_later_when_a_refresh_fails(connection: Connection) -> None:
    now = datetime.now(UTC)
    await _store_and_rebuild(connection, now)
    await store(connection, [(1, now - 20 * DAY, 1000.0)])
    await connection.execute("INSERT INTO late_day (day) VALUES ($1)", (now - 20 * DAY).date())
    async with connection.transaction():
        with pytest.raises(asyncpg.ActiveSQLTransactionError):
            await refresh_late_days(connection, now)
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 1
    assert await refresh_late_days(connection, now) == 1
    await check_aggregates(connection)


async def test_late_before_is_the_newest_watermark_when_part_is_materialised(connection: Connection) -> None:
    late_before = "SELECT late_before()"
    now = await connection.fetchval("SELECT now()")
    assert abs(await connection.fetchval(late_before) - (now - HOUR)) < MINUTE
    await store(connection, [(1, now - 3 * DAY, 1.0), (1, now - 4 * MINUTE, 2.0)])
    for days_ago in range(3, -1, -1):
        await refresh_day(connection, (now - days_ago * DAY).date(), now)
    assert timedelta() < now - await connection.fetchval(late_before) < 5 * MINUTE


async def test_rebuild_is_repeated_when_it_was_interrupted(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")

    def interrupt(done: int, _total: int) -> None:
        if done == 7:
            raise RebuildInterruptedError

    with pytest.raises(RebuildInterruptedError):
        await ensure_aggregates(connection, interrupt)
    progress: list[tuple[int, int]] = []
    assert await ensure_aggregates(connection, lambda done, total: progress.append((done, total))) is True
    assert progress in ([(number, 41) for number in range(1, 42)], [(number, 40) for number in range(1, 41)])
    assert await ensure_aggregates(connection) is False
    await check_aggregates(connection)
    assert len(await connection.fetch(JOBS)) == 7


async def test_readings_and_grants_are_kept_when_the_other_editions_views_are_replaced(connection: Connection) -> None:
    now = datetime.now(UTC)
    await _make_apache_tables(connection)
    await store(connection, make_rows(now))
    await check_aggregates(connection)
    await roll_up(connection)
    await check_aggregates(connection)
    assert await ensure_aggregates(connection) is True
    await check_aggregates(connection)
    # All except the real-time part is materialised at once, without waiting for a policy.
    assert await connection.fetchval(WATERMARK, "reading_1h") >= now - 4 * HOUR
    grants = "SELECT has_table_privilege('tidegauge_reader', $1, 'SELECT')"
    assert [await connection.fetchval(grants, relation) for relation in WIDTHS] == [True, True, True]
    assert await connection.fetchval("SELECT to_regclass('rolled_1m') IS NULL")


@pytest.mark.parametrize("edition", ["apache-2", "community"])
async def test_days_without_raw_readings_are_kept_when_the_aggregates_are_rebuilt(
    connection: Connection, edition: str
) -> None:
    now = datetime.now(UTC)
    if edition == "apache-2":
        await _make_apache_tables(connection)
        await store(connection, make_rows(now))
        await roll_up(connection)
    else:
        await _store_and_rebuild(connection, now)
    counts = await count_values(connection)
    rows = await read_hours(connection)
    await connection.execute("SELECT drop_chunks('reading', older_than => INTERVAL '9 days')")
    # A late reading for a day that is gone makes a chunk again, but the day is not complete.
    await store(connection, [(1, now - 30 * DAY, 1.0)])
    for _ in range(2):
        await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
        assert await ensure_aggregates(connection) is True
        assert await count_values(connection) == counts
    assert await read_hours(connection) == rows
    assert await connection.fetchval("SELECT count(*) FROM reading WHERE series_id < 0") == 0


async def test_all_days_are_kept_when_no_raw_reading_is_left(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, [row for row in make_rows(now) if row[1] < now - 5 * DAY])
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    await ensure_aggregates(connection)
    counts = await count_values(connection)
    await connection.execute("SELECT drop_chunks('reading', older_than => INTERVAL '1 day')")
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    assert await ensure_aggregates(connection) is True
    assert await count_values(connection) == counts


async def test_late_readings_of_the_last_days_are_seen_when_someone_has_refreshed_by_hand(
    connection: Connection,
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    for relation in WIDTHS:
        await connection.execute(f"CALL refresh_continuous_aggregate('{relation}', NULL, NULL)")
    await store(connection, [(1, now - 26 * HOUR, 1.0), (2, now - MINUTE, 2.0)])
    for day in (now - 26 * HOUR, now - MINUTE):
        await connection.execute("INSERT INTO late_day (day) VALUES ($1)", day.date())
    await refresh_late_days(connection, now)
    await check_aggregates(connection)


async def test_aggregates_stay_when_chunks_of_raw_readings_are_dropped(connection: Connection) -> None:
    now = datetime.now(UTC)
    await _store_and_rebuild(connection, now)
    counts = await count_values(connection)
    await connection.execute("SELECT drop_chunks('reading', older_than => INTERVAL '30 days')")
    assert await connection.fetchval("SELECT count(*) FROM reading") < counts[0]
    assert await count_values(connection) == counts
    await connection.execute("INSERT INTO late_day (day) VALUES ($1)", (now - 20 * DAY).date())
    await refresh_late_days(connection, now)
    assert await count_values(connection) == counts


async def test_day_past_retention_keeps_its_aggregates_when_it_is_in_late_day(connection: Connection) -> None:
    now = datetime.now(UTC)
    old = now - RAW_RETENTION - 2 * DAY
    await store(connection, [(1, old, 1.0), (1, now - DAY, 2.0)])
    for day in (old, now - DAY):
        await refresh_day(connection, day.date(), now)
    await connection.execute("SELECT drop_chunks('reading', older_than => $1::interval)", RAW_RETENTION)
    await connection.execute("INSERT INTO late_day (day) VALUES ($1)", old.date())
    await refresh_late_days(connection, now)
    assert await count_values(connection) == [2, 2, 2]
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0


async def test_refresh_takes_all_buckets_of_a_day_in_one_transaction(connection: Connection) -> None:
    # In batches of ten buckets TimescaleDB is slow and, up to 2.28, skips readings on the edges of buckets.
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    await store(connection, [(1, midnight + number * MINUTE, 1.0) for number in range(1440)])
    lines: list[str] = []
    connection.add_log_listener(lambda _connection, message: lines.append(str(message)))
    await connection.execute("SET client_min_messages = log")
    await refresh_day(connection, midnight.date(), midnight + 30 * DAY)
    await connection.execute("SELECT 1")
    await connection.reset()
    assert len([line for line in lines if "inserted" in line]) == 3
    assert await count_values(connection) == [1440, 1440, 1440]


@asynccontextmanager
async def _schema(community_dsn: str) -> AsyncIterator[str]:
    """Create an empty schema and yield a DSN with it; the server accepts one connection at a time."""
    await _execute(community_dsn, "CREATE SCHEMA trial")
    try:
        yield f"{community_dsn}?search_path=trial,public"
    finally:
        await _execute(community_dsn, "DROP SCHEMA trial CASCADE")


@asynccontextmanager
async def _database(server_dsn: str) -> AsyncIterator[str]:
    name = f"tidegauge_test_{secrets.token_hex(6)}"
    await _execute(server_dsn, f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    finally:
        await _execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _store_and_rebuild(connection: Connection, now: datetime) -> None:
    """Store forty days of readings and materialise all except the real-time part."""
    await store(connection, make_rows(now))
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    assert await ensure_aggregates(connection) is True
    await check_aggregates(connection)


async def _make_apache_tables(connection: Connection) -> None:
    """Replace the aggregates by the views and tables of the Apache-2 edition, as that edition would have left them."""
    for relation in ("reading_1d", "reading_1h", "reading_1m"):
        await connection.execute(f"DROP MATERIALIZED VIEW {relation}")
    await connection.execute(read_script("apache_tables"))
    await create_views(connection, None)
    await connection.execute("COMMENT ON VIEW reading_1d IS 'apache-2 0123456789abcdef'")
