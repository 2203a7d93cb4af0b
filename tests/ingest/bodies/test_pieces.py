"""Large bodies in pieces: the same readings as if they were decoded at once, and limits before memory is taken."""

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import to_us
from app.errors import AppError, InvalidRequestError, PayloadTooLargeError
from app.ingest.bodies import document, pieces
from app.ingest.bodies.msgpack_pieces import split_msgpack
from app.ingest.bodies.pieces import SplitBody, split_json
from app.ingest.formats import ReceiptTimes
from app.ingest.formats import readings as native
from app.ingest.uploads.receipt import Rejection
from app.model import Reading
from tests.ingest.formats.test_native import ANY, ANY_READING, GOOD_READING, NOW
from tests.ingest.uploads import as_objects

NOW_US = to_us(NOW)
MIB = 2**20
ITEMS = st.lists(GOOD_READING | ANY_READING | ANY, max_size=8)
ENVELOPES = st.fixed_dictionaries(
    {"readings": ITEMS},
    optional={"gateway": st.sampled_from(["roof", "", '"}],', 5]), "units": st.just({"t": "°C"}) | ANY, "x": ANY},
)
SPACES = st.sampled_from(["", " ", "\n\t"])
Result = tuple[list[Reading], int, list[Rejection], str | None] | type[AppError]


@settings(deadline=None, max_examples=300)
@given(body=ITEMS | ENVELOPES, piece_bytes=st.sampled_from([1, 40, 200]), space=SPACES, data=st.data())
def test_pieces_of_json_give_the_same_readings_as_the_whole(
    body: Any, piece_bytes: int, space: str, data: st.DataObject
) -> None:
    text = space + json.dumps(body, separators=(f"{space},{space}", f"{space}:{space}"), ensure_ascii=False) + space
    encoded = text.encode("utf-8", "surrogatepass")
    if data.draw(st.booleans(), "broken"):
        at = data.draw(st.integers(0, len(encoded)), "at")
        encoded = encoded[:at] + data.draw(st.sampled_from([b"", b",", b'"', b"]", b"{"]), "with") + encoded[at + 1 :]
    assert _parse_in_pieces(encoded, "", piece_bytes) == _parse(encoded, "")


@settings(deadline=None, max_examples=100)
@given(body=ITEMS | ENVELOPES, piece_bytes=st.sampled_from([1, 40, 200]))
def test_pieces_of_messagepack_give_the_same_readings_as_the_whole(body: Any, piece_bytes: int) -> None:
    try:
        encoded = msgspec.msgpack.encode(body)
    except (UnicodeEncodeError, OverflowError):
        return
    media_type = "application/msgpack"
    assert _parse_in_pieces(encoded, media_type, piece_bytes) == _parse(encoded, media_type)


@pytest.mark.parametrize("body", ["[,]", "[,1]", "[1,,2]", "[1", "[", "[1]]", "[1] 2", '["a]', "[1}", "[{]}]"])
def test_json_is_refused_when_a_list_is_broken(body: str) -> None:
    assert _parse_in_pieces(body.encode(), "", 1) is InvalidRequestError


@pytest.mark.parametrize(
    "body",
    [
        "{",
        '{"readings"}',
        '{"readings":[1]',
        '{"readings":[],,}',
        '{"readings":[] "a":2}',
        "{5:[]}",
        '{"readings":[],"a":[[}',
        '{"readings":[]}}',
        '{,"readings":[]}',
        '{"gateway":,"readings":[]}',
    ],
)
def test_json_is_refused_when_an_object_is_broken(body: str) -> None:
    assert _parse_in_pieces(body.encode(), "", 1) is InvalidRequestError


@pytest.mark.parametrize("rest", ['{""null}', '[{""null}]', '[1,{"a":{"b":[1 2]}}]', '"\\q"'])
def test_json_is_refused_when_a_field_that_nobody_reads_is_broken(rest: str) -> None:
    for start in ('"readings":[],"gateway":"roof"', '"times":[],"values":[],"sensor":"a","metric":"t"'):
        body = f'{{{start},"x":{rest}}}'.encode()
        assert _parse_in_pieces(body, "", 1) == _parse(body, "") == InvalidRequestError, body


@pytest.mark.parametrize("body", [b"5", b'"a"'])
def test_json_has_no_parts_when_it_is_neither_a_list_nor_an_object(body: bytes) -> None:
    assert split_json(body) == SplitBody()


