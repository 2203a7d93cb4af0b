"""Line protocol, by the official corpus of its authors and by errors that name line and column."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from app.ingest.formats.influx.lines import MalformedLineError, decode, read_head, read_points

CORPUS = json.loads((Path(__file__).parent / "corpus" / "line-protocol-decode.json").read_bytes())
#: Cases that are read in another way on purpose, by key, with the reason.
NOT_A_NUMBER = "NaN is refused as a value, and so does not cost the other values of the body"
TOO_LARGE = "a number beyond all floats is refused as a value, and so does not cost the other values of the body"
DIFFERING = {
    "01d656989c6ee53bb1eedf0940c8590a": TOO_LARGE,
    "08f9c5e1b35ccb42c659258af369d4ea": NOT_A_NUMBER,
    "293e997b9bdff6c0851ef66ca00d3121": NOT_A_NUMBER,
    "35501c99a0ff577411654824d023c4f7": NOT_A_NUMBER,
    "4186cc69fe556054cd043de2aaa8f689": NOT_A_NUMBER,
    "4e1a2bb45b319417c6fa6682fda043e3": "a NUL follows the body, as firmware in C sends it; it is left out",
    "65a6b6d377ec56f1512ff0e89ff145cd": NOT_A_NUMBER,
    "730136f6298b4b3e004002cf40d4f8c2": TOO_LARGE,
    "790e120c05fbbfcb11b57f7bca59942b": TOO_LARGE,
}
PRECISIONS_NS = {"1ns": 1, "1µs": 1_000, "1ms": 1_000_000, "1s": 1_000_000_000}


def test_points_are_those_of_the_official_corpus() -> None:
    differing = [key for key, case in CORPUS.items() if _read(case["input"]) != _expected(case["output"])]
    assert differing == list(DIFFERING)
    assert len(CORPUS) == 3_297


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("m v=1\ncpu value=*", (2, 11), "the value of the field 'value' comes here, not '*'"),
        ("m v=nano", (1, 5), "'nano' is neither a number nor a boolean"),
        ("m v=+1", (1, 5), "'+1' is neither a number nor a boolean"),
        ("\n\nm,a=1,a=2 v=1", (3, 7), "the tag 'a' is given twice"),
        ("m,a=1,b v=1", (1, 8), "= comes after the tag 'b', not ' '"),
        ("m,a= v=1", (1, 5), "the value of the tag 'a' comes here, not ' '"),
        ("m", (1, 2), "a blank and the fields come here, not the end"),
        ("m v=1,", (1, 7), "the name of a field comes here, not the end"),
        ("m v=1 1.5", (1, 7), "only a time, a whole number, comes after the fields, then the line's end"),
        ("m v=1 99999999999999999999", (1, 7), "the time is '99999999999999999999'; send a whole number of 64 bits"),
        ("m v=1,w=1.0i", (1, 9), "'1.0i' is no whole number"),
        ("m v=9223372036854775808i", (1, 5), "'9223372036854775808i' does not fit into 64 bits"),
        ("m v=true,w=tru", (1, 12), "'tru' is neither a number nor a boolean"),
        ('m v="a"b', (1, 8), "a comma, a blank or the line's end comes after a field, not 'b'"),
        ('m v="a', (1, 5), "the value of the field 'v' comes here, not '\"'"),
        (",a=b v=1", (1, 1), "a line begins with a measurement, not with ','"),
        ("# a\tb", (1, 1), "the comment has a control character"),
        (b"m v=1\nm\xff v=1", (2, 2), "the text is not UTF-8"),
    ],
)
def test_malformed_line_is_refused_with_its_place_and_the_reason(
    text: str | bytes, place: tuple[int, int], reason: str
) -> None:
    with pytest.raises(MalformedLineError) as refused:
        list(read_points(decode(text.encode() if isinstance(text, str) else text)))
    assert (refused.value.line, refused.value.column) == place
    assert str(refused.value) == f"line {place[0]}, column {place[1]}: {reason}"


def test_line_is_counted_right_when_texts_and_comments_go_before_it() -> None:
    points = read_points('# first\n\nm s="a\nb",v=1\n  m v=2i 5\r\nm v=t')
    assert [(point.line, point.fields, point.time) for point in points] == [
        (3, [("s", "a\nb"), ("v", 1.0)], None),
        (5, [("v", 2)], 5),
        (6, [("v", True)], None),
    ]


def test_long_hostile_text_is_refused_in_time_that_grows_with_its_length() -> None:
    for text in ("\\" * 10**6, "m," + "a=b," * 250_000, "m " + 'v="' + "\\" * 10**6, "m v=" + "1" * 10**6 + "i"):
        with pytest.raises(MalformedLineError):
            list(read_points(text))


def _read(case: dict[str, Any]) -> list[tuple[Any, ...]] | None:
    """Return what a body of the corpus says, or None if it is refused."""
    unit_ns, default_ns = PRECISIONS_NS[case["precision"]], case["defaultTime"]
    points = []
    try:
        for point in read_points(decode(_bytes(case["text"]))):
            measurement, tags = read_head(point.head)
            time_ns = default_ns // unit_ns * unit_ns if point.time is None else point.time * unit_ns
            points.append((measurement, sorted(tags.items()), point.fields, time_ns))
    except MalformedLineError:
        return None
    return points


def _expected(output: dict[str, Any]) -> list[tuple[Any, ...]] | None:
    if "error" in output:
        return None
    return [
        (
            _text(point["name"]),
            sorted((_text(tag["key"]), _text(tag["value"])) for tag in point["tags"]),
            [(_text(field["key"]), _value(field["value"])) for field in point["fields"]],
            point["time"],
        )
        for point in output["result"]
    ]


def _value(value: dict[str, Any]) -> Any:
    (kind,) = value
    return _text(value[kind]) if kind == "string" else value[kind]


def _text(text: Any) -> str:
    return _bytes(text).decode()


def _bytes(text: Any) -> bytes:
    return b64decode(text["binary"]) if isinstance(text, dict) else text.encode()
