"""The body of the replaced sensor server: readings, and errors in FastAPI's format."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ingest.formats.legacy import parse
from app.model import LEGACY_METRICS

RECORD = {"temperature": 25.5, "humidity": 60, "pressure": -1012.5, "sensor_id": "sensor_001"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_record_becomes_a_reading_when_all_fields_are_valid() -> None:
    values = {"temperature": 25.5, "humidity": 60.0, "pressure": -1012.5}
    assert _parse(RECORD) == ([], "sensor_001", values)
    assert all(type(value) is float for value in _parse(RECORD)[2].values())


def test_names_are_stored_in_one_form_and_nuls_after_the_body_are_left_out() -> None:
    record = {**RECORD, "sensor_id": " Gru\u0308n ", "a\u0308 ": 1}
    problems, sensor, values = parse(msgspec.json.encode(record) + b"\0")
    assert (problems, sensor, values["ä"]) == ([], "Grün", 1.0)


def test_numbers_are_accepted_when_they_are_texts() -> None:
    assert _parse({**RECORD, "temperature": "-3.25", "humidity": "1e2"})[2] == {
        "temperature": -3.25,
        "humidity": 100.0,
        "pressure": -1012.5,
    }


def test_additional_numbers_become_metrics_and_other_fields_are_left_out() -> None:
    further = {
        "concentration": 5,
        "flow": -0.5,
        "name": "x",
        "on": True,
        "gone": None,
        "text": "7",
        "\0": 1,
        "x" * 101: 1,
    }
    assert _parse({**RECORD, **further}) == (
        [],
        "sensor_001",
        {"temperature": 25.5, "humidity": 60.0, "pressure": -1012.5, "concentration": 5.0, "flow": -0.5},
    )


def test_all_missing_fields_are_listed_when_the_body_is_empty() -> None:
    problems, _, _ = _parse({})
    assert problems == [
        {"type": "missing", "loc": ["body", name], "msg": "Field required"}
        for name in ("temperature", "humidity", "pressure", "sensor_id")
    ]


@pytest.mark.parametrize(
    ("field", "value", "kind", "message"),
    [
        ("temperature", None, "float_type", "temperature is null; send a number, or leave the metric out"),
        ("humidity", "wet", "float_type", "humidity is 'wet'; send a number, or leave the metric out"),
        ("pressure", [1], "float_type", "pressure is [1]; send a number, or leave the metric out"),
        ("pressure", "nan", "float_type", "pressure is nan; send a finite number within ±1e+100"),
        ("pressure", 1e101, "float_type", "pressure is 1e+101; send a finite number within ±1e+100"),
        ("sensor_id", 5, "string_type", "sensor is 5; send a text of 1 to 200 printable characters"),
        ("sensor_id", "", "string_type", "sensor is ''; send a text of 1 to 200 printable characters"),
        ("sensor_id", "a\0", "string_type", r"sensor is 'a\x00'; send a text of 1 to 200 printable characters"),
    ],
)
def test_field_is_refused_in_fastapis_shape_when_its_value_is_wrong(
    field: str, value: object, kind: str, message: str
) -> None:
    problems, _, _ = _parse({**RECORD, field: value})
    assert problems == [{"type": kind, "loc": ["body", field], "msg": message}]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"\xff"', b"[" * 100_000])
def test_body_is_refused_when_it_is_not_json(body: bytes) -> None:
    (problem,) = parse(body)[0]
    assert (problem["type"], problem["loc"]) == ("json_invalid", ["body"])


def test_number_that_is_no_json_is_refused_by_its_field_and_left_out_of_others() -> None:
    body = msgspec.json.encode(RECORD)[:-1]
    problems, _, _ = parse(body.replace(b"25.5", b"nan") + b"}")
    assert problems == [
        {
            "type": "float_type",
            "loc": ["body", "temperature"],
            "msg": "temperature is nan; send a finite number within ±1e+100",
        }
    ]
    assert parse(body + b',"dew":-nan,"flow":None}') == _parse(RECORD)


def test_body_is_refused_when_a_field_stands_twice() -> None:
    assert parse(msgspec.json.encode(RECORD)[:-1] + b',"humidity":5}')[0] == [
        {"type": "value_error", "loc": ["body"], "msg": "The field 'humidity' stands twice; send it once"}
    ]


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"text"'])
def test_body_is_refused_when_it_is_not_an_object(body: bytes) -> None:
    assert parse(body)[0] == [
        {"type": "model_attributes_type", "loc": ["body"], "msg": "Input should be a valid dictionary"}
    ]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_parse_returns_problems_when_bytes_are_random(body: bytes) -> None:
    problems, _, _ = parse(body)
    assert problems


@settings(deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(RECORD, JSON)), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_parse_returns_a_reading_or_problems_when_fields_are_random(
    record: dict[str, Any], further: dict[str, Any]
) -> None:
    problems, sensor, values = _parse({**further, **record})
    assert msgspec.json.encode(problems)
    if not problems:
        assert sensor == record["sensor_id"]
        assert set(LEGACY_METRICS) <= values.keys()
        assert all(-1e100 <= value <= 1e100 for value in values.values())


def _parse(record: dict[str, Any]) -> Any:
    return parse(msgspec.json.encode(record))
