"""SenML in JSON and CBOR, with the examples of RFC 8428 at other times."""

import json
import struct
from decimal import Decimal
from math import inf, nan
from typing import Any

import cbor2
import pytest

from app.errors import AppError, InvalidRequestError
from app.ingest.bodies.document import JSON, read_document
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes.senml import read
from tests.ingest.formats.shapes.shape_bodies import NOW_US, Result, parse

NOW_S = NOW_US // 1_000_000
JSON_TYPE, CBOR_TYPE = "application/senml+json", "application/senml+cbor"
LABELS = {
    "bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6,
    "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}  # fmt: skip
MULTIPLE: list[dict[str, Any]] = [
    {"bn": "urn:dev:ow:10e2073a0108006:", "bt": NOW_S, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
    {"n": "current", "t": -5, "v": 1.2},
    {"n": "current", "t": -4, "v": 1.3},
    {"n": "label", "vs": "Machine Room"},
    {"n": "open", "vb": False},
    {"n": "nfc", "vd": "AQ"},
]


def in_cbor(records: list[dict[str, Any]]) -> bytes:
    """Return records with the labels of CBOR."""
    return cbor2.dumps([{LABELS.get(name, name): value for name, value in record.items()} for record in records])


def both(records: list[dict[str, Any]]) -> Result:
    """Return the result of JSON, which must be that of CBOR."""
    result = parse(records, JSON_TYPE)
    assert parse(in_cbor(records), CBOR_TYPE) == result
    return result


def test_base_fields_hold_for_the_records_that_follow() -> None:
    result = both(MULTIPLE)
    sensor = "urn:dev:ow:10e2073a0108006"
    assert result.values == [
        (sensor, "voltage", 0, 120.1),
        (sensor, "current", 5_000_000, 1.2),
        (sensor, "current", 4_000_000, 1.3),
        (sensor, "open", 0, 0.0),
    ]
    assert [reading.units for reading in result.readings] == [
        {"voltage": "V"},
        {"current": "A"},
        {"current": "A"},
        {"open": "A"},
    ]
    assert [reading.index for reading in result.readings] == [0, 1, 2, 4]
    assert result.rejected == []


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"n": "urn:dev:ow:10e2073a01080063"}, ("urn:dev:ow", "10e2073a01080063")),
        ({"bn": "urn:dev:mac:0024/", "n": "temp"}, ("urn:dev:mac:0024", "temp")),
        ({"bn": "urn:dev:mac:0024", "n": "/temp"}, ("urn:dev:mac:0024", "temp")),
        ({"bn": "boiler:temp"}, ("boiler", "temp")),
        ({"n": "temp"}, ("key", "temp")),
    ],
)
def test_name_is_that_of_a_sensor_and_a_metric(record: dict[str, Any], name: tuple[str, str]) -> None:
    assert [row[:2] for row in both([{**record, "v": 1}]).values] == [name]


def test_small_times_count_from_now_and_great_ones_from_1970() -> None:
    result = both([{"n": "a", "v": 1}, {"n": "a", "v": 2, "t": -60}, {"n": "a", "v": 3, "t": NOW_S - 0.5}])
    assert [row[2:] for row in result.values] == [(0, 1.0), (60_000_000, 2.0), (500_000, 3.0)]


def test_time_that_counts_from_now_makes_a_second_sending_another_reading() -> None:
    times = ReceiptTimes(NOW_US)
    list(read(read_document(JSON, b'[{"n":"a","v":1,"t":-5}]'), Source(times)))
    assert times.are_used


def test_base_value_is_added() -> None:
    assert [row[3] for row in both([{"bv": 20, "n": "a", "v": 1}, {"n": "a", "t": -1, "v": -2}]).values] == [21, 18]


@pytest.mark.parametrize("time", [nan, inf, -inf, 1e300, 10**390])
def test_records_are_refused_when_their_base_time_is_no_time(time: float) -> None:
    body = json.dumps([{"bn": "a:", "bt": time, "n": "t", "v": 1}, {"n": "u", "t": 1.5, "v": 2}]).encode()
    result = parse(body, JSON_TYPE)
    assert result.values == []
    assert [(index, code) for index, code, _ in result.refusals] == [(0, "time_invalid"), (1, "time_invalid")]


