"""The rows that a flush writes in addition to the readings, and the order of feed rows."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from itertools import pairwise
from time import monotonic
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.pool import Connection, Pool
from app.ingest.flush.batch import Batch
from app.ingest.flush.feed_payload import FRAME_VALUES_LIMIT
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.receipt import Outcome, Receipt
from app.ingest.uploads.upload import Upload
from app.summaries import Summary, unpack
from tests.conftest import Database
from tests.ingest.uploads import DAY, HOUR, MINUTE, SECOND, T0, reading, receipt_of, upload

#: Simulates a Community database whose aggregates are complete up to this time.
WATERMARK = """
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT TIMESTAMPTZ '2026-01-31T07:00:00Z' $$
"""
FEED = "SELECT seq, kind, n, payload FROM feed ORDER BY seq"
NAMES = iter(range(10**9))


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """Yield a connection as a flusher has one."""
    async with database.pool.acquire() as connection:
        yield connection


@pytest.mark.parametrize("by_copy", [False, True])
async def test_rows_are_stored_exactly_when_written_by_insert_or_by_copy(connection: Connection, by_copy: bool) -> None:
    values = (0.1, -0.0, 5e-324, 1e100, -1e100, 1 / 3)
    readings = [reading("pi1", T0 + number, t=value) for number, value in enumerate(values)]
    (receipt,) = await _flush(connection, upload(*readings), by_copy=by_copy)
    assert (receipt.accepted, receipt.duplicates) == (6, 0)
    rows = await connection.fetch("SELECT to_us(time) AS us, value FROM reading ORDER BY time")
    assert [(row["us"], repr(row["value"])) for row in rows] == [
        (T0 + number, repr(value + 0.0))
        for number, value in enumerate(values)  # -0 is 0
    ]


async def test_first_value_is_kept_and_latest_when_another_comes_for_the_same_time(connection: Connection) -> None:
    await _flush(connection, upload(reading("pi1", T0, t=1)))
    (receipt,) = await _flush(connection, upload(reading("pi1", T0, t=2)))
    assert receipt == receipt_of(None, 0, 1)
    first, second = await _flush(
        connection, upload(reading("pi1", T0 + 1, t=3)), upload(reading("pi1", T0 + 1, t=4), reading("pi1", T0, t=4))
    )
    assert (first.accepted, first.duplicates, second.accepted, second.duplicates, second.seq) == (1, 0, 0, 2, None)
    assert await _states(connection) == [("pi1", "t", T0 + 1, 3.0)]


async def test_latest_is_the_newest_reading_when_older_ones_come_after_it(connection: Connection) -> None:
    for at, value in ((T0, 1), (T0 + SECOND, 2), (T0 - DAY, 3), (T0 + SECOND - 1, 4)):
        await _flush(connection, upload(reading("pi1", at, t=value)))
    assert await _states(connection) == [("pi1", "t", T0 + SECOND, 2.0)]


async def test_late_days_are_stored_only_when_readings_are_behind_the_watermark(
    connection: Connection,
) -> None:
    await connection.execute(WATERMARK)
    seven = T0 - HOUR
    late_days = "SELECT array_agg(day ORDER BY id) FROM late_day"
    await _flush(connection, upload(reading("pi1", seven), reading("pi1", T0)))
    assert await connection.fetchval(late_days) is None
    await _flush(connection, upload(*(reading("pi1", at) for at in (T0 + 1, seven - 1, seven - DAY, seven - DAY - 1))))
    assert await connection.fetchval(late_days) == [date(2026, 1, 30), date(2026, 1, 31)]
    await _flush(connection, upload(*(reading("pi1", at) for at in (seven - 1, seven - DAY))))
    assert len(await connection.fetchval(late_days)) == 2


async def test_feed_gets_one_row_for_a_flush_and_none_when_nothing_is_new(connection: Connection) -> None:
    uploads = [upload(reading("pi1", T0, t=1, h=2)), upload(reading("pi2", T0 + 1, t=3), reading("pi1", T0 - 1, t=4))]
    receipts = await _flush(connection, *uploads)
    again = await _flush(connection, *uploads)
    assert [(receipt.accepted, receipt.duplicates) for receipt in receipts + again] == [(2, 0), (2, 0), (0, 2), (0, 2)]
    (row,) = await connection.fetch(FEED)
    assert [receipt.seq for receipt in receipts + again] == [row["seq"], row["seq"], None, None]
    assert (row["kind"], row["n"]) == ("readings", 4)
    assert msgspec.json.decode(row["payload"]) == {
        "readings": [
            {"sensor": "pi1", "time": "2026-01-31T07:59:59.999999Z", "values": {"t": 4.0}},
            {"sensor": "pi1", "time": "2026-01-31T08:00:00Z", "values": {"t": 1.0, "h": 2.0}},
            {"sensor": "pi2", "time": "2026-01-31T08:00:00.000001Z", "values": {"t": 3.0}},
        ]
    }


async def test_feed_row_has_only_new_values_when_an_upload_has_stored_ones_too(connection: Connection) -> None:
    await _flush(connection, upload(reading("pi1", T0, t=1)))
    await _flush(connection, upload(reading("pi1", T0, t=9, h=2), reading("pi1", T0 + 1, t=3)))
    _, row = await connection.fetch(FEED)
    assert (row["n"], msgspec.json.decode(row["payload"])["readings"]) == (
        2,
        [
            {"sensor": "pi1", "time": "2026-01-31T08:00:00Z", "values": {"h": 2.0}},
            {"sensor": "pi1", "time": "2026-01-31T08:00:00.000001Z", "values": {"t": 3.0}},
        ],
    )


async def test_feed_row_is_whole_at_the_limit_and_has_only_the_newest_beyond_it(
    connection: Connection,
) -> None:
    readings = [reading("pi1", T0 - number * SECOND, t=number) for number in range(FRAME_VALUES_LIMIT + 1)]
    await _flush(connection, upload(*readings[:-1]))
    await _flush(connection, upload(reading("pi2", T0, h=7), *(reading("pi2", item.time_us, t=1) for item in readings)))
    whole, cut = (msgspec.json.decode(row["payload"]) for row in await connection.fetch(FEED))
    assert (len(whole["readings"]), "truncated" in whole) == (2_500, False)
    assert cut == {
        "readings": [{"sensor": "pi2", "time": "2026-01-31T08:00:00Z", "values": {"t": 1.0, "h": 7.0}}],
        "truncated": {"omitted": 2_500, "from": "2026-01-31T07:18:20Z", "to": "2026-01-31T08:00:00Z"},
    }


async def test_dirty_summaries_are_separate_for_late_and_fresh_readings(connection: Connection) -> None:
    await _flush(
        connection,
        upload(
            *(reading("pi1", T0 - number * MINUTE, t=value) for number, value in ((0, 1), (1, -2), (4, 3))),
            *(reading("pi1", T0 - number * DAY, t=value) for number, value in ((1, 8), (3, 9))),
            reading("pi2", T0, t=5),
            reading("pi2", T0 - DAY, t=6),
        ),
    )
    await _flush(connection, upload(reading("pi1", T0, t=1)))
    rows = await connection.fetch("SELECT summaries, late FROM dirty ORDER BY late")
    assert [row["late"] for row in rows] == [False, True]
    fresh, late = (unpack(row["summaries"]) for row in rows)
    assert dict(fresh.items()) == {
        1: Summary(3, T0 - 4 * MINUTE, T0, -2.0, 3.0, 3 * MINUTE),
        2: Summary(1, T0, T0, 5.0, 5.0, 0),
    }
    assert dict(late.items()) == {
        1: Summary(2, T0 - 3 * DAY, T0 - DAY, 8.0, 9.0, 2 * DAY),
        2: Summary(1, T0 - DAY, T0 - DAY, 6.0, 6.0, 0),
    }


async def test_legacy_records_are_stored_when_a_reading_has_all_three_metrics(
    connection: Connection,
) -> None:
    three: Any = {"temperature": 1.0, "humidity": 2.0, "pressure": 3.0}
    first, without = await _outcomes(
        connection,
        upload(reading("pi1", T0, **three, flow=4.0)),
        upload(reading("pi2", T0, temperature=1.0, humidity=2.0)),
    )
    again, second = await _outcomes(
        connection, upload(reading("pi1", T0, **three)), upload(reading("pi1", T0 + 1, **three))
    )
    assert (without.legacy_id, again.legacy_id) == (None, None)
    rows = await connection.fetch(
        "SELECT id, sensor, to_us(time) AS us, temperature, humidity, pressure FROM legacy_reading"
    )
    assert [tuple(row) for row in rows] == [
        (first.legacy_id, "pi1", T0, 1.0, 2.0, 3.0),
        (second.legacy_id, "pi1", T0 + 1, 1.0, 2.0, 3.0),
    ]
    payloads = [msgspec.json.decode(row["payload"]) for row in await connection.fetch(FEED)]
    assert [[record["id"] for record in payload["legacy"]] for payload in payloads] == [
        [first.legacy_id],
        [second.legacy_id],
    ]


async def test_feed_rows_appear_in_order_without_gaps_when_many_write_at_once(database: Database) -> None:
    stop_at = monotonic() + 1.5
    seen: list[int] = []

    async def write(number: int) -> int:
        registry, flushes = SeriesRegistry(), 0
        async with database.pool.acquire() as connection:
            while monotonic() < stop_at:
                await _flush(connection, upload(reading(f"pi{number}", T0 + flushes, t=1)), registry=registry)
                flushes += 1
        return flushes

    async def poll() -> None:
        query = "SELECT seq FROM feed WHERE seq > $1 ORDER BY seq"
        done = False
        while not done:
            done = writing.done()
            seen.extend(row["seq"] for row in await database.pool.fetch(query, seen[-1] if seen else 0))

    writing = asyncio.gather(*(write(number) for number in range(3)))
    await poll()
    assert all(before < after for before, after in pairwise(seen))
    assert len(seen) == sum(await writing) == await database.pool.fetchval("SELECT count(*) FROM feed")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 140), min_size=1, max_size=4),
    copies=st.lists(st.booleans(), min_size=4, max_size=4),
    data=st.data(),
)
async def test_rows_and_states_do_not_depend_on_how_readings_are_divided_into_flushes(
    connection: Connection, sizes: list[int], copies: list[bool], data: st.DataObject
) -> None:
    name = f"pi{next(NAMES)}"
    total = sum(sizes)
    order = data.draw(st.permutations(range(total)))
    readings = [reading(name, T0 - number * HOUR, t=number, h=-number) for number in order]
    registry, start, accepted, duplicates = SeriesRegistry(), 0, 0, 0
    for size, twice in zip(sizes, copies, strict=False):
        again = data.draw(st.integers(0, start))
        uploads = [upload(*readings[start : start + size]), upload(*readings[again:start])]
        for receipt in await _flush(connection, *uploads, *(uploads if twice else []), registry=registry):
            accepted, duplicates = accepted + receipt.accepted, duplicates + receipt.duplicates
        start += size
    assert accepted == 2 * total
    rows = await connection.fetch(
        "SELECT metric, to_us(time) AS us, value FROM reading JOIN series ON series.id = series_id "
        "JOIN sensor ON sensor.id = sensor_id WHERE name = $1",
        name,
    )
    assert {tuple(row) for row in rows} == {
        (metric, T0 - number * HOUR, sign * float(number))
        for number in range(total)
        for metric, sign in (("t", 1), ("h", -1))
    }
    assert [state for state in await _states(connection) if state[0] == name] == [
        (name, "h", T0, 0.0),
        (name, "t", T0, 0.0),
    ]


async def _flush(
    connection: Connection, *uploads: Upload, registry: SeriesRegistry | None = None, by_copy: bool = False
) -> list[Receipt]:
    outcomes = await _outcomes(connection, *uploads, registry=registry, by_copy=by_copy)
    return [outcome.receipt for outcome in outcomes]


async def _outcomes(
    connection: Connection, *uploads: Upload, registry: SeriesRegistry | None = None, by_copy: bool = False
) -> list[Outcome]:
    registry = registry or SeriesRegistry()
    batch = Batch(await registry.register(connection, uploads), registry.series_of)
    return await write_flush(connection, batch, registry, by_copy=by_copy)


async def _states(source: Connection | Pool) -> list[tuple[Any, ...]]:
    rows = await source.fetch(
        "SELECT name, metric, to_us(last_time), last_value FROM series_state JOIN series ON series.id = series_id "
        "JOIN sensor ON sensor.id = sensor_id ORDER BY name, metric"
    )
    return [tuple(row) for row in rows]
