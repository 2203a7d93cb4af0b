"""Tidegauge's own format in JSON and MessagePack: any bytes become readings and rejections, or are refused."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import DistinctClock, to_us
from app.errors import InvalidRequestError, PayloadTooLargeError
from app.ingest.formats import ReceiptTimes
from app.ingest.formats import readings as native
from app.ingest.uploads.receipt import Receipt, Rejected
from app.model import Reading
from app.names import is_metric_name
from tests.ingest.uploads import as_objects

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)
NOW_US = to_us(NOW)
#: Readings, rejections and the gateway.
ParsedObjects = tuple[list[Reading], Rejected, str | None]
EXAMPLE = (
    'The body is neither a list of readings nor {"readings": [...]}; send for example '
    '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
)
ANY_TIME = (
    st.none()
    | st.integers(-(10**16), 10**16)
    | st.floats()
    | st.datetimes().map(datetime.isoformat)
    | st.datetimes(timezones=st.just(timezone(timedelta(hours=5)))).map(datetime.isoformat)
    | st.text(max_size=5)
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
ANY_READING = st.fixed_dictionaries(
    {},
    optional={
        "sensor": st.sampled_from(["pi1", "pi2", "", "a\0", "\ud800", "x" * 201]) | ANY,
        "values": st.dictionaries(st.text(max_size=3), st.floats() | ANY, max_size=3) | ANY,
        "time": ANY_TIME | ANY,
        "tags": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2) | ANY,
    },
)
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20).filter(
    is_metric_name
)
VALUES = st.dictionaries(NAMES, st.floats(-1e100, 1e100) | st.integers(-(2**53), 2**53), min_size=1, max_size=3)
GOOD_READING = st.fixed_dictionaries(
    {"sensor": NAMES, "values": VALUES},
    optional={
        "time": st.none()
        | st.integers(NOW_US // 1_000 - 10**9, NOW_US // 1_000)
        | st.floats(NOW_US / 1_000 - 1e9, NOW_US / 1_000),
        "tags": st.none() | st.dictionaries(NAMES, NAMES, max_size=2),
    },
)


def test_list_becomes_readings_when_all_items_are_valid() -> None:
    readings, rejected, gateway = _parse_json(
        [
            {"sensor": "pi1", "time": "2026-01-31T07:59:59.000001Z", "values": {"t": 21.5, "h": 60}},
            {"sensor": "pi2", "time": 1_769_846_399_000, "values": {"t": -1}, "tags": {"site": "roof"}},
            {"sensor": "pi2", "time": 1_769_846_399_000.5, "values": {"t": 0}},
            {"sensor": "pi2", "time": "2026-01-31T09:59:58+02:00", "values": {"t": 1e100}, "tags": None},
        ]
    )
    assert readings == [
        Reading("pi1", NOW_US - 999_999, {"t": 21.5, "h": 60.0}, None, 0),
        Reading("pi2", NOW_US - 1_000_000, {"t": -1.0}, {"site": "roof"}, 1),
        Reading("pi2", NOW_US - 999_500, {"t": 0.0}, None, 2),
        Reading("pi2", NOW_US - 2_000_000, {"t": 1e100}, None, 3),
    ]
    assert (rejected.count, gateway) == (0, None)
    assert all(type(value) is float for reading in readings for value in reading.values.values())


def test_gateway_is_returned_when_the_object_has_one() -> None:
    assert _parse_json({"gateway": "roof", "readings": []})[2] == "roof"
    assert _parse_json({"gateway": "roof", "readings": [None]})[2] == "roof"
    assert _parse_json({"readings": []})[2] is None


@pytest.mark.parametrize("gateway", [5, "", " ", "a\0", "x" * 201, [], True])
def test_upload_is_refused_when_its_gateways_name_is_not_valid(gateway: object) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        _parse_json({"gateway": gateway, "readings": []})
    assert str(refusal.value) == f"gateway is {gateway!r:.60}; send a text of 1 to 200 printable characters"


def test_readings_without_time_are_a_microsecond_apart_when_they_share_a_sensor() -> None:
    body = [
        {"sensor": "pi1", "values": {"t": 1}},
        {"sensor": "pi1", "values": {"t": 2}, "time": None},
        {"sensor": "pi2", "values": {"t": 3}},
        {"sensor": "pi1", "values": {"t": 4, "h": None}},
        {"sensor": "pi1", "values": {"t": 5}},
    ]
    times = ReceiptTimes(NOW_US)
    readings, rejected, _, _ = native.parse(json.dumps(body).encode(), "", times)
    assert [reading.time_us - NOW_US for reading in as_objects(readings)] == [0, 1, 0, 2, 3]
    assert (rejected.count, rejected.listed[0].metric) == (1, "h")
    assert times.last_us == NOW_US + 3


def test_readings_without_time_get_times_of_their_own_when_other_uploads_come_meanwhile() -> None:
    clock = DistinctClock(lambda: NOW_US)
    times = ReceiptTimes(clock(), clock.reserve)
    given = []
    for _ in range(3):  # as for the pieces of a large body
        times.expect(4)
        given += [times.give("pi1"), times.give("pi1"), times.give("pi2"), times.give("pi1")]
        given.append(clock())  # another upload's
    assert [us - NOW_US for us in given] == [1, 2, 1, 3, 5, 6, 7, 6, 8, 10, 11, 12, 11, 13, 15]


def test_readings_without_time_get_the_same_times_when_a_value_is_out_of_range() -> None:
    # The value out of range makes the typed decoding fail, so that each reading is checked by itself.
    body = [{"sensor": "pi1", "values": {"t": 1, "h": 1e101}}, {"sensor": "pi1", "values": {"t": 2}}]
    readings, _, _ = _parse_json(body)
    assert [reading.time_us - NOW_US for reading in readings] == [0, 1]


def test_each_bad_part_is_rejected_by_itself_when_the_others_are_valid() -> None:
    good = {"sensor": "pi1", "values": {"t": 1}}
    body = [
        good,
        {**good, "values": {"nan": float("nan"), "inf": float("inf"), "neg": float("-inf"), "big": 1e200, "t": 2}},
        {**good, "values": {"null": None, "text": "21.5", "bool": True, "list": [], "t": 3}},
        {**good, "values": {"": 1, "\0": 1, "x" * 101: 1, "\ud800": 1, "t": 4}},
        {**good, "values": {}},
        {**good, "values": None},
        {"sensor": "pi1"},
        {"values": {"t": 5, "h": 5}},
        {**good, "sensor": "x" * 201},
        {**good, "sensor": None},
        {**good, "time": "2026-01-31T08:00:00"},
        {**good, "time": "2026-01-31T09:00:00Z"},
        {**good, "time": 1_769_846_400},
        {**good, "time": "noon", "values": {"t": 6, "h": 6, "p": 6}},
        {**good, "time": True},
        {**good, "tags": {"site": [5]}},
        {**good, "tags": []},
        "reading",
        None,
        {**good, "time": 1_769_846_400_000},
    ]
    readings, rejected, _ = _parse_json(body)
    assert [(reading.index, reading.values) for reading in readings] == [
        (0, {"t": 1.0}),
        (1, {"t": 2.0}),
        (2, {"t": 3.0}),
        (3, {"t": 4.0}),
        (15, {"t": 1.0}),
        (16, {"t": 1.0}),
        (19, {"t": 1.0}),
    ]
    assert [(item.index, item.code, item.metric) for item in rejected.listed] == [
        (1, "value_out_of_range", "nan"),
        (1, "value_out_of_range", "inf"),
        (1, "value_out_of_range", "neg"),
        (1, "value_out_of_range", "big"),
        (2, "value_not_a_number", "null"),
        (2, "value_not_a_number", "text"),
        (2, "value_not_a_number", "bool"),
        (2, "value_not_a_number", "list"),
        (3, "metric_invalid", "''"),
        (3, "metric_invalid", r"'\x00'"),
        (3, "metric_invalid", f"'{'x' * 56}..."),
        (3, "metric_invalid", r"'\ud800'"),
        (4, "values_missing", None),
        (5, "values_missing", None),
        (6, "values_missing", None),
        (7, "sensor_invalid", None),
        (8, "sensor_invalid", None),
        (9, "sensor_invalid", None),
        (10, "time_without_zone", None),
        (11, "time_in_future", None),
        (12, "time_too_old", None),
        (13, "time_invalid", None),
        (14, "time_invalid", None),
        (15, "tags_invalid", None),
        (16, "tags_invalid", None),
        (17, "reading_invalid", None),
        (18, "reading_invalid", None),
    ]
    # A reading that is refused as a whole counts as one, and the two refused tags not at all.
    assert rejected.count == 25
    assert rejected.by_code["sensor_invalid"] == 3
    assert rejected.by_code["time_invalid"] == 2
    assert [item.tag for item in rejected.listed if item.code == "tags_invalid"] == ["site", ""]


def test_100_rejections_are_listed_and_all_are_counted_when_there_are_more() -> None:
    readings, rejected, _ = _parse_json([{"sensor": "pi1", "values": {"t": None, "h": None}} for _ in range(150)])
    assert (readings, rejected.count, len(rejected.listed)) == ([], 300, 100)
    assert [item.index for item in rejected.listed] == [index for index in range(50) for _ in "th"]


@pytest.mark.parametrize("time", ["1" + "0" * 400, "9" * 4_299, "-" + "9" * 4_300, "1e300", "NaN", "-Infinity"])
def test_time_is_rejected_when_it_is_a_huge_number(time: str) -> None:
    body = f'[{{"sensor": "pi1", "values": {{"t": 1}}, "time": {time}}}]'
    readings, rejected, _ = _parse(body.encode())
    assert (readings, [item.code for item in rejected.listed]) == ([], ["time_invalid"])
    assert len(rejected.listed[0].message) < 200


@pytest.mark.parametrize("body", [b"", b"{", b"[", b'[{"sensor": "pi1"', b"\xff\xfe", b"[" * 100_000])
def test_body_is_refused_when_it_is_not_json(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"^The body is not valid JSON: "):
        _parse(body)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91", b"\x91" * 100_000, b"[]"])
def test_body_is_refused_when_it_is_not_messagepack(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"^The body is not valid MessagePack: "):
        _parse(body, "application/msgpack")


@pytest.mark.parametrize("body", [5, None, "text", {}])
def test_body_is_refused_with_an_example_when_it_has_another_shape(body: object) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        _parse_json(body)
    assert str(refusal.value) == EXAMPLE


@pytest.mark.parametrize("loose", [False, True])
def test_body_is_refused_when_it_holds_too_many_readings(loose: bool) -> None:
    bodies = [
        b"[" + b",".join([b'{"sensor":"a","values":{"t":1}}'] * 100_001),
        b'{"readings":[' + b",".join([b"1"] * 100_001),
    ]
    body = bodies[loose] + (b"]}" if loose else b"]")
    with pytest.raises(PayloadTooLargeError) as refusal:
        _parse(body)
    assert str(refusal.value) == "The body has 100001 readings; send at most 100000 at a time"


def test_messagepack_gives_the_same_readings_as_equal_json() -> None:
    body = {"gateway": "roof", "readings": [{"sensor": "pi1", "time": 1_769_846_399_000, "values": {"t": 1, "h": 2.5}}]}
    for media_type in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        assert _comparable(_parse(msgspec.msgpack.encode(body), media_type)) == _comparable(_parse_json(body))


def test_messagepack_time_is_accepted_when_it_is_a_timestamp() -> None:
    for loose in (False, True):
        body = [{"sensor": "pi1", "time": NOW - timedelta(microseconds=1), "values": {"t": 1}}, *([5] if loose else [])]
        readings, _, _ = _parse(msgspec.msgpack.encode(body), "application/msgpack")
        assert [reading.time_us for reading in readings] == [NOW_US - 1]


def test_messagepack_names_are_rejected_when_they_are_not_text() -> None:
    body = [{"sensor": b"pi1", "values": {"t": 1}}, {"sensor": "pi1", "values": {b"t": 1, 5: 1, None: 1, "t": 1}}]
    readings, rejected, _ = _parse(msgspec.msgpack.encode(body), "application/msgpack")
    assert [reading.values for reading in readings] == [{"t": 1.0}]
    assert [(item.code, item.metric) for item in rejected.listed] == [
        ("sensor_invalid", None),
        ("metric_invalid", "b't'"),
        ("metric_invalid", "5"),
        ("metric_invalid", "null"),
    ]


@settings(deadline=None)
@given(st.lists(ANY_READING | ANY, max_size=4) | st.fixed_dictionaries({"readings": ANY}, optional={"gateway": ANY}))
def test_parse_returns_valid_readings_or_refuses_when_json_is_random(body: object) -> None:
    _check_sanity(json.dumps(body).encode(), "application/json")


@settings(deadline=None)
@given(st.lists(ANY_READING | ANY, max_size=4))
def test_parse_returns_valid_readings_or_refuses_when_messagepack_is_random(body: object) -> None:
    try:
        encoded = msgspec.msgpack.encode(body)
    except (OverflowError, UnicodeEncodeError):  # an integer or a text that MessagePack cannot hold
        return
    _check_sanity(encoded, "application/msgpack")


@settings(deadline=None)
@given(st.binary(max_size=100), st.sampled_from(["application/json", "application/msgpack"]))
def test_parse_returns_valid_readings_or_refuses_when_bytes_are_random(body: bytes, media_type: str) -> None:
    _check_sanity(body, media_type)


@settings(deadline=None)
@given(st.lists(GOOD_READING, max_size=6))
def test_readings_are_the_same_when_each_is_checked_by_itself(body: list[dict[str, Any]]) -> None:
    typed = _parse_json(body)
    assert typed[1].count == 0
    assert len(typed[0]) == len(body)
    assert _comparable(typed) == _comparable(_parse_one_by_one(body))
    assert _comparable(typed) == _comparable(_parse(msgspec.msgpack.encode(body), "application/msgpack"))


def _check_sanity(body: bytes, media_type: str) -> None:
    """Check that all readings can be stored, all rejections are counted, and the receipt can be encoded."""
    try:
        readings, rejected, _ = _parse(body, media_type)
    except (InvalidRequestError, PayloadTooLargeError):
        return
    for reading in readings:
        assert reading.values
        assert all(type(value) is float and -1e100 <= value <= 1e100 for value in reading.values.values())
        assert all(name.isprintable() for name in (reading.sensor, *reading.values))
        assert "\0" not in json.dumps([reading.sensor, *reading.values, reading.tags], ensure_ascii=False)
        assert json.dumps(reading.tags, ensure_ascii=False).encode()
        assert abs(reading.time_us - NOW_US) <= 399 * 86_400 * 1_000_000
    assert rejected.count >= sum(1 for item in rejected.listed if item.tag is None)
    assert sum(rejected.by_code.values()) == rejected.count
    answer = msgspec.json.encode(Receipt(None, 0, 0, rejected.listed, rejected.count))
    assert b"\\u0000" not in answer


def _parse(body: bytes, media_type: str = "") -> ParsedObjects:
    readings, rejected, gateway, _ = native.parse(body, media_type, ReceiptTimes(NOW_US))
    return as_objects(readings), rejected, gateway


def _parse_json(body: Any) -> ParsedObjects:
    return _parse(json.dumps(body).encode())


def _parse_one_by_one(body: list[Any]) -> ParsedObjects:
    """Parse a list with each reading checked by itself, as if some reading did not fit the types."""
    return _parse_json([*body, None])


def _comparable(parsed: ParsedObjects) -> tuple[list[Reading], str | None]:
    return parsed[0], parsed[2]
