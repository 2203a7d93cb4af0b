"""Almost-JSON of firmware: it is read value by value, so that a bad value affects no other value.

C's `printf` writes `nan`, `-inf` or `1.#IND`, Python's `str` writes `None`, and a counter may have thousands of digits.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

#: A text, a place where a value is missing, a comma before the first item or after the last one, or a word outside of
#: texts: a number, a name, or what should have been one.
_TOKEN: Final = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|:(?=\s*+[,}\]])|[\[{]\s*+,|,(?=\s*+[\]}])|[^\s"\[\]{},:]++', re.DOTALL
)
#: What messages show in the place of a missing value.
_MISSING: Final = "nothing"
_GOOD: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null", re.ASCII)
#: As people and other programs write numbers.
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NOT_A_NUMBER: Final = re.compile(r"[+-]?nan(?:\(.*)?|[+-]?1\.#(?:qnan|snan|ind)[0-9]*", re.IGNORECASE)
_INFINITE: Final = re.compile(r"([+-]?)(?:inf(?:inity)?|1\.#inf[0-9]*)", re.IGNORECASE)
#: Integers with more digits are out of any range; all digits of a few thousand would take long.
_DIGITS_LIMIT: Final = 400


def strip_nuls(body: bytes) -> bytes:
    """Return JSON without the NULs that firmware counts to the text; in other encodings, NULs are parts of letters."""
    return body.rstrip(b"\0") if json.detect_encoding(body).startswith("utf-8") else body


class Word:
    """A word that is no value of JSON, such as `None` or `01`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text[:61]


class Repeated(dict[Any, Any]):
    """An object in which a key stands twice."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]], key: str) -> None:
        super().__init__(pairs)
        #: The first key that stands twice.
        self.repeated_key = key


def decode_json(body: bytes) -> Any:
    """Decode JSON in any of its encodings, without NULs after it; raise ValueError or RecursionError.

    Words that are no JSON become numbers, where they are meant as such, else Word, and so do missing values. A comma
    after the last item is left out. An object with a key twice is Repeated.
    """
    return _decode_text(body.decode(json.detect_encoding(body), "surrogatepass"))


def decode_utf8_json(part: bytes) -> Any:
    """Decode a part of a body likewise. Its body was found to be UTF-8, whatever the part looks like."""
    return _decode_text(part.decode("utf-8", "surrogatepass"))


def _decode_text(text: str) -> Any:
    text = text.rstrip("\0")
    try:
        return _decode(text, [])
    except ValueError:
        words: list[str] = []
        repaired = _TOKEN.sub(lambda token: _replace(token[0], words), text)
        if repaired != text:
            with suppress(ValueError):
                return _decode(repaired, words)
        raise


def read_number(text: str) -> int | float | Word:
    """Return the number in a text, also NaN and infinities; return a Word for any other text."""
    if _NUMBER.fullmatch(text):
        return _read_integer(text) if text.lstrip("+-").isdigit() else float(text)
    return _read_word(text)


def _decode(text: str, words: list[str]) -> Any:
    """Decode a text in which `words`, in their order, stand as constants."""
    left = iter(words)
    return json.loads(
        text,
        object_pairs_hook=_as_object,
        parse_int=_read_integer,
        parse_constant=lambda constant: _read_word(next(left, constant)),
    )


def _replace(part: str, words: list[str]) -> str:
    """Return a part that JSON has; in place of a word that it does not have, note the word and return a constant."""
    if part == ",":
        return ""
    if part == ":":
        words.append(_MISSING)
        return ":NaN"
    if part.startswith(('"', "[", "{")) or _GOOD.fullmatch(part):
        return part
    words.append(part)
    return "NaN"


def _read_word(word: str) -> float | Word:
    if _NOT_A_NUMBER.fullmatch(word):
        return float("nan")
    if infinite := _INFINITE.fullmatch(word):
        return float(f"{infinite[1]}inf")
    return Word(word)


def _read_integer(digits: str) -> int:
    return int(digits[:_DIGITS_LIMIT])


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    return Repeated(pairs, str(find_repeated_key([key for key, _ in pairs])))


def find_repeated_key(keys: Iterable[Any]) -> Any:
    """Return the first key that stands twice, None if there is none."""
    seen: set[Any] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None
