"""Continuous aggregates as Community runs them, each held against a plain query over the raw rows.

On a native Community server given by DATABASE_URL they run there as well.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.db.aggregates import LEVELS, ensure_aggregates, refresh_late_days
from app.db.edition import detect_edition
from app.db.migrations import migrate
from app.db.pool import Connection, connect
from tests.conftest import _connected, _drop, _with_database

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(params=["wasm", "native"])
async def community(request: pytest.FixtureRequest, community_dsn: str) -> AsyncIterator[str]:
    """A migrated Community database: the WebAssembly one, and a native one where there is one."""
    if request.param == "wasm":
        await migrate(community_dsn)
        async with _connected(community_dsn) as connection:
            await connection.execute("TRUNCATE reading, late_day; COMMENT ON VIEW reading_1d IS 'stale'")
        await migrate(community_dsn)
        yield community_dsn
        return
    server = os.environ.get("DATABASE_URL")
    if server is None:
        pytest.skip("DATABASE_URL names no native Community server; the WebAssembly one has proved the same SQL")
    async with _connected(server) as admin:
        if await detect_edition(admin) != "community":
            pytest.skip("DATABASE_URL names an Apache-2 server; the WebAssembly one has proved the same SQL")
        await admin.execute("CREATE DATABASE tidegauge_community_test")
    yield _with_database(server, "tidegauge_community_test")
    await _drop(server, "tidegauge_community_test")


async def fill(connection: Connection, days: int) -> None:
    """Store three series over some days, ending now, a reading every 17 minutes, values that differ."""
    await connection.execute(
        """INSERT INTO reading
           SELECT s, now() - i * INTERVAL '17 minutes', sin(i) * 10 + s
             FROM generate_series(1, 3) AS s, generate_series(0, $1::int) AS i
               ON CONFLICT DO NOTHING""",
        days * 24 * 60 // 17,
    )


async def assert_aggregates_match_raw_rows(connection: Connection) -> None:
    for level in LEVELS:
        plain = f"""
            SELECT time_bucket('{level.bucket.total_seconds()} seconds', time) AS bucket, series_id, count(*) AS n,
                   sum(value) AS sum, min(value) AS min, max(value) AS max,
                   first(value, time) AS first, last(value, time) AS last
              FROM reading GROUP BY 1, 2"""
        differing = await connection.fetchval(
            f"""SELECT count(*) FROM ({plain}) AS p FULL JOIN {level.relation} AS a USING (bucket, series_id)
                 WHERE (p.n, p.min, p.max, p.first, p.last) IS DISTINCT FROM (a.n, a.min, a.max, a.first, a.last)
                    OR abs(p.sum - a.sum) > 1e-6"""
        )
        assert differing == 0, level.relation


async def materialized_rows(connection: Connection, relation: str) -> int:
    """Count what is stored of an aggregate, without its real-time part."""
    table = await connection.fetchval(
        """SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
             FROM timescaledb_information.continuous_aggregates WHERE view_name = $1""",
        relation,
    )
    count: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return count


async def test_aggregates_equal_plain_queries_before_and_after_they_are_filled(community: str) -> None:
    await migrate(community)
    connection = await connect(community)
    await fill(connection, days=40)
    await assert_aggregates_match_raw_rows(connection)
    assert await materialized_rows(connection, "reading_1d") == 0

    await connection.execute("COMMENT ON VIEW reading_1d IS 'interrupted'")
    assert await ensure_aggregates(connection) is True
    assert await ensure_aggregates(connection) is False
    assert await materialized_rows(connection, "reading_1d") > 100
    assert await materialized_rows(connection, "reading_1m") > 9_000
    await assert_aggregates_match_raw_rows(connection)
    await connection.close()


async def test_late_readings_show_once_their_days_are_refreshed(community: str) -> None:
    await migrate(community)
    connection = await connect(community)
    await fill(connection, days=30)
    await connection.execute("COMMENT ON VIEW reading_1d IS 'interrupted'")
    await ensure_aggregates(connection)

    late = [TODAY - timedelta(days=day, hours=5) for day in (3, 11, 29)]
    for time in late:
        await connection.execute("INSERT INTO reading VALUES (1, $1, 99)", time)
        await connection.execute("INSERT INTO late_day (day) VALUES ($1)", time.date())
    hidden = await connection.fetchval("SELECT count(*) FROM reading_1m WHERE max = 99")
    assert hidden == 0, "behind the watermark, until refreshed"

    assert await refresh_late_days(connection, NOW) == 3
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0
    await assert_aggregates_match_raw_rows(connection)

    # And what is fresh goes on being visible at once: a refresh must not move the watermark over it.
    await connection.execute("INSERT INTO reading VALUES (1, now() - INTERVAL '1 second', 123)")
    assert await connection.fetchval("SELECT count(*) FROM reading_1m WHERE max = 123") == 1
    await connection.close()


async def test_policies_fit_retention_and_the_columnstore_segments_by_series(community: str) -> None:
    await migrate(community)
    connection = await connect(community)
    jobs = await connection.fetch("SELECT proc_name, hypertable_name FROM timescaledb_information.jobs")
    names = sorted(row["proc_name"] for row in jobs if row["hypertable_name"] is not None)
    assert names.count("policy_refresh_continuous_aggregate") == 3
    assert names.count("policy_retention") == 2
    assert names.count("policy_compression") == 2
    assert (
        await connection.fetchval(
            """SELECT segmentby FROM timescaledb_information.hypertable_columnstore_settings
            WHERE hypertable = 'reading'::regclass"""
        )
        == "series_id"
    )
    await connection.close()


async def test_late_before_marks_what_a_first_refresh_would_hide(community: str) -> None:
    await migrate(community)
    connection = await connect(community)
    age = await connection.fetchval("SELECT now() - late_before()")
    assert age == timedelta(hours=1)
    await connection.close()
