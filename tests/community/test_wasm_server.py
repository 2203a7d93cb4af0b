"""The WebAssembly build of TimescaleDB Community: what it supports, and where it differs from a real server."""

import io
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.db.pool import Connection
from tests.community.wasm import HERE, serve
from tests.npm import install

#: One worker runs all tests of this module, so that they share one server.
pytestmark = pytest.mark.xdist_group("community")

CHECKOUT = Path(__file__).parents[2]
#: Starts a server, prints its address, and runs until it is killed.
HOLDER = """
import sys
from tests.community.wasm import serve

with serve() as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""
MIDNIGHT = datetime(2025, 6, 1, tzinfo=UTC)
READING = """
CREATE TABLE reading (series_id int, time timestamptz, value float8, PRIMARY KEY (series_id, time));
SELECT create_hypertable('reading', by_range('time', INTERVAL '1 day'));
"""
AGGREGATE = """
CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '{width}', {at}) AS bucket, series_id, {columns}
  FROM {source} GROUP BY 1, 2 WITH NO DATA
"""
FROM_READINGS = """count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max,
    first(value, time) AS first, last(value, time) AS last"""
FROM_BUCKETS = """sum(n)::bigint AS n, sum(sum) AS sum, min(min) AS min, max(max) AS max,
    first(first, bucket) AS first, last(last, bucket) AS last"""
AGGREGATES = (
    AGGREGATE.format(name="reading_1m", width="1 minute", at="time", columns=FROM_READINGS, source="reading"),
    AGGREGATE.format(name="reading_1h", width="1 hour", at="bucket", columns=FROM_BUCKETS, source="reading_1m"),
    AGGREGATE.format(name="reading_1d", width="1 day", at="bucket", columns=FROM_BUCKETS, source="reading_1h"),
)
INSERT = """
INSERT INTO reading SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::float8[])
    ON CONFLICT DO NOTHING RETURNING series_id, time, value
"""
WATERMARK = """
SELECT _timescaledb_functions.cagg_watermark(mat_hypertable_id) FROM _timescaledb_catalog.continuous_agg
 WHERE user_view_schema = 'trial' AND user_view_name = $1
