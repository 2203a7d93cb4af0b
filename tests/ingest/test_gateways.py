"""Statistics of gateways: nothing is lost or counted twice."""

import asyncio
from typing import Any

import asyncpg
import pytest

from app.db.pool import Pool
from app.errors import UnprocessableError
from app.ingest.gateways import statistics
from app.ingest.gateways.statistics import GatewayLog
from app.ingest.uploads.receipt import Outcome, Receipt
from tests.commands.test_doctor import messages
from tests.conftest import Database, Server
from tests.ingest.uploads import MINUTE, SECOND, T0, key, reading, upload

TERMINATE_BLOCKED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
OUTCOME = Outcome(Receipt(1, 5, 2, [], 3), {"value_not_a_number": 3})


async def test_counts_add_up_when_written_again_and_by_another_process(database: Database) -> None:
    first, second = GatewayLog(), GatewayLog()
    for number, log in enumerate((first, first, second, first)):
        log.note(upload(reading("pi1"), received_us=T0 + number * MINUTE, gateway="roof"), OUTCOME)
        await log.write(database.pool)
        await log.write(database.pool)
    row = await _gateway(database.pool)
    assert (row["api_key"], row["name"]) == ("API_KEY", "roof")
    assert (row["uploads"], row["accepted"], row["duplicates"], row["rejected"]) == (4, 20, 8, 12)
    assert (row["last_upload_at"] - row["first_upload_at"]).total_seconds() == 180
    assert row["intervals_s"] == [60.0, 60.0, 60.0]


async def test_skew_and_lateness_are_those_of_the_last_upload_that_brought_readings(database: Database) -> None:
    log = GatewayLog()
    log.note(upload(reading("pi1", T0 - MINUTE), reading("pi1", T0 + 5 * SECOND), received_us=T0), OUTCOME)
    log.note(upload(received_us=T0 + SECOND), OUTCOME)
    await log.write(database.pool)
    row = await _gateway(database.pool)
    assert (row["skew_s"], row["lateness_s"]) == (-5.0, 60.0)
    log.note(upload(received_us=T0 + 2 * SECOND), OUTCOME)
    await log.write(database.pool)
    row = await _gateway(database.pool)
    assert (row["skew_s"], row["lateness_s"]) == (-5.0, 60.0)


async def test_gateway_is_stored_under_its_keys_label_when_it_has_no_name(database: Database) -> None:
    log = GatewayLog()
    log.note(upload(api_key=key("cellar")), OUTCOME)
    log.note(upload(gateway="cellar"), OUTCOME)
    await log.write(database.pool)
    rows = await database.pool.fetch("SELECT api_key, name FROM gateway ORDER BY api_key")
    assert [tuple(row) for row in rows] == [("API_KEY", "cellar"), ("cellar", "cellar")]


async def test_gateway_is_refused_when_its_key_has_too_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "GATEWAYS_PER_KEY", 2)
    log = GatewayLog()
    for name in ("roof", "cellar", "roof"):
        await log.admit(database.pool, "API_KEY", name)
        log.note(upload(gateway=name), OUTCOME)
    await log.write(database.pool)
    for process in (log, GatewayLog()):
        await process.admit(database.pool, "API_KEY", "cellar")
        await process.admit(database.pool, "other", "attic")
        with pytest.raises(UnprocessableError) as refusal:
            await process.admit(database.pool, "API_KEY", "attic")
        assert str(refusal.value) == (
            "gateway is 'attic', which is new, and the key 'API_KEY' has 2 gateways already; give each gateway one "
            "name that stays, or use another key for some of them"
        )


@pytest.mark.parametrize("written_every", [1, 7, 100])
async def test_last_twenty_intervals_are_kept_however_often_they_are_written(
    database: Database, written_every: int
) -> None:
    log = GatewayLog()
    received_us = T0
    for number in range(1, 41):
        log.note(upload(received_us=received_us), OUTCOME)
        received_us += number * SECOND
        if number % written_every == 0:
            await log.write(database.pool)
    await log.write(database.pool)
    row = await _gateway(database.pool)
    assert row["intervals_s"] == [float(number) for number in range(20, 40)]


async def test_interval_is_never_negative_when_the_clock_was_set_back(database: Database) -> None:
    log = GatewayLog()
    for received_us in (T0, T0 - MINUTE):
        log.note(upload(received_us=received_us), OUTCOME)
    await log.write(database.pool)
    log.note(upload(received_us=T0 - 2 * MINUTE), OUTCOME)
    await log.write(database.pool)
    assert (await _gateway(database.pool))["intervals_s"] == [0.0, 0.0]


async def test_counts_are_kept_when_a_write_fails_while_more_come_in(database: Database) -> None:
    log = GatewayLog()
    log.note(upload(reading("pi1", T0 - SECOND), received_us=T0, gateway="roof"), OUTCOME)
    log.note(upload(gateway="cellar"), OUTCOME)
    async with database.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE gateway")
        writing = asyncio.create_task(log.write(database.pool))
        async with asyncio.timeout(20):
            while not await database.pool.fetch(TERMINATE_BLOCKED):
                pass
        log.note(upload(received_us=T0 + MINUTE, gateway="roof"), OUTCOME)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await writing
    await log.write(database.pool)
    rows = await database.pool.fetch("SELECT name, uploads, accepted, skew_s, intervals_s FROM gateway ORDER BY name")
    assert [tuple(row) for row in rows] == [("cellar", 1, 5, None, []), ("roof", 2, 10, 1.0, [60.0])]


async def test_fields_that_no_format_has_are_counted_and_listed_for_each_gateway(
    server: Server, database: Database
) -> None:
    log = server.services.ingest.gateways
    readings = [{"sensor": "a", "values": {"t": 1}, "rssi": -90}, {"sensor": "a", "values": {"t": 1}, "rssi": -91}]
    await server.post_readings({"gateway": "roof", "readings": readings, "firmware": "1.2"})
    await log.write(database.pool)
    await server.post_readings({"gateway": "roof", "readings": readings[:1]})
    await server.post_readings({"gateway": "cellar", "readings": [{"sensor": "b", "values": {"t": 1}}]})
    await log.write(database.pool)
    listed: Any = await server.get("/api/v1/gateways")
    found = {each["name"]: each for each in listed["items"]}
    assert {name: each["unknown_fields"] for name, each in found.items()} == {
        "roof": {"rssi": 3, "firmware": 1},
        "cellar": {},
    }
    assert (found["roof"]["unknown_fields_at"], found["cellar"]["unknown_fields_at"]) == (
        found["roof"]["last_upload"],
        None,
    )
    notes = await messages(database, "uploads")
    assert notes == [("note", "roof: fields that no format has were left out: firmware, rssi")]
    await database.pool.execute("UPDATE gateway SET unknown_fields_at = now() - INTERVAL '25 hours'")
    assert [state for state, _ in await messages(database, "uploads")] == ["ok"]


async def test_most_frequent_of_the_unknown_fields_are_kept(database: Database) -> None:
    log = GatewayLog()
    for letter in "ab":
        sent = upload()
        for number in range(15):
            sent.rejected.unknown_fields[f"'{letter}{number:02}'"] = 20 - number
        log.note(sent, OUTCOME)
        await log.write(database.pool)
    kept = (await _gateway(database.pool))["unknown_fields"]
    assert kept == {f"{letter}{number:02}": 20 - number for letter in "ab" for number in range(10)}


async def _gateway(pool: Pool) -> Any:
    (row,) = await pool.fetch("SELECT * FROM gateway")
    return row
