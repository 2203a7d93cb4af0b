"""Telemetry of ThingsBoard, as its documents show it."""

from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.ingest.bodies.document import JSON, read_document
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes.thingsboard import read_device
from tests.ingest.formats.shapes.shape_bodies import NOW_MS, NOW_US, parse

ENTRY: dict[str, Any] = {
    "ts": NOW_MS - 1_000,
    "values": {"temperature": 42.5, "on": True, "text": "21", "model": "x", "json": {"a": 1}},
}
VALUES = [("temperature", 1_000_000, 42.5), ("on", 1_000_000, 1.0), ("text", 1_000_000, 21.0)]


@pytest.mark.parametrize(
    ("body", "sensors"),
    [
        (ENTRY, ["key"]),
        ([ENTRY, {**ENTRY, "ts": NOW_MS - 1_000}], ["key", "key"]),
        ({"Device A": [ENTRY], "Device B": [ENTRY]}, ["Device A", "Device B"]),
    ],
    ids=["entry", "list", "gateway"],
)
def test_entries_become_readings_of_their_devices(body: object, sensors: list[str]) -> None:
    result = parse(body)
    assert result.values == [(sensor, *row) for sensor in sensors for row in VALUES]
    assert (result.rejected, [reading.index for reading in result.readings]) == ([], list(range(len(sensors))))


def test_sensor_that_is_asked_for_goes_before_the_key() -> None:
    assert [row[0] for row in parse(ENTRY, asked="boiler").values] == ["boiler"] * 3


@pytest.mark.parametrize("name", ["readings", "Readings", "metrics", "readngs"])
def test_list_of_another_shape_is_no_device(name: str) -> None:
    entries = {name: [{"ts": NOW_MS, "values": {"t": 1}}]}
    if name in ("readings", "metrics"):
        assert parse(entries).readings == []
    else:
        with pytest.raises(InvalidRequestError, match=r"did you mean (readings|metrics)\? The nearest is, for example"):
            parse(entries)


def test_bad_entry_is_refused_alone() -> None:
    result = parse([ENTRY, 5, {"ts": NOW_MS, "values": 5}, {"ts": 1, "values": {"t": 1}}, {**ENTRY, "ts": "noon"}])
    assert [row[1:] for row in result.values] == VALUES
    assert [(index, code) for index, code, _ in result.refusals] == [
        (1, "reading_invalid"),
        (2, "reading_invalid"),
        (3, "time_too_old"),
        (4, "time_invalid"),
    ]


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"temperature": 12.5, "values": 3}', [{"temperature": 12.5, "values": 3}]),
        (b'[{"a": 1}, {"b": 2}]', [{"a": 1}, {"b": 2}]),
        (b'{"ts": 1, "values": {"a": 1}}', [{"a": 1}]),
    ],
)
def test_device_may_send_values_alone(body: bytes, values: list[dict[str, float]]) -> None:
    source = Source(ReceiptTimes(NOW_US), None, "pump")
    items: list[Any] = [item for _, item in read_device(read_document(JSON, body), source)]
    assert [item["values"] for item in items] == values
    assert {item["sensor"] for item in items} == {"pump"}


def test_misspelt_field_of_an_entry_is_refused_with_the_right_name() -> None:
    late = {"timestamp": NOW_MS - 5_000, "values": {"temperature": 42.5}}
    result = parse({"boiler": [ENTRY, late, {**ENTRY, "quality": 1}]})
    assert result.refusals == [(1, "field_unknown", "there is no field 'timestamp'; did you mean ts?")]
    assert result.unknown_fields == {"'quality'": 1}
    assert [reading.index for reading in result.readings] == [0, 2]


def test_device_without_entries_costs_the_others_nothing() -> None:
    result = parse({"boiler": [ENTRY, 5], "empty": []})
    assert [row[0] for row in result.values] == ["boiler"] * 3
    assert [(index, code) for index, code, _ in result.refusals] == [(1, "reading_invalid")]


@pytest.mark.parametrize("name", ["device", "deviceName", "Sensor"])
def test_entry_that_names_its_sensor_is_refused_with_the_right_place(name: str) -> None:
    """It would be stored as that of the key."""
    result = parse({**ENTRY, name: "boiler"})
    remedy = "name the sensor by the parameter sensor, or send lists of entries by device"
    assert result.refusals == [(0, "field_unknown", f"an entry has no field {name!r}; {remedy}")]


def test_reading_of_a_sensor_with_ts_is_no_telemetry() -> None:
    result = parse({**ENTRY, "sensor": "boiler"})
    assert result.refusals == [(0, "field_unknown", "a reading has no field 'ts'; did you mean time?")]
