"""The payload of a feed row: readings put back together, and a bulk replay cut to the newest of each series."""

import msgspec

from app.ingest.flush.batch import Batch, NewReadings
from app.ingest.flush.feed_payload import FRAME_VALUES_LIMIT, encode_payload, group_readings
from app.ingest.upload import Upload
from app.model import LegacyRecord, MetricName, SensorName, SeriesId
from tests.ingest.uploads import MINUTE, T0, reading, series_ids, upload

IDS = series_ids(("pi1", "t"), ("pi1", "h"), ("pi2", "t"))
NAMES: dict[SeriesId, tuple[SensorName, MetricName]] = {
    SeriesId(1): ("pi1", "t"),
    SeriesId(2): ("pi1", "h"),
    SeriesId(3): ("pi2", "t"),
}


def payload_of(*uploads: Upload, legacy: list[LegacyRecord] | None = None) -> dict[str, object]:
    """Encode what these uploads bring, all of it new, and decode it as a client would."""
    batch = Batch(uploads, IDS)
    new = NewReadings(batch, batch.blocks)
    payload: dict[str, object] = msgspec.json.decode(encode_payload(new, group_readings(new, NAMES), legacy or []))
    return payload


def test_payload_has_one_reading_a_sensor_and_time_in_order_of_time() -> None:
    payload = payload_of(
        upload(reading("pi2", T0 + MINUTE, t=3), reading("pi1", T0, t=1, h=60)), upload(reading("pi2", T0, t=2))
    )
    assert payload == {
        "readings": [
            {"sensor": "pi1", "time": "2026-01-31T08:00:00Z", "values": {"t": 1.0, "h": 60.0}},
            {"sensor": "pi2", "time": "2026-01-31T08:00:00Z", "values": {"t": 2.0}},
            {"sensor": "pi2", "time": "2026-01-31T08:01:00Z", "values": {"t": 3.0}},
        ]
    }


def test_payload_is_whole_when_it_holds_as_many_values_as_a_frame_may() -> None:
    payload = payload_of(upload(*(reading("pi1", T0 + number, t=number) for number in range(FRAME_VALUES_LIMIT))))
    assert "truncated" not in payload
    assert len(msgspec.convert(payload["readings"], list[object])) == FRAME_VALUES_LIMIT


def test_payload_is_cut_to_the_newest_of_each_series_when_it_holds_one_value_more() -> None:
    readings = [reading("pi1", T0 + number, t=number) for number in range(FRAME_VALUES_LIMIT)]
    payload = payload_of(upload(*readings, reading("pi2", T0 - MINUTE, t=7)))
    newest = f"2026-01-31T08:00:00.{FRAME_VALUES_LIMIT - 1:06}Z"
    assert payload == {
        "readings": [
            {"sensor": "pi2", "time": "2026-01-31T07:59:00Z", "values": {"t": 7.0}},
            {"sensor": "pi1", "time": newest, "values": {"t": float(FRAME_VALUES_LIMIT - 1)}},
        ],
        "truncated": {"omitted": FRAME_VALUES_LIMIT - 1, "from": "2026-01-31T07:59:00Z", "to": newest},
    }


def test_cut_payload_keeps_what_a_client_of_the_replaced_sensor_server_waits_for() -> None:
    readings = [reading("pi1", T0 + number, t=number) for number in range(FRAME_VALUES_LIMIT)]
    waits = upload(reading("pi2", T0 - MINUTE, t=7), reading("pi2", T0, t=8))
    waits.wants_legacy_id = True
    payload = payload_of(upload(*readings), waits)
    sensors = [
        (each["sensor"], each["values"]) for each in msgspec.convert(payload["readings"], list[dict[str, object]])
    ]
    assert sensors == [("pi2", {"t": 7.0}), ("pi2", {"t": 8.0}), ("pi1", {"t": float(FRAME_VALUES_LIMIT - 1)})]
