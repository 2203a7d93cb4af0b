"""Hostile values, and requests that put each into every parameter and field of the routes of an OpenAPI document."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: As they stand in a URL.
URL_TEXTS = (
    "%00", "a%00b", "%ED%A0%80", "%FF%FE", "%F0%9F%98%80", "%2F..%2F..%2F", "%25", "%0D%0AX:1", "+", "%20", "x" * 201,
    "x" * 5_000, "*" * 200, "%2Aa" * 60, "%5B", "%27%20OR%201=1--",
    "-1", "0", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 400,
    "9" * 5_000, "1e400", "nan", "-Infinity", "0x10", "%D9%A1", "1_0", "true", "null", "[]", "{}",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00",
    "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-31T08:00:00", "999999999999999", "253402300799999",
    "-1ms", "-3660d", "-99999999999999999999d", "now", "now-1h", "9223372036854775807.9223372036854775807",
    "253402300800000000.1", "999999999999999999.999999999999999999", "1.1", "bnVsbA==", "eyJhIjoxfQ", "Etc/GMT%2B5",
)  # fmt: skip
#: JSON texts of values.
JSON_TEXTS = (
    "null", "true", "0", "-1", "1e400", "-1e308", "NaN", "9223372036854775808", "9" * 400, "9" * 5_000, '""', '" "',
    r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', '"' + "x" * 201 + '"', '"' + "x" * 100_000 + '"',
    '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59.999999Z"',
    '"9999-12-31T23:59:59-14:00"', '"2026-01-31T08:00:00"', '"' + "*a" * 100 + '"', "[]", "{}", "[[]]", "[null]",
    '[{"a":1}]', r'{"\u0000":"\u0000"}', r'{"\ud800":1}', '{"":null}', "[" * 500 + "]" * 500,
    '{"a":' * 500 + "1" + "}" * 500,
    "[" * 100_000, '{"a":' * 100_000,
)  # fmt: skip
#: Whole bodies.
BODIES = (
    b"", b" ", b"\0", b"\xff\xfe", b"\xef\xbb\xbf{}", b'"\xff"', b"{", b'{"a":1', b"nul",
    *(text.encode() for text in JSON_TEXTS)
)  # fmt: skip
#: What a body is said to be.
HEADERS = (
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": "multipart/form-data"},
    {"Content-Type": "multipart/form-data; boundary=" + "x" * 200},
    {"Content-Type": "application/msgpack"},
    {"Content-Type": "application/json; charset=utf-99"},
    {"Content-Type": "é/\xff"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "zstd"},
    {"Content-Encoding": "é"},
    {"Accept": "text/csv; q=nan"},
    {"Accept": ",;,*"},
    {"Idempotency-Key": "x" * 5_000},
    {"Idempotency-Key": "\xff"},
    {"X-Request-ID": "\xff"},
    {"Authorization": "Bearer \xff"},
    {"X-API-Key": "é"},
    {"Cookie": "a=\xff; ;=;"},
    {"Host": "\xff"},
    {"Range": "bytes=-9" + "9" * 400},
)


class HostileRequest(NamedTuple):
    """One request; the path is encoded already."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}


def requests_of(method: str, path: str, spec: Mapping[str, Any], valid: Mapping[str, str]) -> Iterator[HostileRequest]:
    """Yield requests with one hostile value each; `valid` has good values of parameters by name."""
    parameters: Sequence[Any] = spec.get("parameters", ())
    query = {one["name"]: valid[one["name"]] for one in parameters if one["in"] == "query" and one["name"] in valid}
    examples = _examples(spec)
    body = _encoded(examples[0]) if examples else None
    address = address_of(path, valid, query)
    for one in parameters:
        for text in URL_TEXTS if one["in"] in ("path", "query") else ():
            given = {**query, one["name"]: text} if one["in"] == "query" else query
            yield HostileRequest(method, address_of(path, {**valid, one["name"]: text}, given), body)
        twice = f"{one['name']}=1&{one['name']}=2&{one['name']}"
        yield HostileRequest(method, f"{address}{'&' if query else '?'}{twice}", body)
    for headers in HEADERS:
        yield HostileRequest(method, address, body, headers)
    if "requestBody" in spec:
        bodies = (hostile for example in examples for hostile in _with_hostile_fields(example))
        yield from (HostileRequest(method, address, each) for each in (*BODIES, *bodies))


def _encoded(example: Any) -> bytes:
    """Return an example as a body: JSON, or the text itself."""
    return example.encode() if isinstance(example, str) else json.dumps(example).encode()


def address_of(path: str, in_path: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Return a path with its parameters; a value of a parameter is encoded already."""
    for name, text in in_path.items():
        path = path.replace(f"{{{name}}}", text)
    return f"{path}?{'&'.join(f'{name}={text}' for name, text in query.items())}" if query else path


def _examples(spec: Mapping[str, Any]) -> list[Any]:
    contents = spec.get("requestBody", {}).get("content", {}).values()
    own = [example["value"] for content in contents for example in content.get("examples", {}).values()]
    return own + [example for content in contents for example in content["schema"].get("examples", ())]


def _with_hostile_fields(example: Any) -> Iterator[bytes]:
    """Yield the example with each of its values replaced by each hostile value, and with hostile names of fields."""
    mark = "HOSTILE"
    for place in _places(example):
        text = json.dumps(_replaced(example, place, mark))
        for hostile in JSON_TEXTS:
            yield text.replace(f'"{mark}"', hostile).encode()
    for place in _places(example):
        name = r"\u0000\ud800"
        yield json.dumps(_replaced(example, place, {mark: 1})).replace(mark, name).encode()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:1])
    for key, item in items:
        yield (*place, key)
        yield from _places(item, (*place, key))


def _replaced(value: Any, place: Sequence[Any], by: Any) -> Any:
    if not place:
        return by
    copy = value.copy()
    copy[place[0]] = _replaced(value[place[0]], place[1:], by)
    return copy
