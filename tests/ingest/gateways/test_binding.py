import pytest

from app.auth.keys import ApiKey, Binding
from app.ingest.gateways.binding import bind, reject_sensors
from app.ingest.uploads.upload import Upload
from tests.ingest.uploads import as_objects, reading, upload


def bound(uploaded: Upload, binding: Binding) -> Upload:
    key = ApiKey("roof", frozenset({"ingest"}), binding=binding)
    return bind(upload_of(uploaded, key), binding)


def upload_of(uploaded: Upload, key: ApiKey) -> Upload:
    return upload(*as_objects(uploaded.readings), gateway=uploaded.gateway, api_key=key)


def test_upload_counts_as_sent_by_the_gateway_of_its_key_whatever_the_body_says() -> None:
    assert bound(upload(reading("a"), gateway="other"), Binding("harbour")).gateway == "harbour"


def test_prefix_is_put_before_each_sensor_also_before_one_with_tags() -> None:
    sent = upload(reading("a", tags={"room": "cold"}), reading("b"))
    kept = bound(sent, Binding("harbour", None, "harbour/"))
    assert [(each.sensor, each.tags) for each in as_objects(kept.readings)] == [
        ("harbour/a", {"room": "cold"}),
        ("harbour/b", None),
    ]
    assert [each.sensor for each in kept.readings.described] == ["harbour/a"]
    assert kept.rejected.count == 0


def test_readings_are_rejected_one_by_one_when_the_key_may_not_write_to_their_sensor() -> None:
    sent = upload(reading("harbour-1", temperature=1, humidity=2), reading("x", temperature=1, humidity=2))
    kept = bound(sent, Binding("harbour", "harbour-*"))
    assert {each.sensor for each in as_objects(kept.readings)} == {"harbour-1"}
    (rejected,) = kept.rejected.listed
    assert (rejected.index, rejected.code, rejected.metric) == (1, "sensor_not_allowed", None)
    assert "the key 'roof' may write to 'harbour-*' alone" in rejected.message


@pytest.mark.parametrize(("length", "codes"), [(190, {}), (191, {"sensor_invalid": 1})])
def test_sensor_is_refused_when_it_is_too_long_with_the_prefix(length: int, codes: dict[str, int]) -> None:
    kept = bound(upload(reading("a" * length)), Binding("harbour", None, "0123456789"))
    assert kept.rejected.by_code == codes


def test_upload_is_unchanged_when_none_of_the_refused_sensors_is_in_it() -> None:
    sent = upload(reading("a"))
    assert reject_sensors(sent, {"b": ("sensor_not_allowed", "no")}) is sent
