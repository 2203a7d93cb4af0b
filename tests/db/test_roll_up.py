"""The rolled-up tables of the Apache-2 edition: the views' answers while the watermark moves, and after each fault."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from app.db.aggregates import (
    RAW_RETENTION,
    drop_old_chunks,
    ensure_aggregates,
    list_warnings,
    refresh_day,
    refresh_late_days,
    roll_up,
)
from app.db.aggregates.roll_up import create_views
from app.db.edition import detect_edition
from app.db.pool import Connection
from tests.conftest import Database
from tests.db.aggregate_checks import DAY, HOUR, MINUTE, check_aggregates, count_values, make_rows, read_hours, store

#: The module; the package shows its function under the same name.
MODULE = sys.modules[roll_up.__module__]
WATERMARK = "SELECT rolled_to FROM aggregate_watermark"

ANNOUNCED = "SELECT late_before() > now() - INTERVAL '1 hour'"


class KilledError(Exception):
    """Ends a roll-up in the middle, as a killed process would."""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection to a migrated database of the Apache-2 edition."""
    async with database.pool.acquire() as connection:
        if await detect_edition(connection) == "community":
            pytest.skip("Community has continuous aggregates in place of rolled-up tables")
        yield connection


async def upload(connection: Connection, rows: list[tuple[int, datetime, float]]) -> None:
    """Store readings and note late days, as a flush does, in the transaction that is open or in one of its own."""
    await store(connection, rows)
    days = sorted({time.date() for _, time, _ in rows})
    oldest = [min(time for _, time, _ in rows if time.date() == day) for day in days]
    await connection.execute(
        "INSERT INTO late_day (day) SELECT day FROM unnest($1::date[], $2::timestamptz[]) AS t (day, oldest)"
        " WHERE oldest < late_before()",
        days,
        oldest,
    )


