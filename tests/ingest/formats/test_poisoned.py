"""Bodies with one poisoned value: the rest is stored, the report says what is wrong, and the next batch is stored."""

import gzip
import json
import struct
from typing import Any, NamedTuple

import msgspec
import pytest

from app.clock import now_us
from tests.conftest import API_KEY, Database, Server
from tests.ingest.client import READINGS, send

NOW_MS = now_us() // 1_000
GOOD = {"sensor": "good", "values": {"t": 1}}


class Poison(NamedTuple):
    """A reading as it is sent, and what is said of it: code, metric or tag, and words of the message."""

    reading: str
    code: str
    named: str | None
    message: str
    #: Values of the reading that are stored all the same.
    stored: int = 0


POISONS = [
    *(
        Poison(f'{{"sensor":"a","values":{{"t":{word},"h":2}}}}', "value_out_of_range", "t", f"t is {shown}; send", 1)
        for word, shown in (
            ("nan", "nan"), ("NAN", "nan"), ("-nan", "nan"), ("nan(0x8000)", "nan"), ("-nan(ind)", "nan"),
            ("1.#QNAN", "nan"), ("-1.#IND", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("INF", "inf"),
            ("Infinity", "inf"), ("1.#INF", "inf"), ("1e999", "inf"),
            ("9" * 5_000, "9" * 57 + "..."), ("-" + "9" * 5_000, "-" + "9" * 56 + "..."),
        )
    ),
    *(
        Poison(f'{{"sensor":"a","values":{{"t":{word},"h":2}}}}', "value_not_a_number", "t", f"t is {word}; send", 1)
        for word in ("None", "undefined", "01", "+5", ".5", "5.", "0x1F", "12C", "ovf", "--", "*")
    ),
    Poison('{"sensor":"a","values":{"t":9007199254740993,"h":2}}', "value_not_exact", "t", "9007199254740993", 1),
    Poison('{"sensor":"a","values":{"t":true,"h":2}}', "value_not_a_number", "t", "t is True", 1),
    Poison('{"sensor":"a","values":{"t":1,"t":2}}', "key_repeated", None, "values has the key 't' twice"),
    Poison('{"sensor":"a","sensor":"b","values":{"t":1}}', "key_repeated", None, "the key 'sensor' twice"),
    Poison('{"sensor":"a","tags":{"x":"1","x":"2"},"values":{"t":1}}', "key_repeated", None, "tags has the key 'x'"),
    *(
        Poison(f'{{"sensor":"a","{name}":{NOW_MS - 1},"values":{{"t":1}}}}', "field_unknown", None, "mean time?")
        for name in ("ts", "Time", "timestamp", "timestamp_ms", "TS", "tiem", "time_ms", "datetime", "measured_at")
    ),
    Poison('{"sensor_id":"a","values":{"t":1}}', "field_unknown", None, "did you mean sensor?"),
    Poison('{"Sensor":"a","values":{"t":1}}', "field_unknown", None, "did you mean sensor?"),
    Poison('{"sensor":"a","vaules":{"t":1}}', "field_unknown", None, "did you mean values?"),
    Poison('{"sensor":"a","labels":{"t":"1"},"values":{"t":1}}', "field_unknown", None, "did you mean tags?"),
    Poison('{"sensor":"a","temperature":5}', "values_missing", None, "put 'temperature' into it"),
    Poison('{"sensor":"a","time":"2026-01-31","values":{"t":1}}', "time_invalid", None, "it lacks the time of day"),
    Poison('{"sensor":"a","time":"2026-13-31T08:00Z","values":{"t":1}}', "time_invalid", None, "its month is 13"),
    Poison('{"sensor":"a","time":"2026-01-31T08:00","values":{"t":1}}', "time_without_zone", None, "has no zone"),
    Poison(f'{{"sensor":"a","time":{NOW_MS // 1_000},"values":{{"t":1}}}}', "time_too_old", None, "not seconds"),
    Poison(f'{{"sensor":"a","time":{NOW_MS}000,"values":{{"t":1}}}}', "time_invalid", None, "like microseconds"),
    Poison(f'{{"sensor":"a","time":{NOW_MS}000000,"values":{{"t":1}}}}', "time_invalid", None, "like nanoseconds"),
    Poison('{"sensor":"a","time":nan,"values":{"t":1}}', "time_invalid", None, "time is nan"),
    *(
        Poison(f'{{"sensor":"{name}","values":{{"t":1}}}}', "sensor_invalid", None, "sensor is ")
        for name in (".", "..", " ", "\\u200b", "a\\u0000", "\\ud800", "a\\u200db")
    ),
    Poison('{"sensor":"a","values":{".":1,"h":2}}', "metric_invalid", "'.'", "the metric is named '.'", 1),
    Poison('{"sensor":"a","values":{"t":1," t":2}}', "metric_invalid", "t", "so is another value", 1),
    Poison('{"sensor":"a","tags":{"x":[1]},"values":{"t":1}}', "tags_invalid", "x", "tag 'x' is [1]", 1),
    Poison('{"sensor":"a","tags":{"x":nan},"values":{"t":1}}', "tags_invalid", "x", "tag 'x' is nan", 1),
    Poison('{"sensor":"a","tags":[],"values":{"t":1}}', "tags_invalid", "", "tags is []", 1),
    Poison('{"sensor":"a","unit":5,"values":{"t":1}}', "unit_invalid", None, "the unit of 'every value' is 5", 1),
    Poison('{"sensor":"a","units":5,"values":{"t":1}}', "unit_invalid", None, "units is 5; send an object", 1),
    Poison('{"sensor":"a","units":{"t":5},"values":{"t":1}}', "unit_invalid", "t", "the unit of 't' is 5", 1),
    Poison('{"sensor":"a","values":{"t":,"h":2}}', "value_not_a_number", "t", "t is nothing; send", 1),
    Poison('{"sensor":"a","values":{"h":2,"t": }}', "value_not_a_number", "t", "t is nothing; send", 1),
    Poison('{"sensor":"a","time":,"values":{"t":1}}', "time_invalid", None, "time is nothing"),
    Poison('{"sensor":"a","time":"1795895075573","values":{"t":1}}', "time_invalid", None, "it is a number in quotes"),
    Poison('{"sensor":"a","ts":5,"values":{"t":1},}', "field_unknown", None, "did you mean time?"),
    Poison("5", "reading_invalid", None, "a reading is 5"),
    Poison("nan", "reading_invalid", None, "a reading is nan"),
    Poison('"a"', "reading_invalid", None, "a reading is 'a'"),
]  # fmt: skip


async def test_rest_of_a_batch_is_stored_when_a_reading_is_poisoned(server: Server, database: Database) -> None:
    for number, poison in enumerate(POISONS):
        good = json.dumps({**GOOD, "time": NOW_MS - 2 * number})
        for form in (f"[{good},{poison.reading}]", f'{{"readings":[{good},{poison.reading}]}}'):
            answer = await send(server, form.encode())
            assert answer.status == 200, (poison, answer)
            (refused,) = answer.body["rejected"]
            assert (refused["index"], refused["code"]) == (1, poison.code), poison
            assert refused.get("tag", refused.get("metric")) == poison.named, poison
            assert poison.message in refused["message"], (poison, refused)
            assert len(refused["message"]) < 300
            assert answer.body["rejected_count"] == (0 if "tag" in refused or poison.code == "unit_invalid" else 1)
            assert answer.body["accepted"] + answer.body["duplicates"] == 1 + poison.stored, poison
        following = await send(server, [{**GOOD, "time": NOW_MS - 2 * number - 1}])
        assert (following.status, following.body["accepted"]) == (200, 1)
    stored = await database.pool.fetchval(
        "SELECT count(*) FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id"
        " WHERE name = 'good'"
    )
    assert stored == 2 * len(POISONS)


@pytest.mark.parametrize(
    ("name", "stored"),
    [(" Grün ", "Grün"), ("Gru\u0308n", "Grün"), ("👩\u200d🔬", "👩\u200d🔬"), ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥")],
)
async def test_names_are_stored_in_one_form(server: Server, database: Database, name: str, stored: str) -> None:
    for media_type in ("application/json", "application/msgpack"):
        body = [{"sensor": name, "time": NOW_MS, "values": {name: 1}}]
        raw = msgspec.msgpack.encode(body) if "msgpack" in media_type else msgspec.json.encode(body)
        assert (await send(server, raw, Content_Type=media_type)).body["rejected"] == []
    rows = await database.pool.fetch("SELECT name, metric FROM sensor JOIN series ON sensor.id = sensor_id")
    assert [tuple(row) for row in rows] == [(stored, stored)]


async def test_scalar_tags_are_stored_as_text_and_null_is_left_out(server: Server, database: Database) -> None:
    tags = {"site": "roof", "floor": 3, "height": 2.5, "new": True, "old": None}
    assert (await send(server, [{"sensor": "a", "values": {"t": 1}, "tags": tags}])).body["rejected"] == []
    stored = await database.pool.fetchval("SELECT tags FROM sensor WHERE name = 'a'")
    assert stored == {"site": "roof", "floor": "3", "height": "2.5", "new": "true"}


@pytest.mark.parametrize("name", ["readigns", "Readings", "reading", "items", "data"])
async def test_misspelt_list_of_readings_is_refused_with_the_right_name(server: Server, name: str) -> None:
    answer = await send(server, {name: [GOOD]})
    assert answer.status == 400
    assert "did you mean " in answer.body["detail"]
    assert "The nearest is, for example: {" in answer.body["detail"]


async def test_misspelt_gateway_is_refused_and_repeated_fields_too(server: Server) -> None:
    answer = await send(server, {"gatway": "roof", "readings": [GOOD]})
    assert (answer.status, answer.body["detail"]) == (
        400,
        "The body has the field 'gatway', which is unknown; did you mean gateway?",
    )
    repeated = await send(server, b'{"gateway":"a","gateway":"b","readings":[]}')
    assert (repeated.status, repeated.body["detail"]) == (400, "The body has the field 'gateway' twice; send it once")


@pytest.mark.parametrize("name", ["time", "ts", "timestamp"])
async def test_reading_without_time_is_refused_when_its_body_has_one(server: Server, name: str) -> None:
    """It would be stored with the time of receipt."""
    for padding in (0, 11_000):
        readings = [{**GOOD, "time": NOW_MS - 5}, GOOD]
        answer = await send(server, {name: NOW_MS - 5_000, "readings": readings, "more": ["x" * 100] * padding})
        assert [(each["index"], each["code"], each["message"]) for each in answer.body["rejected"]] == [
            (1, "field_unknown", f"the reading has no time, and the body has {name!r}; put the time into each reading")
        ]


async def test_last_comma_is_left_out_of_a_large_body_as_of_a_small_one(server: Server) -> None:
    for padding in (0, 11_000):
        more = json.dumps(["x" * 100] * padding)
        body = f'{{"readings":[{json.dumps(GOOD)} , ], "more":{more} ,\n}}'
        answer = await send(server, body.encode())
        assert (answer.status, answer.body["accepted"]) == (200, 1)


async def test_unknown_fields_are_listed_as_warnings_and_counted(server: Server) -> None:
    body = {"gateway": "roof", "readings": [{**GOOD, "rssi": -90}, {**GOOD, "rssi": -91}], "firmware": "1.2"}
    answer = await send(server, body)
    assert (answer.status, answer.body["accepted"], answer.body["rejected_count"]) == (200, 2, 0)
    assert answer.body["warnings"] == [
        "'firmware' is no field of this format and was left out 1 times",
        "'rssi' is no field of this format and was left out 2 times",
    ]
    async with server.http.get("/metrics") as response:
        assert "tidegauge_fields_ignored_total 3.0" in await response.text()


def _timestamp(seconds: int, nanoseconds: int) -> bytes:
    return b"\xc7\x0c\xff" + struct.pack(">Iq", nanoseconds, seconds)


@pytest.mark.parametrize(
    "value", [_timestamp(0, 2**30), _timestamp(2**60, 0), b"\xd4\x05\x01", b"\xc7\x01\x05\x01", b"\x81\x91\x01\x01"]
)
async def test_messagepack_value_is_refused_alone_when_json_has_none_like_it(server: Server, value: bytes) -> None:
    pack = msgspec.msgpack.encode
    good = pack({**GOOD, "time": NOW_MS})
    as_value = b"\x82" + pack("sensor") + pack("a") + pack("values") + b"\x82" + pack("t") + value + pack("h") + pack(2)
    as_time = b"\x83" + pack("sensor") + pack("a") + pack("time") + value + pack("values") + pack({"t": 1})
    for body in (b"\x93" + good + as_value + as_time, b"\x81" + pack("readings") + b"\x93" + good + as_value + as_time):
        answer = await send(server, body, Content_Type="application/msgpack")
        assert answer.status == 200, answer
        assert [(each["index"], each["code"], each.get("metric")) for each in answer.body["rejected"]] == [
            (1, "value_not_a_number", "t"),
            (2, "time_invalid", None),
        ]


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 100, b"\n\0"])
async def test_nuls_after_a_body_are_left_out(server: Server, padding: bytes) -> None:
    body = json.dumps([GOOD]).encode()
    for raw, headers in (
        (body + padding, {}),
        (gzip.compress(body) + b"\0" * 512, {"Content_Encoding": "gzip"}),
        (gzip.compress(body + padding) + b"\0", {"Content_Encoding": "gzip"}),
    ):
        answer = await send(server, raw, **headers)
        assert (answer.status, answer.body["accepted"]) == (200, 1)


