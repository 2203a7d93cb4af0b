"""The writer under faults: a full queue, a database that is away, many flushers, and data that cannot be stored."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest

from app import services
from app.clock import now_us
from app.db.pool import Pool
from app.errors import InvalidRequestError, OverloadedError
from app.http import deadlines
from app.ingest import writer
from app.ingest.bodies import room
from app.ingest.uploads import lanes
from app.ingest.uploads.receipt import Outcome, Receipt
from app.ingest.uploads.upload import VALUE_BYTES, Upload
from app.ingest.writer import Writer
from app.metrics import Metrics
from app.settings import Settings
from app.tasks import supervised
from tests.conftest import API_KEY, Database, Server, running_server, wait_until
from tests.ingest.client import RECORD, Answer, send
from tests.ingest.uploads import reading, receipt_of, upload
from tests.wire import Wire, wire_to

THERMOMETER = {"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}
START_MS = now_us() // 1_000 - 3_600_000
RAISE_ON_666 = """
CREATE FUNCTION refuse_666() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.last_value = 666 {condition} THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_666 BEFORE INSERT OR UPDATE ON series_state
    FOR EACH ROW EXECUTE FUNCTION refuse_666()
"""
TERMINATE_FLUSHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name = 'tidegauge ingest' AND datname = current_database()
"""


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    """Yield a wire to the test's database."""
    async with wire_to(database.dsn) as wire:
        yield wire


@pytest.fixture
async def wired(wire: Wire) -> AsyncIterator[Server]:
    """Yield a server that uses the database through the wire."""
    async with running_server(Settings(database_url=wire.url, api_key=API_KEY)) as server:
        yield server


async def test_uploads_are_refused_while_the_database_is_away_and_accepted_when_it_is_back(
    wired: Server, wire: Wire, database: Database
) -> None:
    assert await _post(wired, 1) == 200
    await wire.cut()
    message = "Nothing was stored. Keep the data and send them again."
    for number in (2, 3):
        answer = await send(wired, _body(number))
        assert (answer.status, answer.retry_after, answer.body["detail"]) == (503, "5", message)
        assert answer.body["type"] == "/problems/database_unavailable"
        answer = await send(wired, THERMOMETER, RECORD)
        assert (answer.status, answer.retry_after, answer.body) == (503, "5", {"detail": message})
    await wire.mend()
    async with asyncio.timeout(20):
        while await _post(wired, 2) != 200:
            pass
    assert await _stored(database.pool) == {1, 2}
    assert await database.pool.fetchval("SELECT count(*) FROM legacy_reading") == 0