async def test_views_agree_with_raw_readings_before_and_after_rolling_up(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await check_aggregates(connection)
    told: list[tuple[int, int | None]] = []
    assert await roll_up(connection, progress=lambda done, total: told.append((done, total)))
    await check_aggregates(connection)
    assert told[-1][0] == told[-1][1] == len(told)
    assert len(told) in (40, 41)
    assert timedelta(minutes=9) < now - await connection.fetchval(WATERMARK) < timedelta(minutes=12)
    assert [await connection.fetchval(f"SELECT count(*) > 0 FROM rolled_{width}") for width in ("1m", "1h", "1d")] == [
        True,
        True,
        True,
    ]
    assert await roll_up(connection)
    await check_aggregates(connection)


async def test_empty_database_is_rolled_up_to_ten_minutes_ago(connection: Connection) -> None:
    assert await roll_up(connection)
    await upload(connection, [(1, datetime.now(UTC) - 3 * HOUR, 1.0), (1, datetime.now(UTC), 2.0)])
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 1
    await refresh_late_days(connection, datetime.now(UTC))
    await check_aggregates(connection)


async def test_rolled_up_readings_are_seen_though_nothing_reads_raw_ones(connection: Connection) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    await roll_up(connection)
    counts = await count_values(connection)
    await connection.execute("SELECT drop_chunks('reading', older_than => INTERVAL '5 days')")
    assert await count_values(connection) == counts


async def test_late_readings_are_seen_in_every_level_when_their_days_are_refreshed(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await roll_up(connection)
    before = await count_values(connection)
    late = [now - 20 * DAY, now - 12 * DAY, now - 50 * DAY, now - 3 * HOUR, now - 11 * MINUTE]
    await upload(connection, [(series_id, at, 1000.0) for at in late for series_id in (1, 4)])
    assert await count_values(connection) == before
    assert await refresh_late_days(connection, now) == len({at.date() for at in late})
    await check_aggregates(connection)
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0


async def test_late_days_are_kept_and_refreshed_later_when_a_refresh_fails(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await roll_up(connection)
    await upload(connection, [(1, now - days * DAY, 1000.0) for days in (30, 20)])
    await connection.execute("ALTER TABLE rolled_1d RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await refresh_late_days(connection, now)
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 2
    await connection.execute("ALTER TABLE away RENAME TO rolled_1d")
    assert await refresh_late_days(connection, now) == 2
    await check_aggregates(connection)
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0


async def test_readings_that_were_deleted_are_gone_when_their_day_is_refreshed(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await roll_up(connection)
    day = (now - 9 * DAY).date()
    await connection.execute("DELETE FROM reading WHERE time::date = $1 AND series_id <> 2", day)
    await refresh_day(connection, day, now)
    await check_aggregates(connection)


async def test_flush_in_flight_loses_no_reading_while_the_watermark_moves(
    connection: Connection, database: Database
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    flush = await asyncpg.connect(database.dsn)
    async with asyncio.timeout(30):
        transaction = flush.transaction()
        await transaction.start()
        await upload(flush, [(1, now - 2 * HOUR, 5.0)])
        # The flush did not call it late: the watermark waits for the flush.
        assert await flush.fetchval("SELECT count(*) FROM late_day") == 0
        rolling = asyncio.create_task(roll_up(connection))
        async with database.pool.acquire() as other:
            while not await other.fetchval(ANNOUNCED):  # noqa: ASYNC110 -- the announcement is a commit
                await asyncio.sleep(0.01)
            assert not await other.fetchval("SELECT isfinite(rolled_to) FROM aggregate_watermark")
            # A flush that begins now calls its readings late, and is not waited for.
            later = await asyncpg.connect(database.dsn)
            async with later.transaction():
                await upload(later, [(2, now - 2 * HOUR, 6.0)])
                assert await later.fetchval("SELECT count(*) FROM late_day") == 1
                assert not rolling.done()
                await transaction.commit()
                assert await rolling
            await check_late_only(other)
            await refresh_late_days(other, now)
            await check_aggregates(other)
    await flush.close()
    await later.close()


async def check_late_only(connection: Connection) -> None:
    """Check that all but the one noted reading is seen."""
    stored = await connection.fetchval("SELECT count(*) FROM reading")
    assert await count_values(connection) == [stored - 1] * 3


async def test_roll_up_gives_up_and_warns_when_a_transaction_stays_open(
    connection: Connection, database: Database
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await roll_up(connection)
    assert await list_warnings(connection, "apache-2") == []
    # The floor goes back, too: an hour ago may have been yesterday.
    await create_views(connection, None)
    await connection.execute(
        "UPDATE aggregate_watermark SET rolled_to = rolled_to - $1::interval, view_floor = '-infinity'", HOUR
    )
    await connection.execute("UPDATE aggregates_built SET at = at - $1::interval", DAY)
    open_session = await asyncpg.connect(database.dsn)
    async with open_session.transaction():
        await open_session.execute("SELECT pg_current_xact_id()")
        assert not await roll_up(connection, wait_s=0.1)
        (warning,) = await list_warnings(connection, "apache-2")
        assert warning.startswith("The rolled-up tables are 7")
        assert f"server process {open_session.get_server_pid()} has had one open since " in warning
        await check_aggregates(connection)
    await open_session.close()
    assert await roll_up(connection)
    await check_aggregates(connection)
    assert await list_warnings(connection, "apache-2") == []


@pytest.mark.parametrize("step", ["_lock_watermark", "_rewrite", "_renew_floor"])
async def test_nothing_is_lost_when_a_roll_up_is_killed_between_its_steps(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    calls = 0
    real = getattr(MODULE, step)

    async def killed(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 7 == 1:
            raise KilledError
        return await real(*args)

    monkeypatch.setattr(MODULE, step, killed)
    random = Random(1)
    for _ in range(20):
        try:
            assert await roll_up(connection)
        except KilledError:
            await upload(connection, [(1, now - random.random() * 40 * DAY, random.gauss(0, 1)) for _ in range(5)])
        await check_all_but_late(connection)
    monkeypatch.undo()
    assert await roll_up(connection)
    await refresh_late_days(connection, now)
    await check_aggregates(connection)


async def check_all_but_late(connection: Connection) -> None:
    """Compare days without late readings with the raw ones."""
    differing = await connection.fetch(
        """SELECT coalesce(a.bucket, r.bucket)::date AS day
             FROM reading_1d AS a
             FULL JOIN (SELECT time_bucket('1 day', time) AS bucket, series_id, count(*) AS n
                          FROM reading GROUP BY 1, 2) AS r
            USING (bucket, series_id)
            WHERE a.n IS DISTINCT FROM r.n"""
    )
    late = await connection.fetch("SELECT day FROM late_day")
    assert {row["day"] for row in differing} <= {row["day"] for row in late}


async def test_random_uploads_agree_with_raw_readings_at_every_moment_but_for_noted_days(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    stop = asyncio.Event()
    uploaded = 0

    async def keep_uploading(seed: int) -> None:
        nonlocal uploaded
        random = Random(seed)
        session = await asyncpg.connect(database.dsn)
        while not stop.is_set():
            span = random.choice([MINUTE, HOUR, 3 * DAY, 40 * DAY])
            async with session.transaction():
                await upload(
                    session,
                    [(seed, now - random.random() * span, random.gauss(20, 5)) for _ in range(random.randint(1, 5))],
                )
                await asyncio.sleep(random.random() * 0.05)
            uploaded += 1
        await session.close()

    uploads = [asyncio.create_task(keep_uploading(seed)) for seed in (1, 2, 3)]
    async with database.pool.acquire() as lease_holder:
        for number in range(30):
            # As if time went on: from forty days ago, in steps, up to ten minutes ago.
            age = max(timedelta(minutes=10), 40 * DAY - number * timedelta(days=1.5))
            monkeypatch.setattr(MODULE, "REAL_TIME", age)
            assert await roll_up(lease_holder)
            await check_snapshot(connection)
            if number % 3 == 0:
                await refresh_late_days(lease_holder, now)
                await check_snapshot(connection)
        stop.set()
        await asyncio.gather(*uploads)
        assert uploaded > 30
        assert await roll_up(lease_holder)
        await refresh_late_days(lease_holder, now)
    await check_aggregates(connection)


async def check_snapshot(connection: Connection) -> None:
    """Compare all levels with raw readings in one snapshot, leaving out days that are noted as late."""
    async with connection.transaction(isolation="repeatable_read"):
        await check_all_but_late(connection)
        for relation, width in (("reading_1m", "1 minute"), ("reading_1h", "1 hour")):
            missing = await connection.fetchval(
                f"""SELECT count(*)
                      FROM (SELECT time_bucket('{width}', time) AS bucket, series_id, count(*) AS n,
                                   first(value, time) AS first, last(value, time) AS last
                              FROM reading GROUP BY 1, 2) AS r
                      FULL JOIN {relation} AS a USING (bucket, series_id)
                     WHERE (a.n, a.first, a.last) IS DISTINCT FROM (r.n, r.first, r.last)
                       AND bucket::date NOT IN (SELECT day FROM late_day)"""
            )
            assert missing == 0, relation


async def test_view_floor_moves_with_the_watermark_and_stays_when_a_query_holds_the_views(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    reader = await asyncpg.connect(database.dsn)
    floor = "SELECT view_floor FROM aggregate_watermark"
    async with reader.transaction():
        await reader.fetch("SELECT * FROM reading_1d LIMIT 1")
        monkeypatch.setattr(MODULE, "_REPLACE_VIEWS_WITHIN", "1ms")
        assert await roll_up(connection)
        await check_aggregates(connection)
        assert not await connection.fetchval(f"SELECT isfinite(({floor}))")
    await reader.close()
    await connection.execute("UPDATE aggregate_watermark SET rolled_to = rolled_to - INTERVAL '1 minute'")
    assert await roll_up(connection)
    watermark = await connection.fetchval(WATERMARK)
    assert await connection.fetchval(floor) == watermark.replace(hour=0, minute=0)
    definition = await connection.fetchval("SELECT pg_get_viewdef('reading_1h'::regclass)")
    assert definition.count(f"'{watermark:%Y-%m-%d} 00:00:00+00'") == 2
    plan = await connection.fetch(
        "EXPLAIN SELECT * FROM reading_1h WHERE series_id = 1 AND bucket > now() - $1::interval", DAY
    )
    assert sum("Scan" in row[0] and "_hyper_1_" in row[0] for row in plan) <= 4
    await check_aggregates(connection)


async def test_days_without_raw_readings_are_kept_when_the_aggregates_are_rebuilt(connection: Connection) -> None:
    now = datetime.now(UTC)
    await store(connection, make_rows(now))
    await roll_up(connection)
    counts = await count_values(connection)
    assert (
        await connection.fetchval("SELECT count(*) FROM drop_chunks('reading', older_than => INTERVAL '9 days')") > 25
    )
    rows = await read_hours(connection)
    # A late reading for a day that is gone makes a chunk again, but the day is not complete.
    await store(connection, [(1, now - 30 * DAY, 1.0)])
    for _ in range(2):
        await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
        assert await ensure_aggregates(connection) is True
        assert await count_values(connection) == counts
    assert await read_hours(connection) == rows


async def test_reader_role_reads_the_views_and_not_the_tables(connection: Connection, database: Database) -> None:
    await store(connection, make_rows(datetime.now(UTC)))
    await roll_up(connection)
    reader = await asyncpg.connect(database.reader_dsn)
    assert await reader.fetchval("SELECT count(*) FROM reading_1h") > 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetchval("SELECT count(*) FROM aggregate_watermark")
    await reader.close()


async def test_readings_past_retention_go_by_the_chunk_once_they_are_rolled_up(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(MODULE, "RAW_RETENTION", 20 * DAY)
    monkeypatch.setattr(MODULE, "MINUTE_RETENTION", 40 * DAY)
    kept = [now - 19 * DAY + HOUR, now]
    await store(connection, [(1, time, 1.0) for time in [now - 49 * DAY, now - 22 * DAY, *kept]])
    assert await drop_old_chunks(connection) == 0
    await roll_up(connection)
    assert await drop_old_chunks(connection) == 3
    assert [row["time"] for row in await connection.fetch("SELECT time FROM reading ORDER BY time")] == kept
    assert await drop_old_chunks(connection) == 0
    assert await count_values(connection) == [3, 4, 4]


async def test_day_past_retention_keeps_its_aggregates_when_noted_late(connection: Connection) -> None:
    now = datetime.now(UTC)
    old = now - RAW_RETENTION - DAY
    await store(connection, [(1, now - 2 * DAY, 2.0)])
    await roll_up(connection)
    await connection.execute(
        "INSERT INTO rolled_1d SELECT date_trunc('day', $1::timestamptz, 'UTC'), 1, 1, 1, 1, 1, 1, 1", old
    )
    await connection.execute("INSERT INTO late_day (day) VALUES ($1)", old.date())
    await refresh_late_days(connection, now)
    assert await count_values(connection) == [1, 1, 2]
    assert await connection.fetchval("SELECT count(*) FROM late_day") == 0