def test_value_is_refused_when_its_base_value_is_beyond_all_floats() -> None:
    body = json.dumps([{"bv": 10**390, "n": "a", "v": 1.5}, {"bv": 0, "n": "a", "v": 2}]).encode()
    result = parse(body, JSON_TYPE)
    assert [row[3] for row in result.values] == [2.0]
    assert [(index, code) for index, code, _ in result.refusals] == [(0, "value_out_of_range")]


def test_bad_record_is_refused_alone() -> None:
    records: list[Any] = [
        {"n": "a", "v": 1},
        {"n": "a", "v": "1"},
        {"n": "a", "v": None},
        {"n": "a", "v": 1, "t": "noon"},
        {"n": 5, "v": 1},
        {"n": "a", "v": 1, "must_": 2},
        {"n": "a", "v": 1, "t": 1e300},
        {"n": "a", "v": 2**53 + 1, "t": -3},
        {"n": "a", "v": 2, "t": -1, "may": 3},
    ]
    result = both(records)
    assert [row[3] for row in result.values] == [1.0, 2.0]
    assert [(index, code) for index, code, _ in result.refusals] == [
        (1, "value_not_a_number"),
        (2, "value_not_a_number"),
        (3, "time_invalid"),
        (4, "reading_invalid"),
        (5, "reading_invalid"),
        (6, "time_invalid"),
        (7, "value_not_exact"),
    ]
    assert result.unknown_fields == {"'may'": 1}


@pytest.mark.parametrize(
    "record", ["a300616102010202", "a30061610201617602", "a3616e616102010202"], ids=["label", "label_and_name", "name"]
)
def test_record_with_a_key_twice_is_refused_alone(record: str) -> None:
    good = cbor2.dumps({0: "a", 2: 5})
    result = parse(b"\x83" + good + bytes.fromhex(record) + good[:-1] + b"\x06", CBOR_TYPE)
    assert [row[3] for row in result.values] == [5, 6]
    assert result.refusals == [(1, "key_repeated", "an object has the key 'v' twice; send it once")]


@pytest.mark.parametrize(
    ("name", "meant"), [("time", "t"), ("value", "v"), ("unit", "u"), ("name", "n"), ("baseTime", "bt"), ("BN", "bn")]
)
def test_misspelt_field_is_refused_with_the_right_name(name: str, meant: str) -> None:
    record = {
        field: value for field, value in {"bt": 0, "n": "a", "v": 2, "t": -60, "u": "V"}.items() if field != meant
    }
    result = parse([{"n": "a", "v": 1}, {**record, name: 5}], JSON_TYPE)
    assert result.refusals == [(1, "field_unknown", f"there is no field {name!r}; did you mean {meant}?")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bver": 11}, "bver is 11; send SenML of a version up to 10"),
        ({"bver": "10"}, "bver is '10'; send SenML of a version up to 10"),
        ({"bn": 5}, "bn is 5; send a text"),
        ({"bt": "noon"}, "bt is 'noon'; send a number"),
        ({"bv": None}, "bv is null; send a number"),
    ],
)
def test_records_are_refused_while_a_base_field_cannot_be_used(wrong: dict[str, Any], message: str) -> None:
    """They would be stored with another name, time or value."""
    right = {"bver": 10, "bn": "roof/", "bt": 0, "bv": 0}
    records: list[Any] = [{**right, "n": "a", "v": 1}, {**wrong, "n": "a", "v": 2}, {"n": "a", "v": 3, "t": -1}]
    again = {name: right[name] for name in wrong}
    result = both([*records, {**again, "n": "a", "v": 4, "t": -2}])
    assert [(row[0], row[3]) for row in result.values] == [("roof", 1.0), ("roof", 4.0)]
    assert result.refusals == [(index, "reading_invalid", message) for index in (1, 2)]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ('{"bn": "roof/", "n": "a", "v": 1, "x_": 1}', "reading_invalid"),
        ('{"bn": "roof/", "n": "a", "value": 1}', "field_unknown"),
        ('{"bn": "roof/", "n": "a", "v": 1, "v": 2}', "key_repeated"),
        ('{"bn": "roof/", "n": 5, "v": 1}', "reading_invalid"),
    ],
)
def test_base_fields_of_a_refused_record_hold_for_the_next(record: str, code: str) -> None:
    result = parse(f'[{record}, {{"n": "a", "v": 3}}]', JSON_TYPE)
    assert [(row[0], row[3]) for row in result.values] == [("roof", 3.0)]
    assert [(index, refused) for index, refused, _ in result.refusals] == [(0, code)]


