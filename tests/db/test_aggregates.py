"""The aggregates on the edition that the tests run on: same names, columns and answers as on the other."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.db.aggregates import LEVELS, OLDEST_ACCEPTED_US, RAW_RETENTION, ensure_aggregates
from app.db.edition import detect_edition
from app.db.pool import Connection
from tests.conftest import Database
from tests.db.aggregate_checks import DAY, WIDTHS, check_aggregates, count_values, make_rows, store

COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
 WHERE attrelid = to_regclass($1) AND attnum > 0 ORDER BY attnum
"""
#: The fingerprints of the aggregates whose late_before() was in SQL.
BEFORE_PLPGSQL = {"community": "community d18d0463a43c5814", "apache-2": "apache-2 d803905b84ceef7e"}
IN_SQL = """
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT TIMESTAMPTZ '2000-01-01' $$
"""
#: The relations, as ids that change when they are made anew, and the language of late_before().
STANDING = """
SELECT to_regclass('reading_1m')::oid, to_regclass('reading_1h')::oid, to_regclass('reading_1d')::oid,
       obj_description(to_regclass('reading_1d'), 'pg_class'),
       (SELECT lanname FROM pg_language JOIN pg_proc ON prolang = pg_language.oid WHERE proname = 'late_before')
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection to a migrated database."""
    async with database.pool.acquire() as connection:
        yield connection


async def test_relations_have_the_same_columns_on_every_edition(connection: Connection) -> None:
    for relation in WIDTHS:
        assert [tuple(row) for row in await connection.fetch(COLUMNS, relation)] == [
            ("bucket", "timestamp with time zone"),
            ("series_id", "integer"),
            ("n", "bigint"),
            ("sum", "double precision"),
            ("min", "double precision"),
            ("max", "double precision"),
            ("first", "double precision"),
            ("last", "double precision"),
        ]


async def test_aggregates_agree_with_raw_readings_when_forty_days_are_stored(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    await check_aggregates(connection)


async def test_aggregates_are_rebuilt_once_when_another_version_made_them(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    assert await ensure_aggregates(connection) is False
    await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    assert await ensure_aggregates(connection) is True
    assert await ensure_aggregates(connection) is False
    await check_aggregates(connection)


async def test_aggregates_stay_when_only_late_before_has_changed(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    edition = await detect_edition(connection)
    before = await connection.fetch(STANDING)
    moment = await connection.fetchval("SELECT late_before()")
    await connection.execute(IN_SQL)
    await connection.execute(f"COMMENT ON VIEW reading_1d IS '{BEFORE_PLPGSQL[edition]}'")
    assert await ensure_aggregates(connection) is False
    assert await connection.fetch(STANDING) == before
    assert await connection.fetchval("SELECT late_before()") - moment < timedelta(minutes=1)
    assert await ensure_aggregates(connection) is False
    await check_aggregates(connection)


async def test_aggregates_are_rebuilt_when_one_is_missing(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    kind = await connection.fetchval(
        "SELECT CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates) "
        "THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END"
    )
    await connection.execute(f"DROP {kind} reading_1d")
    assert await ensure_aggregates(connection) is True
    await check_aggregates(connection)


async def test_largest_values_do_not_overflow_when_many_are_summed(connection: Connection) -> None:
    start = datetime(2026, 1, 31, tzinfo=UTC)
    await store(connection, [(1, start + number * timedelta(seconds=1), 1e100) for number in range(1_000)])
    total = await connection.fetchval("SELECT sum / n FROM reading_1d")
    assert total == pytest.approx(1e100)


def test_readings_are_accepted_up_to_a_day_before_retention() -> None:
    assert timedelta(microseconds=OLDEST_ACCEPTED_US) == RAW_RETENTION - DAY


def test_refresh_ends_at_the_last_bucket_edge_before_the_real_time_part() -> None:
    now = datetime(2026, 1, 31, 8, 30, 30, 5, tzinfo=UTC)
    assert [level.refreshable_until(now) for level in LEVELS] == [
        datetime(2026, 1, 31, 8, 28, tzinfo=UTC),
        datetime(2026, 1, 31, 6, tzinfo=UTC),
        datetime(2026, 1, 29, tzinfo=UTC),
    ]


async def test_every_level_counts_all_readings(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    stored = await connection.fetchval("SELECT count(*) FROM reading")
    assert await count_values(connection) == [stored, stored, stored]