def test_lists_of_an_object_are_in_pieces_and_other_fields_are_whole() -> None:
    fields = split_json(b'{"readings":[1,{"a":{}}],"gateway":"a", "times" : ["x","y"] ,"u":{"t":1}}').fields
    assert fields is not None
    shown = {name: part if isinstance(part, bytes) else [*part()] for name, part in fields.items()}
    assert shown == {
        "readings": [b"[1]", b'[{"a":{}}]'],
        "gateway": b'"a"',
        "times": [b'["x"]', b'["y"]'],
        "u": b'{"t":1}',
    }


@pytest.mark.parametrize("body", [b'{"readings":[1],"readings":[2]}', b'{"gateway":"a","readings":[],"gateway":"a"}'])
def test_body_is_refused_when_a_field_stands_in_it_twice(body: bytes) -> None:
    for limit in (-1, 2**20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(document, "WHOLE_BYTES", limit)
            with pytest.raises(InvalidRequestError, match="twice; send it once"):
                native.parse(body, "", ReceiptTimes(NOW_US))


@pytest.mark.parametrize("start", [b"[", b'[{"a":', b'["', b'["\\\\', b"[[", b"[{},[", b'{"x":', b'{"', b'{"x":{"y":"'])
def test_item_is_refused_when_it_is_larger_than_a_mebibyte(start: bytes) -> None:
    body = start + b"a" * (2 * MIB) + b'"]}'
    with pytest.raises((PayloadTooLargeError, InvalidRequestError)) as refusal:
        split_json(body)
    assert "larger than 1 MiB" in str(refusal.value) or "a name in double quotes is expected" in str(refusal.value)


def test_object_is_refused_when_it_has_thousands_of_fields() -> None:
    with pytest.raises(PayloadTooLargeError, match="more than 100000 fields"):
        split_json(b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}")


@pytest.mark.parametrize("item", [b"[1]", b'{"a":{"b":{"c":1}}}'])
def test_list_is_refused_when_it_has_too_many_items_that_are_no_readings(item: bytes) -> None:
    with pytest.raises(PayloadTooLargeError, match="The body has 100001 readings; send at most 100000 at a time"):
        split_json(b"[" + (item + b",") * 200_000 + b"1]")


def test_messagepack_is_refused_by_the_length_that_it_claims() -> None:
    for length in (100_001, 2**32 - 1):
        for start in (b"", b"\x81\xa8readings"):
            body = (
                start + b"\xdd" + struct.pack(">I", length) + b"\xc0" * length if length < MIB else start + b"\xdd\xff"
            )
            with pytest.raises((PayloadTooLargeError, InvalidRequestError)):
                split_msgpack(body)


def test_messagepack_is_refused_when_one_reading_is_larger_than_a_mebibyte() -> None:
    body = msgspec.msgpack.encode([{"sensor": "a", "values": {"x" * MIB: 1}}])
    pieces_of = split_msgpack(body).items
    assert pieces_of is not None
    with pytest.raises(PayloadTooLargeError, match="Reading 0 is larger than 1 MiB"):
        list(pieces_of())


def test_body_is_refused_when_it_has_more_values_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [{"sensor": "a", "time": NOW_US // 1_000 - number, "values": {"x": 1, "y": 2}} for number in range(50)]
    monkeypatch.setattr(document, "WHOLE_BYTES", 0)
    monkeypatch.setattr(pieces, "VALUES_LIMIT", 100)
    body = msgspec.json.encode(readings)
    assert len(native.parse(body, "", ReceiptTimes(NOW_US)).readings.values) == 100
    readings.append({"sensor": "b", "values": {"x": "bad"}})
    with pytest.raises(PayloadTooLargeError, match="The body has more than 100 values; send smaller batches"):
        native.parse(msgspec.json.encode(readings), "", ReceiptTimes(NOW_US))


def _parse_in_pieces(body: bytes, media_type: str, piece_bytes: int) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "WHOLE_BYTES", -1)
        patch.setattr(pieces, "PIECE_BYTES", piece_bytes)
        return _parse(body, media_type)


def _parse(body: bytes, media_type: str) -> Result:
    try:
        readings, rejected, gateway, _ = native.parse(body, media_type, ReceiptTimes(NOW_US))
    except AppError as error:
        return type(error)
    return as_objects(readings), rejected.count, rejected.listed, gateway