async def test_nothing_is_stored_when_an_upload_is_only_tried(server: Server, database: Database) -> None:
    body = [
        {"sensor": "a", "time": NOW_MS, "values": {"t": 1, "h": None}},
        {"sensor": "a", "time": NOW_MS, "values": {"t": 2}},
        {"sensor": "b", "time": NOW_MS - 1, "values": {"t": 2}},
    ]
    await send(server, body[2:])
    tried = await send(server, body, f"{READINGS}?dry_run=1")
    rows = await database.pool.fetch("SELECT name FROM sensor")
    assert [row["name"] for row in rows] == ["b"]
    stored = await send(server, body)
    assert {**tried.counts, "seq": 2} == stored.counts
    assert (stored.body["accepted"], stored.body["duplicates"], stored.body["rejected_count"]) == (1, 2, 1)
    again = await send(server, body, f"{READINGS}?dry_run=true")
    assert (again.body["accepted"], again.body["duplicates"]) == (0, 3)


async def test_sensor_of_a_shape_without_one_is_that_of_the_parameter_else_the_label(
    server: Server, database: Database
) -> None:
    for path in (READINGS, f"{READINGS}?sensor=%20roof%20"):
        answer = await send(server, {"ts": NOW_MS, "values": {"t": 1}}, path)
        assert answer.body["accepted"] == 1
    rows = await database.pool.fetch("SELECT name FROM sensor ORDER BY 1")
    assert [row["name"] for row in rows] == ["API_KEY", "roof"]
    answer = await send(server, [], f"{READINGS}?sensor=..")
    assert (answer.status, answer.body["detail"]) == (
        400,
        "The parameter sensor is '..'; send a text of 1 to 200 printable characters, but not a step of a path",
    )


