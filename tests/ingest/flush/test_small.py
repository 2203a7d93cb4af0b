"""The function of small flushes: the same rows, receipts and feed rows as the general transaction, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from time import monotonic
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.edition import detect_edition
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch
from app.ingest.flush.small import NotUniformError, is_small, write_small_flush
from app.ingest.flush.transaction import write_flush
from app.ingest.imports.run import IMPORT_KEY
from app.ingest.series.registry import SensorsChangedError, SeriesRegistry
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Outcome, Rejected
from app.ingest.uploads.upload import Idempotency, Upload
from app.model import Reading
from tests.conftest import Database, copied
from tests.ingest.uploads import DAY, HOUR, MINUTE, T0, key, reading, receipt_of, upload

THREE: Any = {"temperature": 1.0, "humidity": 2.0, "pressure": 3.0}
NAMES = iter(range(10**9))
#: Simulates aggregates that are complete up to this time, so that some of the readings are late for them.
WATERMARK = """
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT TIMESTAMPTZ '2026-01-31T07:00:00Z' $$
"""
#: All that a flush writes, without the wall clock.
WRITTEN = (
    "SELECT series_id, time, value FROM reading ORDER BY 1, 2",
    "SELECT series_id, last_time, last_value FROM series_state ORDER BY 1",
    "SELECT summaries, late FROM dirty ORDER BY id",
    "SELECT day FROM late_day ORDER BY id",
    "SELECT id, sensor, time, temperature, humidity, pressure, client_ip FROM legacy_reading ORDER BY id",
    "SELECT seq, kind, n, payload FROM feed ORDER BY id",
    "SELECT api_key, key, body_sha256, answer, feed_id, seq FROM idempotency ORDER BY 1, 2",
)
READINGS = st.builds(
    lambda sensor, time_us, values: (sensor, time_us, values),
    st.sampled_from(["pi1", 'pi"2', "pi3"]),
    st.sampled_from([T0, T0 + 1, T0 - MINUTE, T0 - HOUR, T0 - HOUR - 1, T0 - DAY]),
    st.dictionaries(st.sampled_from(["t", "h"]), st.floats(-9, 9), min_size=1) | st.just(THREE),
)
FLUSHES = st.lists(
    st.lists(st.tuples(st.lists(READINGS, max_size=5), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=6
)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """Yield a connection as a flusher has one."""
    async with database.pool.acquire() as connection:
        yield connection


@pytest.fixture
async def other_connection(server_dsn: str, template: str) -> AsyncIterator[Connection]:
    """Yield a connection to another database that is equal."""
    async with copied(server_dsn, template) as dsn:
        connection = await connect(dsn)
        yield connection
        await connection.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flushes=FLUSHES, data=st.data())
async def test_function_and_general_transaction_write_and_answer_the_same(
    connection: Connection, other_connection: Connection, flushes: list[Any], data: st.DataObject
) -> None:
    prefix = f"{next(NAMES)} "
    made = [[_upload(prefix, *made) for made in uploads] for uploads in flushes]
    order = data.draw(st.permutations([*made, made[0]]))  # the first one comes twice
    for each in (connection, other_connection):
        await each.execute(WATERMARK)
    registry, other_registry = SeriesRegistry(), SeriesRegistry()
    for uploads in order:
        fresh = [each for each in uploads if not await _is_answered(connection, each)]
        outcomes = await _flush(connection, registry, *fresh)
        other_outcomes = await _flush_generally(other_connection, other_registry, *fresh)
        assert outcomes == other_outcomes
    for query in WRITTEN:
        rows, other_rows = await connection.fetch(query), await other_connection.fetch(query)
        assert [tuple(row) for row in rows] == [tuple(row) for row in other_rows]


async def test_all_is_written_and_seq_returned_when_everything_is_new(connection: Connection) -> None:
    asked = Idempotency("a", b"\x01" * 32)
    outcomes = await _flush(
        connection,
        SeriesRegistry(),
        upload(reading("pi1", T0, t=1), idempotency=asked),
        upload(reading("pi1", T0, t=2), reading("pi1", T0 - DAY, t=3)),
    )
    assert outcomes == [Outcome(receipt_of(1, 1, 0)), Outcome(receipt_of(1, 1, 1), conflicts=1)]
    rows = await connection.fetch("SELECT to_us(time), value FROM reading ORDER BY time")
    assert [tuple(row) for row in rows] == [(T0 - DAY, 3.0), (T0, 1.0)]
    (feed,) = await connection.fetch("SELECT seq, kind, n, payload FROM feed")
    assert tuple(feed)[:3] == (1, "readings", 2)
    assert msgspec.json.decode(feed["payload"]) == {
        "readings": [
            {"sensor": "pi1", "time": "2026-01-30T08:00:00Z", "values": {"t": 3.0}},
            {"sensor": "pi1", "time": "2026-01-31T08:00:00Z", "values": {"t": 1.0}},
        ]
    }
    (answer,) = await connection.fetch("SELECT api_key, key, body_sha256, answer, seq FROM idempotency")
    answered: dict[str, Any] = {"seq": None, "accepted": 1, "duplicates": 0, "rejected": [], "rejected_count": 0}
    answered["server_time"] = "2026-01-31T08:00:00Z"
    assert tuple(answer) == ("API_KEY", "a", b"\x01" * 32, answered, 1)


async def test_only_the_answer_is_written_when_nothing_is_new(connection: Connection) -> None:
    registry = SeriesRegistry()
    await _flush(connection, registry, upload(reading("pi1", T0, t=1)))
    before = [await connection.fetch(query) for query in WRITTEN[:-1]]
    (outcome,) = await _flush(
        connection, registry, upload(reading("pi1", T0, t=2), idempotency=Idempotency("a", bytes(32)))
    )
    assert outcome == Outcome(receipt_of(None, 0, 1), conflicts=1)
    assert [await connection.fetch(query) for query in WRITTEN[:-1]] == before
    (answer,) = await connection.fetch("SELECT answer, feed_id, seq FROM idempotency")
    answered: dict[str, Any] = {"seq": None, "accepted": 0, "duplicates": 1, "rejected": [], "rejected_count": 0}
    answered["server_time"] = "2026-01-31T08:00:00Z"
    assert tuple(answer) == (answered, None, None)


async def test_ids_of_legacy_records_are_in_the_payload_and_in_the_outcomes(connection: Connection) -> None:
    uploads = [upload(reading(name, T0, **THREE), wants_legacy_id=True) for name in ("pi2", 'pi"1')]
    outcomes = await _flush(connection, SeriesRegistry(), *uploads)
    assert [outcome.legacy_id for outcome in outcomes] == [2, 1]
    record = {"time_us": T0, **THREE, "client_ip": ""}
    assert msgspec.json.decode(await connection.fetchval("SELECT payload FROM feed"))["legacy"] == [
        {"id": 1, "sensor": 'pi"1', **record},
        {"id": 2, "sensor": "pi2", **record},
    ]
    rows = await connection.fetch("SELECT id, sensor FROM legacy_reading ORDER BY id")
    assert [tuple(row) for row in rows] == [(1, 'pi"1'), (2, "pi2")]


async def test_nothing_is_stored_when_only_some_readings_are_new(connection: Connection) -> None:
    registry = SeriesRegistry()
    await _flush(connection, registry, upload(reading("pi1", T0, t=1)))
    before = [await connection.fetch(query) for query in WRITTEN]
    with pytest.raises(NotUniformError) as raised:
        await _call(connection, registry, upload(reading("pi1", T0, t=1), reading("pi1", T0 + 1, t=1)))
    assert raised.value.sqlstate == "TG001"
    assert [await connection.fetch(query) for query in WRITTEN] == before


async def test_nothing_is_stored_when_an_answer_is_stored_already(connection: Connection) -> None:
    registry, asked = SeriesRegistry(), Idempotency("a", bytes(32))
    await _flush(connection, registry, upload(reading("pi1", T0, t=1), idempotency=asked))
    before = [await connection.fetch(query) for query in WRITTEN]
    with pytest.raises(NotUniformError) as raised:
        await _call(connection, registry, upload(reading("pi1", T0 + 1, t=1), idempotency=asked))
    assert raised.value.sqlstate == "TG002"
    assert [await connection.fetch(query) for query in WRITTEN] == before


@pytest.mark.parametrize("time_us", [T0, T0 + 1])
async def test_nothing_is_stored_when_sensors_have_changed(connection: Connection, time_us: int) -> None:
    registry = SeriesRegistry()
    await _flush(connection, registry, upload(reading("pi1", T0, t=1)))
    before = [await connection.fetch(query) for query in WRITTEN]
    await connection.execute("UPDATE sensor_version SET version = version + 1")
    with pytest.raises(SensorsChangedError):
        await _call(connection, registry, upload(reading("pi1", time_us, t=1), idempotency=Idempotency("a", bytes(32))))
    assert [await connection.fetch(query) for query in WRITTEN] == before


@pytest.mark.parametrize("time_us", [T0, T0 + 1])
async def test_general_transaction_stores_nothing_when_sensors_have_changed(
    connection: Connection, time_us: int
) -> None:
    registry = SeriesRegistry()
    await _flush(connection, registry, upload(reading("pi1", T0, t=1)))
    before = [await connection.fetch(query) for query in WRITTEN]
    uploads = [upload(reading("pi1", time_us, t=1), idempotency=Idempotency("a", bytes(32)))]
    batch = Batch(await registry.register(connection, uploads), registry.series_of)
    await connection.execute("UPDATE sensor_version SET version = version + 1")
    with pytest.raises(SensorsChangedError):
        await write_flush(connection, batch, registry, by_copy=False)
    assert [await connection.fetch(query) for query in WRITTEN] == before


async def test_columnstore_gives_the_same_answers_as_rows(connection: Connection) -> None:
    if await detect_edition(connection) != "community":
        pytest.skip("only Community has a columnstore")
    registry = SeriesRegistry()
    await _flush(connection, registry, upload(reading("pi1", T0, t=1), reading("pi1", T0 + 2, t=2)))
    await connection.fetch("SELECT compress_chunk(show_chunks('reading'))")
    (outcome,) = await _call(connection, registry, upload(reading("pi1", T0, t=3), reading("pi1", T0 + 2, t=3)))
    assert outcome == Outcome(receipt_of(None, 0, 2), conflicts=2)
    with pytest.raises(NotUniformError):
        await _call(connection, registry, upload(reading("pi1", T0, t=3), reading("pi1", T0 + 1, t=3)))
    (outcome,) = await _call(connection, registry, upload(reading("pi1", T0 + 1, t=3), reading("pi1", T0 + 3, t=4)))
    assert outcome == Outcome(receipt_of(2, 2, 0))
    rows = await connection.fetch("SELECT to_us(time), value FROM reading ORDER BY time")
    assert [tuple(row) for row in rows] == [(T0, 1.0), (T0 + 1, 3.0), (T0 + 2, 2.0), (T0 + 3, 4.0)]


async def test_batch_is_small_from_1_to_250_values_without_imports_and_retired_sensors(connection: Connection) -> None:
    registry = SeriesRegistry()

    async def judge(*uploads: Upload) -> bool:
        return is_small(Batch(await registry.register(connection, uploads), registry.series_of), registry)

    assert not await judge(upload())
    assert await judge(upload(*(reading("pi1", T0 + number, t=1) for number in range(250))))
    assert not await judge(upload(*(reading("pi1", T0 + number, t=1) for number in range(251))))
    assert not await judge(
        Upload(Readings.of([Reading("pi1", T0, {"t": 1.0})]), Rejected(), T0, IMPORT_KEY, is_import=True)
    )
    await connection.execute("UPDATE sensor SET retired_at = now()")
    registry = SeriesRegistry()
    assert not await judge(upload(reading("pi1", T0, t=1)))


async def test_polling_reader_misses_no_feed_row_when_four_writers_call_the_function(database: Database) -> None:
    stop_at = monotonic() + 1.5
    seen: list[int] = []

    async def write(number: int) -> int:
        registry, flushes = SeriesRegistry(), 0
        connection = await connect(database.dsn)
        while monotonic() < stop_at:
            (outcome,) = await _call(connection, registry, upload(reading(f"pi{number}", T0 + flushes, t=1)))
            assert await connection.fetchval("SELECT count(*) FROM feed WHERE seq = $1", outcome.receipt.seq) == 1
            flushes += 1
        await connection.close()
        return flushes

    async def poll() -> None:
        query = "SELECT seq FROM feed WHERE seq > $1 ORDER BY seq"
        done = False
        while not done:
            done = writing.done()
            seen.extend(row["seq"] for row in await database.pool.fetch(query, seen[-1] if seen else 0))

    writing = asyncio.gather(*(write(number) for number in range(4)))
    await poll()
    assert all(before < after for before, after in pairwise(seen))
    assert len(seen) == sum(await writing) == await database.pool.fetchval("SELECT count(*) FROM feed")


def _upload(prefix: str, readings: list[tuple[str, int, dict[str, float]]], is_keyed: bool) -> Upload:
    """Return an upload whose key registers two sensors at most, perhaps with an Idempotency-Key of its own."""
    items = [
        Reading(prefix + sensor, time_us, values, index=index)
        for index, (sensor, time_us, values) in enumerate(readings)
    ]
    name = f"{prefix}{next(NAMES)}"
    asked = Idempotency(name, sha256(name.encode()).digest()) if is_keyed else None
    return upload(*items, api_key=key(prefix, sensors=2), idempotency=asked)


async def _is_answered(connection: Connection, sent: Upload) -> bool:
    """Return whether a request would get the stored answer."""
    asked = sent.idempotency
    return (
        asked is not None
        and await connection.fetchval("SELECT count(*) FROM idempotency WHERE key = $1", asked.key) > 0
    )


async def _flush(connection: Connection, registry: SeriesRegistry, *uploads: Upload) -> list[Outcome]:
    """Flush as the writer does: by the function, and if it refuses, by the general transaction."""
    batch = Batch(await registry.register(connection, uploads), registry.series_of)
    if is_small(batch, registry):
        with suppress(NotUniformError):
            return await write_small_flush(connection, batch, registry)
    return await write_flush(connection, batch, registry, by_copy=False)


async def _call(connection: Connection, registry: SeriesRegistry, *uploads: Upload) -> list[Outcome]:
    batch = Batch(await registry.register(connection, uploads), registry.series_of)
    return await write_small_flush(connection, batch, registry)


async def _flush_generally(connection: Connection, registry: SeriesRegistry, *uploads: Upload) -> list[Outcome]:
    batch = Batch(await registry.register(connection, uploads), registry.series_of)
    return await write_flush(connection, batch, registry, by_copy=False)
