"""The queue of records for one client of the replaced sensor server."""

from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.ingest.flush.feed_payload import FeedPayload
from app.live.frames import Frame
from app.live.protocol import CloseCode, Cursor
from app.live.queues import legacy
from app.live.queues.legacy import LegacyRecords
from app.live.queues.waiting import Backlog, ClosedError
from app.metrics import Metrics
from app.model import LegacyRecord
from tests.conftest import Database, Server
from tests.live.clients import Collector

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def frame(seq: int, *ids: int) -> Frame:
    records = [LegacyRecord(number, "s", 1_795_248_000_999_999, 20.5, 60.0, 1013.0, "10.0.0.9") for number in ids]
    return Frame(Cursor("e", seq), "readings", msgspec.json.encode(FeedPayload([], None, records)))


@pytest.fixture
def wire() -> Collector:
    return Collector()


@pytest.fixture
def closings() -> list[ClosedError]:
    return []


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


@pytest.fixture
def records(wire: Collector, backlog: Backlog, closings: list[ClosedError]) -> LegacyRecords:
    return LegacyRecords(SAO_PAULO, wire, backlog, closings.append, Metrics())


async def test_legacy_records_are_sent_in_the_format_of_the_replaced_server(
    records: LegacyRecords, wire: Collector, database: Database
) -> None:
    await records.begin(database.pool)
    records.offer(frame(1, 7))
    records.flush()
    assert wire.messages == [
        {
            "id": 7,
            "temperature": 20.5,
            "humidity": 60.0,
            "pressure": 1013.0,
            "date_recorded": "2026-11-21",
            "time_recorded": "05:00:00",
            "sensor_id": "s",
            "client_ip": "10.0.0.9",
        }
    ]


async def test_legacy_records_begin_with_the_last_stored_one_when_new_ones_come_meanwhile(
    records: LegacyRecords, wire: Collector, database: Database, server: Server
) -> None:
    body = {"sensor_id": "s", "temperature": 20.5, "humidity": 60, "pressure": 1013}
    async with server.http.post("/api/temperature_reading", json=body) as response:
        assert response.status == 201, await response.text()
    stored = await database.pool.fetchval("SELECT max(id) FROM legacy_reading")
    records.offer(frame(1, stored, stored + 1))
    records.flush()
    assert wire.messages == []
    await records.begin(database.pool)
    assert [message["id"] for message in wire.messages] == [stored, stored + 1]


async def test_legacy_records_close_the_connection_once_when_the_client_is_too_slow(
    records: LegacyRecords, backlog: Backlog, closings: list[ClosedError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "QUEUE_BYTES", 1_000)
    for seq in range(1, 6):
        records.offer(frame(seq, seq * 2, seq * 2 + 1))
    assert [(error.code, error.reason) for error in closings] == [(CloseCode.TRY_AGAIN_LATER, "too slow")]
    assert backlog.bytes == 0
