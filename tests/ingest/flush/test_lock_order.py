"""The order in which flushes take their locks, the same in every way of writing, so that no two of them deadlock.

A transaction of the test holds the row that comes first. Once the flush waits for it, the test takes the rows that come
later: a flush that held one of them by then could be in a deadlock with another, which retries would hide.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from app.ingest.flush.batch import Batch
from app.ingest.flush.small import write_small_flush
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.upload import Idempotency, Upload
from tests.conftest import Database
from tests.ingest.uploads import DAY, T0, reading, upload
from tests.notify.dispatchers import until_one_waits

Way = Literal["insert", "copy", "small"]
WAYS: tuple[Way, ...] = ("insert", "copy", "small")
READING = "INSERT INTO reading (series_id, time, value) VALUES ($1, $2, 0)"
STATE = "SELECT FROM series_state WHERE series_id = $1 FOR UPDATE"
ANSWER = "INSERT INTO idempotency (api_key, key, body_sha256, answer) VALUES ('API_KEY', $1, '', '{}')"
SENSOR = "INSERT INTO sensor (name, created_by) VALUES ($1, 'x')"
SERIES = "INSERT INTO series (sensor_id, metric) VALUES ($1, $2)"
NOON = datetime(2026, 1, 31, 8, tzinfo=UTC)


async def flush(way: Way, database: Database, *uploads: Upload) -> int:
    """Store uploads and return how many values were new."""
    registry = SeriesRegistry()
    async with database.pool.acquire() as connection:
        batch = Batch(await registry.register(connection, uploads), registry.series_of)
        await registry.describe(connection, uploads)
        if way == "small":
            outcomes = await write_small_flush(connection, batch, registry)
        else:
            outcomes = await write_flush(connection, batch, registry, by_copy=way == "copy")
        return sum(outcome.receipt.accepted for outcome in outcomes)


async def accepted_in_order(
    way: Way, database: Database, uploads: Sequence[Upload], query: str, *rows: Sequence[object]
) -> int:
    """Take the first row, then the later ones while a flush waits for the first; return what the flush stores then."""
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        await connection.execute(query, *rows[0])
        flushing = asyncio.create_task(flush(way, database, *uploads))
        await until_one_waits(database.pool)
        for row in rows[1:]:
            await connection.execute(query, *row)
        await transaction.rollback()
        return await flushing


@pytest.fixture
async def stored(database: Database) -> Database:
    """A database with the series 1 of `a` and 2 of `b`, and chunks for two days."""
    for sensor in ("a", "b"):
        await flush("insert", database, upload(*(reading(sensor, T0 - days * DAY, t=1) for days in (0, 1))))
    return database


@pytest.mark.parametrize("way", WAYS)
async def test_readings_are_written_by_day_then_series_then_time(way: Way, stored: Database) -> None:
    uploads = [
        upload(reading("b", T0 + 2, t=2), reading("a", T0 + 2, t=2)),
        upload(reading("b", T0 - DAY + 1, t=2), reading("a", T0 + 1, t=2)),
    ]
    second = timedelta(microseconds=1)
    # The later series of the earlier day, then both series of the later day.
    rows = (2, NOON - timedelta(days=1) + second), (1, NOON + second), (1, NOON + 2 * second), (2, NOON + 2 * second)
    assert await accepted_in_order(way, stored, uploads, READING, *rows) == 4


@pytest.mark.parametrize("way", WAYS)
async def test_states_are_written_in_order_of_series(way: Way, stored: Database) -> None:
    # By day, the reading of the later series comes first.
    uploads = [upload(reading("b", T0 - DAY + 1, t=2), reading("a", T0 + 1, t=2))]
    assert await accepted_in_order(way, stored, uploads, STATE, (1,), (2,)) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_answers_are_written_in_order_of_their_keys(way: Way, stored: Database) -> None:
    uploads = [
        upload(reading("a", T0 + number, t=2), idempotency=Idempotency(key, b"x"))
        for number, key in enumerate(("c", "a", "b"), start=1)
    ]
    assert await accepted_in_order(way, stored, uploads, ANSWER, ("a",), ("b",), ("c",)) == 3


async def test_sensors_are_registered_in_order_of_name(database: Database) -> None:
    uploads = [upload(reading("c", T0, t=2), reading("a", T0, t=2)), upload(reading("b", T0, t=2))]
    assert await accepted_in_order("insert", database, uploads, SENSOR, ("a",), ("b",), ("c",)) == 3


async def test_series_are_registered_in_order_of_sensor_and_metric(stored: Database) -> None:
    uploads = [upload(reading("b", T0, y=2, x=2), reading("a", T0, z=2))]
    rows = (1, "z"), (2, "x"), (2, "y")
    assert await accepted_in_order("insert", stored, uploads, SERIES, *rows) == 3


async def test_sensors_are_described_in_order_of_id(stored: Database) -> None:
    def described(tag: str) -> list[Upload]:
        return [upload(reading(name, T0 + 5, {"site": tag}, t=2), gateway="g") for name in ("b", "a")]

    query = "SELECT FROM sensor WHERE id = $1 FOR NO KEY UPDATE"
    assert await accepted_in_order("insert", stored, described("quay"), query, (1,), (2,)) == 2