async def test_single_reading_is_taken(server: Server) -> None:
    assert (await send(server, GOOD)).body["accepted"] == 1
    assert (await send(server, {"values": {"t": 1}}, f"{READINGS}?sensor=roof")).body["accepted"] == 1
    assert (await send(server, {"values": {"t": 1}})).body["rejected"][0]["code"] == "sensor_invalid"


@pytest.mark.parametrize(
    "body", [{"temperature": 1}, [{"temperature": 1}], {"ts": NOW_MS, "values": {"temperature": 1}}]
)
async def test_telemetry_of_a_device_is_taken_by_the_key_in_the_address(
    server: Server, database: Database, body: Any
) -> None:
    answer = await send(server, body, f"/api/v1/{API_KEY}/telemetry", X_API_Key="")
    assert (answer.status, answer.body["accepted"]) == (200, 1)
    assert await database.pool.fetchval("SELECT name FROM sensor") == "API_KEY"
    assert (await send(server, body, "/api/v1/unknown/telemetry", X_API_Key="")).status == 401


@pytest.mark.parametrize(
    ("query", "meant"),
    [("senosr=a", "sensor"), ("Sensor=a", "sensor"), ("dryrun=1", "dry_run"), ("dry-run=1", "dry_run")],
)
async def test_misspelt_parameter_is_refused_with_the_right_name(server: Server, query: str, meant: str) -> None:
    answer = await send(server, [GOOD], f"{READINGS}?{query}")
    assert answer.status == 400
    assert answer.body["detail"] == f'There is no parameter "{query.partition("=")[0]}"; did you mean {meant}?'