@pytest.mark.parametrize("base", ['"baseName": "roof/"', '"bn": "a/", "bn": "b/"'])
def test_records_are_refused_while_the_base_name_is_not_known(base: str) -> None:
    last = '{"n": "a", "v": 3}, {"bn": "c", "n": "d", "v": 4}'
    result = parse(f'[{{"n": "a/b", "v": 1}}, {{{base}, "n": "a", "v": 1}}, {last}]', JSON_TYPE)
    assert [(row[0], row[3]) for row in result.values] == [("a", 1.0), ("c", 4.0)]
    assert [index for index, _, _ in result.refusals] == [1, 2]


def test_cbor_is_refused_when_something_follows_its_list() -> None:
    body = in_cbor([{"n": "a", "v": 1}])
    assert [row[3] for row in parse(body + b"\0\0", CBOR_TYPE).values] == [1]
    with pytest.raises(InvalidRequestError, match="more follows its end"):
        parse(body + b"junk", CBOR_TYPE)


def test_numbers_of_cbor_that_json_lacks_are_read() -> None:
    records = [
        {"n": "a", "v": Decimal("21.25")},
        {"n": "b", "v": float("nan")},
        {"n": "c", "v": 10**5_000},
        {"n": "d", "v": Decimal("1E+2147483647")},
    ]
    result = parse(in_cbor(records), CBOR_TYPE)
    assert [row[3] for row in result.values] == [21.25]
    assert [(index, code) for index, code, _ in result.refusals] == [(n, "value_out_of_range") for n in (1, 2, 3)]


def test_list_without_length_is_read() -> None:
    records = b"".join(cbor2.dumps({0: "a", 2: n, 6: -n}) for n in range(3))
    assert [row[3] for row in parse(b"\x9f" + records + b"\xff", CBOR_TYPE).values] == [0, 1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xa0", b"\x81", b"\x81\xff", b"\x9f\xa0", b"\x9b" + b"\x7f" * 8, b"\x82\xa0", b"\x81" * 100_000,
        b"\x9a\xff\xff\xff\xff", b"\x81\xba\xff\xff\xff\xff", b"\x81\x5b" + b"\x7f" * 8, b"\x81\x1c",
        b"\x81\xd8\x23" + cbor2.dumps("(a" * 1_000),
    ],
)  # fmt: skip
def test_cbor_is_refused_when_it_is_broken_or_claims_too_much(body: bytes) -> None:
    try:
        assert parse(body, CBOR_TYPE).readings == []
    except AppError as error:
        assert int(error.status) in (400, 413)  # noqa: PT017


def test_record_is_refused_when_it_is_larger_than_a_mebibyte() -> None:
    with pytest.raises(InvalidRequestError, match="record 0"):
        parse(b"\x81\xa1\x00\x7a" + struct.pack(">I", 2**21) + b"a" * 2**21, CBOR_TYPE)


def test_json_is_refused_when_it_is_no_list() -> None:
    with pytest.raises(InvalidRequestError, match="The body is no list of SenML records; send for example"):
        parse({"n": "a", "v": 1}, JSON_TYPE)


def test_records_are_known_without_their_media_type() -> None:
    assert parse(MULTIPLE) == parse(MULTIPLE, JSON_TYPE)
