"""Policies that TimescaleDB does not run, on a real Community server: its background jobs are stopped or fail there."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.db.aggregates import OverduePolicies, list_warnings
from app.db.edition import detect_edition
from app.db.migrations import migrate
from app.db.pool import Connection, connect
from tests.community.test_aggregates import WATERMARK, _database
from tests.db.aggregate_checks import DAY, HOUR, MINUTE, check_aggregates, make_rows, store

pytestmark = [
    pytest.mark.xdist_group("community"),
    pytest.mark.skipif("DATABASE_URL" not in os.environ, reason="needs a Community server at DATABASE_URL"),
]


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    """A connection to a migrated database whose policies have not run since a year ago."""
    async with _database(os.environ["DATABASE_URL"]) as dsn:
        await migrate(dsn)
        connection = await connect(dsn)
        if await detect_edition(connection) != "community":
            pytest.skip("DATABASE_URL names an Apache-2 server")
        await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        await connection.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
        yield connection
        await connection.close()


async def test_everything_is_materialised_compressed_and_dropped_when_no_policy_runs(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, [*make_rows(now), (1, now - 402 * DAY, 1.0)])
    assert len(await list_warnings(connection, "community")) == 7
    done = await OverduePolicies().run(connection)
    assert done == [
        "policy_refresh_continuous_aggregate of reading_1m",
        "policy_refresh_continuous_aggregate of reading_1h",
        "policy_refresh_continuous_aggregate of reading_1d",
        "policy_retention of reading",
        "policy_retention of reading_1m",
        "policy_compression of reading",
        "policy_compression of reading_1m",
    ]
    await check_aggregates(connection)
    assert await connection.fetchval(WATERMARK, "reading_1m") > now - 3 * HOUR
    assert await connection.fetchval(WATERMARK, "reading_1d") > now - 4 * DAY
    assert await connection.fetchval("SELECT count(*) FROM reading WHERE time < now() - INTERVAL '400 days'") == 0
    assert await connection.fetchval(
        "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed AND hypertable_name = 'reading'"
    ) in (32, 33)


async def test_nothing_becomes_invisible_when_policies_have_not_run_for_longer_than_their_window(
    connection: Connection,
) -> None:
    now = datetime.now(UTC)
    policies = OverduePolicies(lambda: 0.0)
    await store(connection, [row for row in make_rows(now) if row[1] < now - 20 * DAY])
    await policies.run(connection)
    await store(connection, [row for row in make_rows(now, seed=2) if row[1] > now - 19 * DAY])
    await OverduePolicies().run(connection)
    await check_aggregates(connection)


async def test_each_policy_runs_once_an_interval_when_overdue(connection: Connection) -> None:
    clock = 0.0
    policies = OverduePolicies(lambda: clock)
    assert len(await policies.run(connection)) == 7
    clock = 59.0
    assert await policies.run(connection) == []
    clock = 61.0
    assert await policies.run(connection) == ["policy_refresh_continuous_aggregate of reading_1m"]
    clock = 15 * 60.0
    assert await policies.run(connection) == [
        "policy_refresh_continuous_aggregate of reading_1m",
        "policy_refresh_continuous_aggregate of reading_1h",
    ]


async def test_warnings_name_policies_only_once_three_intervals_have_passed(connection: Connection) -> None:
    await connection.execute("UPDATE aggregates_built SET at = now() - $1::interval", 2 * MINUTE)
    await connection.execute("DELETE FROM _timescaledb_internal.bgw_job_stat")
    assert await list_warnings(connection, "community") == []
    await connection.execute("UPDATE aggregates_built SET at = now() - $1::interval", timedelta(minutes=46))
    warnings = await list_warnings(connection, "community")
    job = await connection.fetchval(
        "SELECT min(job_id) FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    )
    assert warnings[0] == (
        f"TimescaleDB job {job} (policy_refresh_continuous_aggregate of reading_1m) fails or does not run: no success "
        "yet. Tidegauge does its work meanwhile"
    )
    assert len(warnings) == 2
    await connection.execute(f"SELECT alter_job({job}, scheduled => FALSE)")
    assert len(await list_warnings(connection, "community")) == 1


async def test_retention_waits_and_the_rest_goes_on_when_a_refresh_fails(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, [(1, now - 402 * DAY, 1.0), (1, now - 9 * DAY, 1.0)])
    # As if another session were refreshing the same aggregate for ever.
    await connection.execute("SET lock_timeout = '100ms'")
    other = await asyncpg.connect(await _dsn_of(connection))
    async with other.transaction():
        table = await other.fetchval(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'reading_1d'"
        )
        await other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        policies = OverduePolicies()
        done = await policies.run(connection)
        assert "policy_refresh_continuous_aggregate of reading_1m" in done
        assert "policy_compression of reading" in done
        assert "policy_retention of reading" not in done
        (warning,) = policies.list_warnings()
        assert warning.startswith("policy_refresh_continuous_aggregate of reading_1d failed when Tidegauge ran it: ")
    await other.close()
    assert "policy_retention of reading" in await policies.run(connection)
    assert policies.list_warnings() == []
    await check_aggregates(connection)


async def _dsn_of(connection: Connection) -> str:
    name = await connection.fetchval("SELECT current_database()")
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