"""
DAY_SUMMARY = "SELECT n, sum, min, max, first, last FROM reading_1d WHERE bucket = $1 AND series_id = 1"
TWO_HOURS = [(1, MIDNIGHT + timedelta(minutes=minute), float(minute)) for minute in range(120)]
LATER = MIDNIGHT + timedelta(days=9)


async def test_server_is_community_edition_when_asked(connection: Connection) -> None:
    assert await connection.fetchval("SHOW timescaledb.license") == "timescale"
    version = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    assert await connection.fetchval(version) == "2.23.0-dev"
    assert await connection.fetchval("SHOW server_version") == "17.5"
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")


async def test_hypertable_has_a_chunk_a_day_when_rows_span_days(connection: Connection) -> None:
    await connection.execute(READING)
    await _insert(connection, [(1, MIDNIGHT, 1.0), (1, MIDNIGHT + timedelta(hours=1), 2.0), (1, LATER, 3.0)])
    chunks = """SELECT range_start, range_end FROM timescaledb_information.chunks
        WHERE hypertable_schema = 'trial' ORDER BY range_start"""
    day = timedelta(days=1)
    expected = [(MIDNIGHT, MIDNIGHT + day), (LATER, LATER + day)]
    assert [tuple(row) for row in await connection.fetch(chunks)] == expected


async def test_insert_returns_only_new_rows_when_some_are_stored(connection: Connection) -> None:
    await connection.execute(READING)
    assert len(await _insert(connection, TWO_HOURS)) == 120
    new = (2, MIDNIGHT + timedelta(microseconds=1), -0.1)
    assert await _insert(connection, [TWO_HOURS[0], new, new]) == [new]


async def test_aggregates_agree_on_all_levels_when_refreshed(connection: Connection) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    await _refresh(connection)
    assert await connection.fetchval("SELECT count(*) FROM reading_1m") == 120
    hours = await connection.fetch("SELECT bucket, n, sum, first, last FROM reading_1h ORDER BY bucket")
    one = MIDNIGHT + timedelta(hours=1)
    assert [tuple(row) for row in hours] == [(MIDNIGHT, 60, 1770.0, 0.0, 59.0), (one, 60, 5370.0, 60.0, 119.0)]
    assert await _day(connection, MIDNIGHT) == (120, 7140.0, 0.0, 119.0, 0.0, 119.0)


async def test_aggregates_show_new_rows_before_a_refresh_only_when_they_are_past_the_watermark(
    connection: Connection,
) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    assert await _day(connection, MIDNIGHT) == (120, 7140.0, 0.0, 119.0, 0.0, 119.0)
    await _refresh(connection)
    await _insert(connection, [(1, MIDNIGHT + timedelta(seconds=1), 1000.0), (1, LATER, 5.0)])
    assert await _day(connection, MIDNIGHT) == (120, 7140.0, 0.0, 119.0, 0.0, 119.0)
    assert await _day(connection, LATER) == (1, 5.0, 5.0, 5.0, 5.0, 5.0)
    await _refresh(connection)
    assert await _day(connection, MIDNIGHT) == (121, 8140.0, 0.0, 1000.0, 0.0, 119.0)


async def test_watermark_follows_the_refresh_when_read_by_catalog_id(connection: Connection) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    before_any_refresh = await connection.fetchval(WATERMARK, "reading_1m")
    await _refresh(connection)
    next_day = MIDNIGHT + timedelta(days=1)
    assert before_any_refresh == -210866803200000000  # 4714 BC: outside Python's datetime
    assert await connection.fetchval(WATERMARK, "reading_1d") == int(next_day.timestamp()) * 1_000_000


async def test_aggregates_leave_nothing_when_their_transaction_rolls_back(connection: Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await _create_aggregates(connection)
    await transaction.rollback()
    assert await connection.fetchval("SELECT to_regclass('reading_1d')") is None
    assert await connection.fetchval(WATERMARK, "reading_1d") is None


async def test_refresh_is_refused_when_in_a_transaction(connection: Connection) -> None:
    await _create_aggregates(connection)
    with pytest.raises(asyncpg.ActiveSQLTransactionError):
        async with connection.transaction():
            await _refresh(connection)


async def test_policies_are_stored_but_run_only_by_hand_when_added(connection: Connection) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    async with connection.transaction():
        await _add_policies(connection)
    jobs = await connection.fetch(
        """SELECT job_id, proc_name FROM timescaledb_information.jobs
            WHERE hypertable_schema IN ('trial', '_timescaledb_internal') ORDER BY job_id"""
    )
    assert [job["proc_name"] for job in jobs] == [
        "policy_refresh_continuous_aggregate",
        "policy_compression",
        "policy_retention",
    ]
    runs = "SELECT total_runs FROM timescaledb_information.job_stats WHERE job_id = $1"
    assert await connection.fetchval(runs, jobs[0]["job_id"]) is None
    await connection.execute(f"CALL run_job({jobs[1]['job_id']})")
    compressed = "SELECT bool_and(is_compressed) FROM timescaledb_information.chunks WHERE hypertable_name = 'reading'"
    assert await connection.fetchval(compressed) is True
    await connection.execute(f"CALL run_job({jobs[2]['job_id']})")
    assert await connection.fetchval("SELECT count(*) FROM reading") == 0


async def test_columnstore_keeps_the_first_value_when_a_row_comes_again(connection: Connection) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    await _add_policies(connection)
    chunk = await connection.fetchval("SELECT show_chunks('reading')::text")
    await connection.execute(f"CALL convert_to_columnstore('{chunk}')")
    late = (1, MIDNIGHT + timedelta(seconds=1), 7.0)
    assert await _insert(connection, [(1, MIDNIGHT, 99.0), late]) == [late]
    assert await connection.fetchval("SELECT value FROM reading WHERE series_id = 1 AND time = $1", MIDNIGHT) == 0.0


async def test_aggregates_stay_when_raw_chunks_are_dropped(connection: Connection) -> None:
    await _create_aggregates(connection)
    await _insert(connection, TWO_HOURS)
    await _refresh(connection)
    await connection.execute("SELECT drop_chunks('reading', $1::timestamptz)", LATER)
    assert await connection.fetchval("SELECT count(*) FROM reading") == 0
    assert await _day(connection, MIDNIGHT) == (120, 7140.0, 0.0, 119.0, 0.0, 119.0)


async def test_deferred_trigger_numbers_and_notifies_when_the_transaction_commits(connection: Connection) -> None:
    await connection.execute(
        """CREATE TABLE feed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq bigint);
        CREATE SEQUENCE feed_seq;
        CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(1);
            UPDATE feed SET seq = nextval('feed_seq') WHERE id = NEW.id;
            PERFORM pg_notify('feed', currval('feed_seq')::text);
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER number AFTER INSERT ON feed
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION number()"""
    )
    received: list[object] = []
    await connection.add_listener("feed", lambda *message: received.append(message[3]))
    async with connection.transaction():
        await connection.execute("INSERT INTO feed DEFAULT VALUES")
        assert await connection.fetchval("SELECT seq FROM feed") is None
    assert await connection.fetchval("SELECT seq FROM feed") == 1
    assert received == ["1"]
    await connection.reset()  # otherwise asyncpg warns of a remaining listener


async def test_role_can_only_read_granted_tables_when_it_is_set(connection: Connection) -> None:
    await connection.execute(READING + "CREATE ROLE viewer; GRANT USAGE ON SCHEMA trial TO viewer")
    await connection.execute("GRANT SELECT ON reading TO viewer; SET ROLE viewer")
    assert await connection.fetchval("SELECT count(*) FROM reading") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM reading")
    await connection.execute("RESET ROLE; DROP OWNED BY viewer; DROP ROLE viewer")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE toasted (payload text COMPRESSION lz4)",
        "ALTER EXTENSION timescaledb UPDATE",
        "COPY moved FROM STDIN",
    ],
)
async def test_statement_is_refused_when_the_build_lacks_it(connection: Connection, statement: str) -> None:
    await connection.execute("CREATE TABLE moved (id int)")
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        await connection.execute(statement)
    assert await connection.fetchval("SELECT 1") == 1


async def test_session_continues_when_copy_is_refused(connection: Connection) -> None:
    await connection.execute(READING)
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="COPY FROM STDIN"):
        async with connection.transaction():
            await connection.copy_records_to_table("reading", records=TWO_HOURS)
    out = io.BytesIO()
    assert await connection.copy_from_query("SELECT 1, 'a'", output=out) == "COPY 1"
    assert out.getvalue() == b"1\ta\n"


async def test_session_is_reset_when_the_client_before_left_state(community_dsn: str) -> None:
    first = await asyncpg.connect(community_dsn)
    await first.execute("SELECT pg_advisory_lock(1); SET work_mem = '7MB'; CREATE TEMP TABLE left_over (id int)")
    await first.execute("BEGIN; CREATE TABLE half_done (id int)")
    first.terminate()
    second = await asyncpg.connect(community_dsn)
    traces = """SELECT current_setting('work_mem'), current_setting('search_path'), to_regclass('left_over'),
        to_regclass('half_done'), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"""
    assert tuple(await second.fetchrow(traces) or ()) == ("4MB", '"$user", public', None, None, 0)
    await second.close()


async def test_pool_of_one_keeps_its_settings_when_a_connection_returns(community_dsn: str) -> None:
    settings = {"application_name": "trial", "timezone": "America/Sao_Paulo"}
    async with asyncpg.create_pool(community_dsn, min_size=1, max_size=1, server_settings=settings) as pool:
        await pool.execute("SET timezone TO 'UTC'; SET search_path TO nowhere")
        shown = await pool.fetchrow("SELECT current_setting('timezone'), current_setting('search_path')")
        assert tuple(shown or ()) == ("America/Sao_Paulo", '"$user", public')


async def test_second_connection_is_refused_when_one_is_open(connection: Connection, community_dsn: str) -> None:
    with pytest.raises(asyncpg.TooManyConnectionsError, match="one connection at a time"):
        await asyncpg.connect(community_dsn)
    assert await connection.fetchval("SELECT 1") == 1


async def test_connection_continues_when_a_query_exceeds_its_timeout(connection: Connection) -> None:
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT count(*) FROM generate_series(1, 500000)", timeout=0.001)
    assert await connection.fetchval("SELECT 1") == 1


def test_serve_names_the_requirement_when_node_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(HERE)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match=r"node not found.*Node\.js 20"), serve():
        pass


def test_server_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = urlsplit(parent.stdout.readline().strip()).port or 0
        assert _listens(port)
        parent.kill()
    deadline = time.monotonic() + 10
    while _listens(port) and time.monotonic() < deadline:
        pass
    assert not _listens(port)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def _create_aggregates(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute(READING)
        for aggregate in AGGREGATES:
            await connection.execute(aggregate)


async def _insert(
    connection: Connection, rows: Sequence[tuple[int, datetime, float]]
) -> list[tuple[int, datetime, float]]:
    series, times, values = zip(*rows, strict=True)
    return [(row[0], row[1], row[2]) for row in await connection.fetch(INSERT, series, times, values)]


async def _refresh(connection: Connection) -> None:
    """Refresh the first two days in all levels."""
    for name in ("reading_1m", "reading_1h", "reading_1d"):
        call = f"CALL refresh_continuous_aggregate('{name}', $1::timestamptz, $2::timestamptz)"
        await connection.execute(call, MIDNIGHT, MIDNIGHT + timedelta(days=2))


async def _day(connection: Connection, bucket: datetime) -> tuple[float, ...]:
    return tuple(await connection.fetchrow(DAY_SUMMARY, bucket) or ())


async def _add_policies(connection: Connection) -> None:
    await connection.execute(
        """SELECT add_continuous_aggregate_policy('reading_1m', start_offset => INTERVAL '1 day',
            end_offset => INTERVAL '2 minutes', schedule_interval => INTERVAL '1 minute');
        ALTER TABLE reading SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'series_id');
        CALL add_columnstore_policy('reading', after => INTERVAL '7 days');
        SELECT add_retention_policy('reading', INTERVAL '90 days')"""
    )
