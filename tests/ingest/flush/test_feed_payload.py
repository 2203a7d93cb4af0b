"""The payload of a feed row: all new readings, or only the newest of each series after a bulk replay."""

import msgspec

from app.ingest.flush.batch import Batch, NewReadings
from app.ingest.flush.feed_payload import FRAME_VALUES_LIMIT, encode_payload, group_readings
from app.ingest.uploads.upload import Upload
from app.model import LegacyRecord, MetricName, SensorName, SeriesId
from tests.ingest.uploads import MINUTE, T0, reading, series_ids, upload

IDS = series_ids(("pi1", "t"), ("pi1", "h"), ("pi2", "t"))
NAMES: dict[SeriesId, tuple[SensorName, MetricName]] = {
    SeriesId(1): ("pi1", "t"),
    SeriesId(2): ("pi1", "h"),
    SeriesId(3): ("pi2", "t"),
}


def payload_of(*uploads: Upload, legacy: list[LegacyRecord] | None = None) -> dict[str, object]:
    """Return the decoded payload for these uploads, of which every value is new."""
    batch = Batch(uploads, IDS)
    new = NewReadings(batch, batch.samples)
    payload: dict[str, object] = msgspec.json.decode(encode_payload(new, group_readings(new, NAMES), legacy or []))
    return payload


def test_payload_has_one_reading_for_each_sensor_and_time_in_order_of_time() -> None:
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


def test_payload_is_complete_when_the_number_of_values_equals_the_limit() -> None:
    payload = payload_of(upload(*(reading("pi1", T0 + number, t=number) for number in range(FRAME_VALUES_LIMIT))))
    assert "truncated" not in payload
    assert len(msgspec.convert(payload["readings"], list[object])) == FRAME_VALUES_LIMIT


def test_payload_has_the_newest_of_each_series_when_the_limit_is_exceeded() -> None:
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


def test_truncated_payload_has_all_readings_of_an_upload_that_needs_a_legacy_id() -> None:
    readings = [reading("pi1", T0 + number, t=number) for number in range(FRAME_VALUES_LIMIT)]
    legacy_upload = upload(reading("pi2", T0 - MINUTE, t=7), reading("pi2", T0, t=8), wants_legacy_id=True)
    payload = payload_of(upload(*readings), legacy_upload)
    sensors = [
        (each["sensor"], each["values"]) for each in msgspec.convert(payload["readings"], list[dict[str, object]])
    ]
    assert sensors == [("pi2", {"t": 7.0}), ("pi2", {"t": 8.0}), ("pi1", {"t": float(FRAME_VALUES_LIMIT - 1)})]