async def test_upload_is_refused_in_time_when_the_network_loses_the_database(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.UPLOAD_WITHIN_S + 1 <= 30
    monkeypatch.setattr(services, "FLUSHERS", 1)  # a second one would have to connect first, which takes 5 s to fail
    async with running_server(Settings(database_url=wire.url, api_key=API_KEY)) as server, asyncio.timeout(20):
        assert await _post(server, 1) == 200
        server.services.ingest.writer.within_s = 0.2
        wire.freeze()
        answer = await send(server, _body(2))
        assert (answer.status, answer.retry_after) == (503, "5")
        assert answer.body["detail"] == (
            "The upload may have been stored. Keep the data and send them again: what is stored already is not stored "
            "twice."
        )
        await wire.mend()
        server.services.ingest.writer.within_s = 20
        assert await _post(server, 3) == 200
        # The call may have reached the database before its answer was lost: sending it again is safe.
        assert await _post(server, 2) == 200
    assert await _stored(database.pool) == {1, 2, 3}
    assert await database.pool.fetchval("SELECT sum(n) FROM feed") == 3


@pytest.mark.parametrize(
    ("body", "headers", "path", "advice"),
    [
        ([{"sensor": "pi1", "values": {"t": 2}}], {}, "/api/v1/readings", "sent again, they may be stored twice. With"),
        (
            [{"sensor": "pi1", "values": {"t": 2}}],
            {"Idempotency_Key": "k"},
            "/api/v1/readings",
            "what is stored already is not stored twice",
        ),
        (THERMOMETER, {}, RECORD, "It has no time of its own: sent again, it may be stored twice"),
    ],
    ids=["untimed", "untimed with a key", "legacy"],
)
async def test_upload_is_told_whether_sending_it_again_is_safe_when_its_answer_was_lost(
    wire: Wire, database: Database, body: Any, headers: dict[str, str], path: str, advice: str
) -> None:
    async with running_server(Settings(database_url=wire.url, api_key=API_KEY)) as server, asyncio.timeout(20):
        for _ in range(4):  # both flushers are connected, and the sensors known
            assert await _post(server, 1) == 200
            assert (await send(server, THERMOMETER, RECORD)).status == 201
        async with _stalled(database):
            sent = asyncio.create_task(send(server, body, path, **headers))
            await _until_flushing(database)
            await wire.cut()
            answer = await sent
    assert (answer.status, answer.retry_after) == (503, "5")
    assert "may have been stored." in answer.body["detail"]
    assert advice in answer.body["detail"]


async def test_uploads_are_refused_as_not_stored_when_no_flusher_takes_them_in_time(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        assert await _post(server, number) == 200
    monkeypatch.setattr(lanes, "FLUSH_VALUES", 1)
    async with _stalled(database):
        stalled = [asyncio.create_task(send(server, _body(number))) for number in (10, 11)]
        await _until_flushing(database, 2)
        server.services.ingest.writer.within_s = 1.0
        started = monotonic()
        answers = await asyncio.gather(*(send(server, _body(number)) for number in range(20, 25)))
        assert monotonic() - started < 2.5
    for answer in answers:
        assert (answer.status, answer.retry_after) == (503, "5")
        assert answer.body["detail"] == "Nothing was stored. Keep the data and send them again."
    assert [(await each).status for each in stalled] == [200, 200]
    assert await _stored(database.pool) == {0, 1, 2, 3, 10, 11}


async def test_bulk_upload_is_refused_in_time_when_the_network_does_not_take_its_copy(
    wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "FLUSHERS", 1)
    first, bulk = ([_reading(number) for number in range(1_000, end)] for end in (2_000, 101_000))
    async with running_server(Settings(database_url=wire.url, api_key=API_KEY)) as server, asyncio.timeout(40):
        assert (await send(server, first)).status == 200  # large uploads have a connection of their own
        server.services.ingest.writer.within_s = 3.0
        wire.freeze()
        answer = await send(server, msgspec.json.encode(bulk))
        assert (answer.status, answer.body["detail"]) == (
            503,
            "Nothing was stored. Keep the data and send them again.",
        )
        await wire.mend()
        server.services.ingest.writer.within_s = 20
        assert await _post(server, 2) == 200
    assert await _stored(database.pool) == {2, *range(1_000, 2_000)}


async def test_acknowledged_readings_are_stored_when_flushers_are_killed_repeatedly(
    server: Server, database: Database
) -> None:
    acknowledged: set[int] = set()
    refused: set[int] = set()
    killed = 0

    async def keep_sending(numbers: Iterator[int]) -> None:
        while killed <= 10 or not acknowledged:
            number = next(numbers)
            status = await _post(server, number)
            assert status in (200, 503)
            (acknowledged if status == 200 else refused).add(number)

    async def kill() -> None:
        nonlocal killed
        while killed <= 10:
            killed += sum(row[0] for row in await database.pool.fetch(TERMINATE_FLUSHERS))
            await asyncio.sleep(0.1)  # a flusher needs some time to connect again

    numbers = iter(range(10**9))
    await asyncio.gather(kill(), *(keep_sending(numbers) for _ in range(8)))
    assert acknowledged <= await _stored(database.pool)
    async with asyncio.timeout(20):
        for number in refused:
            while await _post(server, number) != 200:  # the last kill may only now be noticed
                pass
    assert await _stored(database.pool) == acknowledged | refused
    assert await database.pool.fetchval("SELECT sum(n) FROM feed") == len(acknowledged | refused)


async def test_uploads_are_refused_with_retry_after_when_the_queue_is_full(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _post(server, 0) == 200  # the sensor is known before anything stalls
    monkeypatch.setattr(lanes, "FLUSH_VALUES", 5)
    monkeypatch.setattr(writer, "QUEUE_VALUES", 10 * writer.SMALL_PART)
    async with _stalled(database):
        posts = [asyncio.create_task(send(server, _body(number))) for number in range(1, 41)]
        await wait_until(lambda: sum(post.done() for post in posts) >= 20)
    answers = await asyncio.gather(*posts)
    for answer in answers:
        if answer.status == 503:
            assert (answer.retry_after, answer.body["type"]) == ("1", "/problems/overloaded")
            assert "values wait to be stored already. Keep the data and send them again." in answer.body["detail"]
    acknowledged = {number for number, answer in enumerate(answers, start=1) if answer.status == 200}
    # Ten values wait, and one or two flushes are running, with at most five values each.
    assert 11 <= len(acknowledged) <= 20
    assert await _stored(database.pool) == {0, *acknowledged}


async def test_uploads_are_refused_when_waiting_ones_take_too_many_bytes(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _post(server, 0) == 200  # the sensor is known before anything stalls
    monkeypatch.setattr(lanes, "FLUSH_VALUES", 1)
    monkeypatch.setattr(writer, "QUEUE_BYTES", 3 * VALUE_BYTES * writer.SMALL_PART)
    async with _stalled(database):
        posts = [asyncio.create_task(send(server, _body(number))) for number in range(1, 21)]
        await wait_until(lambda: sum(post.done() for post in posts) >= 15)
    answers = await asyncio.gather(*posts)
    # Three uploads wait, and one or two flushes of one upload each are running.
    assert sum(answer.status == 200 for answer in answers) in (4, 5)
    assert {answer.status for answer in answers} == {200, 503}


async def test_uploads_are_refused_when_too_much_is_being_received(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BODIES_LIMIT", 1_000)
    large = b" " * 200 + msgspec.json.encode(_body(1))
    finish = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b" " * 900
        await finish.wait()
        yield msgspec.json.encode(_body(2))

    slow = asyncio.create_task(server.http.post("/api/v1/readings", data=slow_body()))
    async with asyncio.timeout(20):
        while (refused := await send(server, large)).status == 200:  # until the first piece of the slow one has come
            pass
    assert (refused.status, refused.retry_after) == (503, "1")
    assert "are being received already. Keep the data and send them again." in refused.body["detail"]
    finish.set()
    assert (await slow).status == 200
    assert (await send(server, large)).status == 200


async def test_body_gives_its_room_back_when_its_client_sends_no_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BODIES_LIMIT", 1_000)
    monkeypatch.setattr(deadlines, "PIECE_WITHIN_S", 0.1)
    never = asyncio.Event()

    async def stalled_body() -> AsyncIterator[bytes]:
        yield b" " * 900
        await never.wait()

    async with server.http.post("/api/v1/readings", data=stalled_body()) as response:
        assert response.status == 408
        assert (await response.json())["type"] == "/problems/slow_body"
    assert (await send(server, b" " * 900 + msgspec.json.encode(_body(1)))).status == 200


async def test_upload_larger_than_the_queue_is_accepted_when_nothing_waits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_VALUES", 10)
    assert (await server.post_readings([{"sensor": f"pi{n}", "values": {"t": 1}} for n in range(500)])).status == 200


async def test_flushers_neither_deadlock_nor_miscount_when_uploads_overlap(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY)
    async with running_server(settings) as first, running_server(settings) as second:
        counts, rows = await _send_overlapping(first, second, seconds=6)
        # A deadlock would be hidden by the retry that follows it.
        retries = [server.services.metrics.flush_retries.labels("40P01")._value.get() for server in (first, second)]
    assert retries == [0, 0]
    assert counts["answers"] > 50
    stored = await database.pool.fetch(
        "SELECT sensor.name, metric, to_us(time) AS us, value FROM reading JOIN series ON series.id = series_id "
        "JOIN sensor ON sensor.id = sensor_id"
    )
    assert {tuple(row) for row in stored} == rows
    assert counts["accepted"] == len(rows)
    newest = await database.pool.fetch(
        "SELECT count(*) FROM (SELECT series_id, max(time) AS time FROM reading GROUP BY 1) AS newest "
        "JOIN reading USING (series_id, time) JOIN series_state AS state USING (series_id) "
        "WHERE (state.last_time, state.last_value) <> (newest.time, reading.value)"
    )
    assert [tuple(row) for row in newest] == [(0,)]
    assert await database.pool.fetchval("SELECT sum(n) FROM feed") == len(rows)


async def test_bulk_upload_counts_each_value_once_when_some_are_stored(server: Server) -> None:
    parts = (range(350), range(300, 700), range(700), range(700, 1_000), range(1_000, 1_300), range(1_000, 1_300))
    answers = [(await send(server, [_reading(number) for number in part])).body for part in parts]
    assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [
        (350, 0), (350, 50), (0, 700), (300, 0), (300, 0), (0, 300)
    ]  # fmt: skip
    assert [answer["seq"] is None for answer in answers] == [False, False, True, False, False, True]
    async with server.http.get("/metrics") as response:
        # The second and the last part were tried by COPY. The third was not, because the one before was known in part.
        assert 'tidegauge_flush_retries_total{sqlstate="23505"} 2.0' in await response.text()


@asynccontextmanager
async def _stuck_flush(server: Server, database: Database) -> AsyncIterator[asyncio.Task[aiohttp.ClientResponse]]:
    """Let a flush of five values of the sensor `held` wait for a lock until the block ends; yield its upload."""
    first, second = ({"sensor": "held", "values": {f"t{metric}": n for metric in range(5)}} for n in (1, 2))
    assert (await server.post_readings(first)).status == 200
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM series_state FOR UPDATE")
        held = asyncio.create_task(server.post_readings(second))
        await wait_until(lambda: server.services.ingest.writer.oldest_flush_s > 0)
        yield held


async def _post_one_by_one(server: Server, count: int) -> list[asyncio.Task[aiohttp.ClientResponse]]:
    """Post uploads of one value, each once the one before waits to be stored."""
    posted = []
    for number in range(count):
        posted.append(asyncio.create_task(server.post_readings({"sensor": f"pi{number}", "values": {"t": 1}})))
        await wait_until(lambda: server.services.ingest.writer.waiting_uploads == len(posted))
    return posted


async def test_small_uploads_are_stored_together_when_the_flush_under_way_has_ended(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GATHERED_WITHIN_S", 60.0)
    async with _stuck_flush(server, database) as held:
        others = await _post_one_by_one(server, 4)
    assert {(await answer.json())["seq"] for answer in await asyncio.gather(*others)} == {3}
    assert (await held).status == 200


async def test_small_uploads_are_stored_together_when_they_are_as_many_as_those_under_way(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GATHERED_WITHIN_S", 60.0)
    async with _stuck_flush(server, database) as held:
        others = await _post_one_by_one(server, 4)
        last = await server.post_readings({"sensor": "last", "values": {"t": 1}})
        assert {(await answer.json())["seq"] for answer in [last, *await asyncio.gather(*others)]} == {2}
        assert not held.done()
    assert (await held).status == 200


async def test_small_upload_is_stored_when_the_flush_under_way_hangs(server: Server, database: Database) -> None:
    async with _stuck_flush(server, database) as held:
        other = await server.post_readings({"sensor": "pi1", "values": {"t": 1}})
        assert (other.status, held.done()) == (200, False)
    assert (await held).status == 200


async def test_small_upload_is_stored_at_once_when_large_ones_wait(server: Server, database: Database) -> None:
    large = [{"sensor": "held", "time": START_MS + n, "values": {"t": 1}} for n in range(lanes.SMALL_UPLOAD_VALUES)]
    assert (await server.post_readings({"sensor": "held", "values": {"t": 1}})).status == 200
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM series_state FOR UPDATE")
        held = [asyncio.create_task(server.post_readings(large)) for _ in range(30)]
        await wait_until(lambda: server.services.ingest.writer.waiting_uploads > 0)
        for number in range(5):
            assert (await server.post_readings({"sensor": f"pi{number}", "values": {"t": 1}})).status == 200
        assert not any(each.done() for each in held)
    assert {(await each).status for each in held} == {200}


async def test_small_upload_is_stored_when_so_many_large_ones_wait_that_more_are_refused(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = lanes.SMALL_UPLOAD_VALUES
    large = [{"sensor": "held", "time": START_MS + n, "values": {"t": 1}} for n in range(size)]
    assert (await server.post_readings({"sensor": "held", "values": {"t": 1}})).status == 200
    monkeypatch.setattr(lanes, "FLUSH_VALUES", size)
    monkeypatch.setattr(writer, "QUEUE_VALUES", 2 * size)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM series_state FOR UPDATE")
        held = [asyncio.create_task(server.post_readings(large)) for _ in range(10)]
        await wait_until(lambda: sum(each.done() for each in held) >= 6)
        assert (await server.post_readings({"sensor": "pi1", "values": {"t": 1}})).status == 200
    assert sorted({(await each).status for each in held}) == [200, 503]


async def test_large_upload_is_stored_at_once_when_small_ones_are_under_way(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GATHERED_WITHIN_S", 60.0)
    readings = [{"sensor": "pi1", "time": START_MS + n, "values": {"t": 1}} for n in range(lanes.SMALL_UPLOAD_VALUES)]
    async with _stuck_flush(server, database) as held:
        assert ((await server.post_readings(readings)).status, held.done()) == (200, False)


async def test_other_uploads_of_a_flush_are_stored_when_one_cannot_be_stored(database: Database) -> None:
    await database.pool.execute(RAISE_ON_666.format(sqlstate="22003", condition=""))
    results = await _flush_together(database, *(upload(reading(f"pi{value}", t=value)) for value in (1, 666, 3)))
    assert isinstance(results[1], InvalidRequestError)
    assert str(results[1]) == "The database cannot store this upload: refused"
    assert [result.accepted for result in (results[0], results[2]) if isinstance(result, Receipt)] == [1, 1]
    values = await database.pool.fetch("SELECT value FROM reading ORDER BY value")
    assert [row["value"] for row in values] == [1.0, 3.0]


async def test_upload_is_stored_when_it_exceeds_the_decompression_limit_of_the_columnstore(database: Database) -> None:
    limit = "AND current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction') <> '0'"
    await database.pool.execute(RAISE_ON_666.format(sqlstate="53400", condition=limit))
    results = await _flush_together(database, *(upload(reading(f"pi{value}", t=value)) for value in (1, 666, 3)))
    assert [result.accepted for result in results if isinstance(result, Receipt)] == [1, 1, 1]


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03", "57014", "25P03", "53200"])
async def test_upload_is_refused_as_overload_when_a_database_error_is_passing(
    database: Database, sqlstate: str
) -> None:
    await database.pool.execute(RAISE_ON_666.format(sqlstate=sqlstate, condition=""))
    (result,) = await _flush_together(database, upload(reading("pi1", t=666)))
    assert isinstance(result, OverloadedError)
    assert str(result) == "The database was too busy to store the upload. Keep the data and send them again."
    assert await database.pool.fetchval("SELECT count(*) FROM reading") == 0


async def test_small_flush_is_stored_by_the_same_call_when_it_was_in_a_deadlock_twice(database: Database) -> None:
    await database.pool.execute("CREATE SEQUENCE attempt; GRANT USAGE ON SEQUENCE attempt TO tidegauge_app")
    await database.pool.execute(RAISE_ON_666.format(sqlstate="40P01", condition="AND nextval('attempt') <= 2"))
    metrics = Metrics()
    (result,) = await _flush_together(database, upload(reading("pi1", t=666)), metrics=metrics)
    assert result == receipt_of(1, 1, 0)
    assert metrics.flush_retries.labels("40P01")._value.get() == 2
    assert await _stored(database.pool) == {666}


async def test_small_flush_is_stored_in_the_general_way_when_only_some_readings_are_new(database: Database) -> None:
    metrics = Metrics()
    await _flush_together(database, upload(reading("pi1", t=1)))
    first, second = await _flush_together(
        database, upload(reading("pi1", t=2)), upload(reading("pi2", t=3)), metrics=metrics
    )
    assert (first, second) == (receipt_of(None, 0, 1), receipt_of(2, 1, 0))
    assert metrics.flush_retries.labels("TG001")._value.get() == 1
    assert await _stored(database.pool) == {1, 3}


async def test_upload_is_refused_when_the_commit_of_a_small_flush_fails(database: Database) -> None:
    await database.pool.execute(
        """CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '40001'; END $$;
           CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON series_state
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()"""
    )
    (result,) = await _flush_together(database, upload(reading("pi1", t=1)))
    assert isinstance(result, OverloadedError)
    assert await _stored(database.pool) == set()


async def test_error_is_passed_on_when_it_is_not_passing(database: Database) -> None:
    await database.pool.execute("ALTER TABLE series_state RENAME TO elsewhere")
    (result,) = await _flush_together(database, upload(reading("pi1")))
    assert isinstance(result, asyncpg.UndefinedTableError)


def _reading(number: int) -> dict[str, Any]:
    """Return a reading whose value and time depend on its number."""
    return {"sensor": "pi1", "time": START_MS + number, "values": {"t": number}}


def _body(number: int) -> list[dict[str, Any]]:
    return [_reading(number)]


async def _post(server: Server, number: int) -> int:
    return (await send(server, _body(number))).status


async def _stored(pool: Pool) -> set[int]:
    return {int(row["value"]) for row in await pool.fetch("SELECT value FROM reading")}


@asynccontextmanager
async def _stalled(database: Database) -> AsyncIterator[None]:
    """Block all flushes until the block ends."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE series_state")
        yield


async def _until_flushing(database: Database, count: int = 1) -> None:
    """Wait until a number of flushes wait for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND application_name = 'tidegauge ingest'"
    )
    async with asyncio.timeout(10):
        while await database.pool.fetchval(waiting) < count:  # noqa: ASYNC110 -- the database sends no event
            await asyncio.sleep(0.01)


async def _flush_together(
    database: Database, *uploads: Upload, metrics: Metrics | None = None
) -> list[Receipt | BaseException]:
    """Store uploads in one flush: they are queued before the flusher starts. Return their receipts or errors."""
    new_writer = Writer(metrics or Metrics())
    waiting = [asyncio.create_task(new_writer.store(each)) for each in uploads]
    await asyncio.sleep(0)
    async with supervised(new_writer.flushers(database.dsn, 1)), asyncio.timeout(20):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    return [outcome.receipt if isinstance(outcome, Outcome) else outcome for outcome in outcomes]


async def _send_overlapping(
    first: Server, second: Server, seconds: float
) -> tuple[Counter[str], set[tuple[str, str, int, float]]]:
    """Send readings of a few series and days from many clients at once, some under shared Idempotency-Keys.

    Return the sums over all answers, in which each Idempotency-Key counts once, and all rows sent.
    """
    random = Random(1)
    stop_at = monotonic() + seconds
    counts: Counter[str] = Counter()
    rows: set[tuple[str, str, int, float]] = set()
    answers: dict[str, Answer] = {}
    keyed = {f"key {number}": _overlapping_body(random, rows) for number in range(60)}

    async def keep_sending(server: Server) -> None:
        while monotonic() < stop_at:
            key = random.choice(list(keyed)) if random.random() < 0.3 else None
            body = keyed[key] if key else _overlapping_body(random, rows)
            headers = {"Idempotency_Key": key} if key else {}
            answer = await send(server, body, **headers)
            assert answer.status == 200, answer
            counts["answers"] += 1
            if key is None or answers.setdefault(key, answer) is answer:
                counts["accepted"] += answer.body["accepted"]
            assert key is None or answers[key] == answer

    await asyncio.gather(*(keep_sending(server) for server in (first, second) for _ in range(6)))
    for key in keyed.keys() - answers.keys():
        counts["accepted"] += (await send(first, keyed[key])).body["accepted"]
    return counts, rows


def _overlapping_body(random: Random, rows: set[tuple[str, str, int, float]]) -> bytes:
    """Return a body of 1 to 200 random readings out of a small set, each always with the same value."""
    readings = []
    for _ in range(random.choice((1, 5, 60, 200))):
        sensor, metric = f"pi{random.randrange(6)}", random.choice("th")
        time_ms = START_MS - random.randrange(5) * 86_400_000 + random.randrange(300)
        value = float(time_ms % 1_000)
        readings.append({"sensor": sensor, "time": time_ms, "values": {metric: value}})
        rows.add((sensor, metric, time_ms * 1_000, value))
    return msgspec.json.encode(readings)