async def test_unknown_parameter_is_left_out_and_those_of_influxdb_are_known(server: Server) -> None:
    assert (await send(server, [GOOD], f"{READINGS}?nonsense=1")).status == 200
    async with server.http.post("/api/v2/write?org=a&bucket=b&precision=s", data=b"a v=1") as response:
        assert response.status == 204
    async with server.http.post("/write?db=a&precison=s", data=b"a v=1 1") as response:
        assert response.status == 400
        assert (await response.json())["message"] == 'There is no parameter "precison"; did you mean precision?'


class _Pairs(list[tuple[str, Any]]):
    """An object as JSON has it, also with a key twice."""


def _pack(value: Any, *, wide: bool) -> bytes:
    """Return MessagePack with each pair of an object; `wide`: with long heads, as few encoders write them."""
    if isinstance(value, _Pairs):
        head = b"\xdf" + len(value).to_bytes(4, "big") if wide else bytes([0x80 + len(value)])
        return head + b"".join(_pack(key, wide=wide) + _pack(inner, wide=wide) for key, inner in value)
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(_pack(item, wide=wide) for item in value)
    if isinstance(value, float) and wide:
        return b"\xca" + struct.pack(">f", value)
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize("wide", [False, True])
async def test_key_given_twice_is_refused_in_messagepack_as_in_json(server: Server, wide: bool) -> None:
    good = json.dumps({**GOOD, "time": NOW_MS})
    for poison in [each for each in POISONS if each.code == "key_repeated"]:
        for form in (f"[{good},{poison.reading}]", f'{{"readings":[{good},{poison.reading}]}}'):
            body = _pack(json.loads(form, object_pairs_hook=_Pairs), wide=wide)
            answer = await send(server, body, Content_Type="application/msgpack")
            assert answer.status == 200, answer
            (refused,) = answer.body["rejected"]
            assert (refused["index"], refused["code"]) == (1, "key_repeated")
            assert poison.message in refused["message"]
            assert answer.body["accepted"] + answer.body["duplicates"] == 1
    twice = json.loads(f'{{"gateway":"a","gateway":"b","readings":[{good}]}}', object_pairs_hook=_Pairs)
    repeated = await send(server, _pack(twice, wide=wide), Content_Type="application/msgpack")
    assert (repeated.status, repeated.body["detail"]) == (400, "The body has the field 'gateway' twice; send it once")
    right = _pack(json.loads(f"[{good}]", object_pairs_hook=_Pairs), wide=wide)
    assert (await send(server, right, Content_Type="application/msgpack")).body["rejected"] == []
