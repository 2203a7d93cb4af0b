"""The messages for one row of the feed, for every kind of client."""

import json
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from structlog.testing import capture_logs

from app.ingest.flush.feed_payload import FeedPayload, Truncated
from app.live.frames import Frame, FramedMessage
from app.live.protocol import Cursor, Filter
from app.model import FeedReading, LegacyRecord

UTC = ZoneInfo("UTC")
EVERYTHING = Filter(["*"], ["*"])
READINGS = [
    FeedReading("a", "2026-11-21T08:00:00Z", {"level": 1.0, "flow": 2.0}),
    FeedReading("b", "2026-11-21T08:00:01Z", {"level": 3.0}),
]
TRUNCATED = Truncated(40, "2026-11-21T07:00:00Z", "2026-11-21T08:00:01Z")
RECORD = LegacyRecord(7, "a", 1_795_248_000_000_000, 20.5, 60.0, 1013.0, "10.0.0.9")


def frame(payload: object, seq: int = 5) -> Frame:
    return Frame(Cursor("e", seq), "readings", msgspec.json.encode(payload))


def text(row: Frame, sensors: list[str], metrics: list[str]) -> dict[str, Any] | None:
    return decoded(row.message_for(Filter(sensors, metrics), False))


def decoded(message: FramedMessage | None) -> dict[str, Any] | None:
    return None if message is None else json.loads(message.framed[message.framed.index(b'{"') :])


def test_frame_is_written_whole_when_everything_is_wanted() -> None:
    assert text(frame(FeedPayload(READINGS)), ["*"], ["*"]) == {
        "type": "readings",
        "cursor": "e.5",
        "readings": [
            {"sensor": "a", "time": "2026-11-21T08:00:00Z", "values": {"level": 1.0, "flow": 2.0}},
            {"sensor": "b", "time": "2026-11-21T08:00:01Z", "values": {"level": 3.0}},
        ],
    }


def test_frame_contains_only_wanted_values_when_filtered() -> None:
    message = text(frame(FeedPayload(READINGS)), ["a", "b"], ["flow"])
    assert message is not None
    assert message["readings"] == [{"sensor": "a", "time": "2026-11-21T08:00:00Z", "values": {"flow": 2.0}}]


def test_frame_is_none_when_a_filter_matches_nothing_in_it() -> None:
    assert text(frame(FeedPayload(READINGS)), ["c"], ["*"]) is None


@pytest.mark.parametrize(("sensors", "count"), [(["*"], 2), (["a"], 1), (["c"], 0)])
def test_frame_describes_omitted_values_when_it_is_truncated(sensors: list[str], count: int) -> None:
    message = text(frame(FeedPayload(READINGS, TRUNCATED)), sensors, ["*"])
    assert message is not None
    assert message["truncated"] == {"omitted": 40, "from": "2026-11-21T07:00:00Z", "to": "2026-11-21T08:00:01Z"}
    assert len(message["readings"]) == count


def test_frame_has_records_of_the_replaced_server_when_its_row_has() -> None:
    row = frame(FeedPayload(READINGS, TRUNCATED, [RECORD]))
    (record,) = row.legacy_messages(ZoneInfo("America/Sao_Paulo"))
    assert record[0] == 7
    assert decoded(record[1]) == {
        "id": 7,
        "temperature": 20.5,
        "humidity": 60.0,
        "pressure": 1013.0,
        "date_recorded": "2026-11-21",
        "time_recorded": "05:00:00",
        "sensor_id": "a",
        "client_ip": "10.0.0.9",
    }
    assert "legacy" not in (decoded(row.message_for(EVERYTHING, False)) or {})


def test_frame_has_no_records_when_it_is_an_alert() -> None:
    assert Frame(Cursor("e", 1), "alert", b'{"rule":"flood"}').legacy_messages(UTC) == []


def test_frame_is_an_alert_with_a_cursor_when_alerts_are_wanted() -> None:
    row = Frame(Cursor("e", 9), "alert", b'{"rule":"fl\xc3\xb8d"}')
    assert decoded(row.message_for(EVERYTHING, True)) == {"type": "alert", "cursor": "e.9", "rule": "flød"}
    assert row.message_for(EVERYTHING, False) is None


def test_frame_is_encoded_once_when_many_clients_want_the_same() -> None:
    row = frame(FeedPayload(READINGS))
    assert row.message_for(EVERYTHING, False) is row.message_for(Filter(["a", "*"], ["*"]), True)
    assert row.legacy_messages(UTC) is row.legacy_messages(UTC)
    assert row.message_for(Filter(["a", "b"], ["*"]), False) is row.message_for(Filter(["b", "a"], ["*"]), False)


@pytest.mark.parametrize(
    "payload", [b"\xff", b"[]", b'{"readings":[{"sensor":1}]}', b'{"readings":[],"legacy":[{"id":"x"}]}'], ids=repr
)
def test_frame_is_empty_and_logged_when_it_cannot_be_decoded(payload: bytes) -> None:
    row = Frame(Cursor("e", 3), "readings", payload)
    with capture_logs() as logs:
        assert row.message_for(Filter(["a"], ["*"]), False) is None
        assert row.legacy_messages(UTC) == []
    assert [(line["event"], line["seq"]) for line in logs] == [("frame_not_readable", 3)]
