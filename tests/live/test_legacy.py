"""The queue of records for one client of the replaced sensor server."""

import json
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.ingest.flush.feed_payload import FeedPayload
from app.live import legacy
from app.live.frames import Frame
from app.live.hub import ClosedError
from app.live.legacy import LegacyRecords
from app.live.protocol import CloseCode, Cursor
from app.metrics import Metrics
from app.model import LegacyRecord

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def frame(seq: int, *ids: int) -> Frame:
    records = [LegacyRecord(number, "s", 1_795_248_000_999_999, 20.5, 60.0, 1013.0, "10.0.0.9") for number in ids]
    return Frame(Cursor("e", seq), "readings", msgspec.json.encode(FeedPayload([], None, records)))


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def closings() -> list[ClosedError]:
    return []


@pytest.fixture
def records(closings: list[ClosedError]) -> LegacyRecords:
    return LegacyRecords(SAO_PAULO, closings.append, Metrics())


async def test_legacy_records_are_sent_in_the_format_of_the_replaced_server(
    records: LegacyRecords, sent: list[str]
) -> None:
    records.offer(frame(1, 7))

    async def send(text: str) -> None:
        sent.append(text)

    await records.send_next(send)
    assert [json.loads(text) for text in sent] == [
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


async def test_legacy_records_close_the_connection_once_when_the_client_is_too_slow(
    records: LegacyRecords, closings: list[ClosedError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "RECORDS_LIMIT", 3)
    for seq in range(1, 6):
        records.offer(frame(seq, seq * 2, seq * 2 + 1))
    assert [(error.code, error.reason) for error in closings] == [(CloseCode.TRY_AGAIN_LATER, "too slow")]
