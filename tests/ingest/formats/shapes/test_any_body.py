"""Any body of any shape: readings that can be stored and refusals that can be told, or an error; in pieces the same."""

import json
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError, PayloadTooLargeError
from app.ingest.bodies.document import Document
from app.ingest.formats.shapes import find_shape, find_shapes
from app.names import is_metric_name, is_sensor_name
from tests.ingest.formats.shapes.shape_bodies import NOW_MS, pack, parse

TYPES = st.sampled_from(
    [
        *("application/json", "application/msgpack", "application/senml+json", "application/senml+cbor"),
        *("application/x-ndjson", "text/csv", ""),
    ]
)
NAMES = st.sampled_from(
    [
        *("sensor", "time", "values", "tags", "unit", "units", "readings", "gateway", "metrics", "name", "fields"),
        *("timestamp", "ts", "times", "metric", "bn", "bt", "bv", "bu", "n", "v", "vb", "t", "u", "x", " x", "."),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([NOW_MS, "2026-01-31T08:00:00Z", 10**30, "noon", "\ud800", "\0"])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ["nan", "-inf", "01", "None", "9" * 5_000, "1e999", '"', ",", "}", "[", "\0", '"a":1,"a":2', "\n"]
)


def _check(body: bytes, media_type: str) -> None:
    with suppress(InvalidRequestError, PayloadTooLargeError):
        result = parse(body, media_type)
        for reading in result.readings:
            assert is_sensor_name(reading.sensor)
            assert reading.values
            assert all(map(is_metric_name, reading.values))
            assert all(-1e100 <= value <= 1e100 for value in reading.values.values())
        assert all(len(each.message) < 400 for each in result.rejected)
        assert result.rejected_count >= sum(1 for each in result.rejected if each.tag is None)


@settings(deadline=None, max_examples=300)
@given(body=ANY, media_type=TYPES, word=WORDS, data=st.data())
def test_json_with_odd_words_is_read_or_refused(body: Any, media_type: str, word: str, data: st.DataObject) -> None:
    text = json.dumps(body)
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(at + 6, len(text))))
    _check((text[:at] + word + text[end:]).encode(), media_type)


def test_part_of_a_body_is_utf8_as_the_body_is_when_a_nul_stands_in_it() -> None:
    assert parse(b"[null, [],\0null]").rejected_count == 3


@settings(deadline=None, max_examples=200)
@given(body=ANY, encode=st.sampled_from([pack, cbor2.dumps]), data=st.data())
def test_binary_body_is_read_or_refused(body: Any, encode: Any, data: st.DataObject) -> None:
    try:
        encoded = encode(body)
    except (UnicodeEncodeError, OverflowError):
        return
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(encoded)))
        encoded = encoded[:at] + data.draw(st.binary(max_size=3)) + encoded[at + 1 :]
    _check(encoded, "application/msgpack" if encode is pack else "application/senml+cbor")


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(["time", "sensor", "metric", "value", "t", ",", ";", '"', "\n", "1", "nan", "é"])), TYPES
)
def test_text_is_read_or_refused(parts: list[str], media_type: str) -> None:
    _check("".join(parts).encode(), media_type)


@pytest.mark.parametrize("shape", find_shapes(), ids=lambda shape: str(shape.fields))
def test_example_of_a_shape_fits_no_other(shape: Any) -> None:
    if isinstance(shape.example, str):
        assert shape.fits_text(shape.example.encode())
    else:
        document = Document.of(shape.example)
        assert find_shape(document) is shape
        others = [other for other in find_shapes() if other is not shape and not other.is_last]
        assert [other for other in others if other.fits(document)] == []
    result = parse(shape.example, "")
    assert [code for _, code, _ in result.refusals if code not in ("time_too_old", "time_in_future")] == []


@pytest.mark.parametrize(
    "body", [{5: None}, {5: [{"ts": 1, "values": {}}]}, {5: 1, "readings": []}, [{5: 1, "values": {5: 1}}]]
)
def test_messagepack_whose_names_are_numbers_is_read_or_refused(body: object) -> None:
    _check(pack(body), "application/msgpack")
