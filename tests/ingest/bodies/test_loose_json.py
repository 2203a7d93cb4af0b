"""JSON as firmware writes it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingest.bodies.loose_json import Repeated, Word, decode_json, read_number, strip_nuls

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(JSON)
def test_json_is_decoded_as_by_the_standard_library(value: Any) -> None:
    assert decode_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("word", ["nan", "NaN", "-nan", "NAN(0x7ff)", "-nan(ind)", "1.#QNAN", "-1.#IND00"])
def test_word_for_no_number_is_nan(word: str) -> None:
    (value,) = decode_json(f'{{"a nan, {{b": {word} }}'.encode()).values()
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("word", "value"), [("inf", math.inf), ("-inf", -math.inf), ("+Infinity", math.inf), ("-1.#INF", -math.inf)]
)
def test_word_for_infinity_is_infinite(word: str, value: float) -> None:
    assert decode_json(f"[{word},1]".encode()) == [value, 1]


@pytest.mark.parametrize("word", ["None", "01", "+5", ".5", "0x1F", "undefined", "12C"])
def test_other_word_stands_for_itself(word: str) -> None:
    good, bad = decode_json(f'[{{"a": 1}}, {{"a": {word}, "b": nan}}]'.encode())
    assert good == {"a": 1}
    assert isinstance(bad["a"], Word)
    assert repr(bad["a"]) == word


def test_key_that_stands_twice_is_named() -> None:
    value = decode_json(b'[{"a": 1, "b": 2, "b": 3, "a": 4}, {"a": 1}]')
    assert isinstance(value[0], Repeated)
    assert value[0].repeated_key == "b"
    assert not isinstance(value[1], Repeated)


def test_integer_of_thousands_of_digits_keeps_its_beginning() -> None:
    assert decode_json(b"1" * 5_000) == int("1" * 400)


def test_missing_value_becomes_a_word_and_a_last_comma_is_left_out() -> None:
    decoded = decode_json(b'[{"a": , "b": 1, "c":}, {"a": ":,]", "b": [1, 2 , ],},\n]')
    assert repr(decoded) == "[{'a': nothing, 'b': 1, 'c': nothing}, {'a': ':,]', 'b': [1, 2]}]"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_read_in_each_of_its_encodings_also_with_nuls_after_it(encoding: str) -> None:
    for nuls in ("", "\0", "\0\0\0"):
        body = f'{{"a": "é"}}{nuls}'.encode(encoding)
        assert decode_json(strip_nuls(body)) == {"a": "é"}


@pytest.mark.parametrize("body", [b"", b"{", b'{"a" 1}', b"[1,,2]", b"[ ,]", b"{,}", b"[nan nan]", b'"a', b"\xff"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(body)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("+1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("-1e3", -1000.0)])
def test_number_is_read_as_people_write_it(text: str, number: float) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", "1,5", "12 C", "0x1F", "١"])
def test_text_that_is_no_number_stands_for_itself(text: str) -> None:
    assert isinstance(read_number(text), Word)
