"""Messages of devices, as they are documented and as firmware really writes them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mqtt.messages.readings import read_message
from app.mqtt.model import Draft, MqttMessage, TopicRoute
from app.mqtt.plan.files import load_plan, parse_plan
from app.names import is_storable

EXAMPLES = Path(__file__).parents[3] / "examples" / "mqtt"


def routes(topics: str) -> tuple[TopicRoute, ...]:
    return parse_plan(f"version: 1\nbroker: {{address: mqtt://b}}\ntopics: [{topics}]", "x.yml").routes


def read(topics: str, topic: str, payload: str | bytes, **of_message: Any) -> Any:
    """Return what the routes make of a message: values, time and all else that is set, or why there is no reading."""
    payload = payload.encode() if isinstance(payload, str) else payload
    draft = read_message(MqttMessage(topic, payload, 0, **of_message), routes(topics))
    return msgspec.to_builtins(draft) if isinstance(draft, Draft) else draft


JSON = '{topic: "t/{sensor}"}'
TIMED = '{topic: "t/{sensor}", time: at, timezone: Europe/Berlin}'
PLAIN = '{topic: "t/{sensor}/{metric}", payload: plain, words: {ON: 1, OFF: 0, open: 1}}'


# What is shipped


def test_example_of_tasmota_takes_its_telemetry() -> None:
    plan = load_plan(EXAMPLES / "tasmota.yml")
    sensor = (
        b'{"Time":"2021-06-13T06:59:52","Switch1":"ON","DS18B20":{"Id":"3C01F0969EC9","Temperature":21.4},'
        b'"ANALOG":{"CTEnergy":{"Energy":0.006,"Power":2068}},"TempUnit":"C"}'
    )
    state = (
        b'{"Time":"2024-02-24T22:20:38","Uptime":"0T00:10:11","UptimeSec":611,"Heap":24,"Sleep":50,"POWER":"OFF",'
        b'"Wifi":{"AP":1,"SSId":"net","BSSId":"E6:8D:8C:4B:BE:F7","RSSI":44,"Signal":-78}}'
    )
    found = [
        read_message(MqttMessage(f"tele/plug/{kind}", payload, 0), plan.routes)
        for kind, payload in (("SENSOR", sensor), ("STATE", state))
    ]
    assert msgspec.to_builtins(found) == [
        {
            "sensor": "plug",
            "time": "2021-06-13T06:59:52Z",
            "values": {
                "Switch1": 1.0,
                "DS18B20.Temperature": 21.4,
                "ANALOG.CTEnergy.Energy": 0.006,
                "ANALOG.CTEnergy.Power": 2068,
            },
        },
        {
            "sensor": "plug",
            "time": "2024-02-24T22:20:38Z",
            "values": {"uptime": 611, "wifi_quality": 44, "wifi_signal": -78},
            "units": {"uptime": "s", "wifi_quality": "%", "wifi_signal": "dBm"},
        },
    ]


def test_example_of_zigbee2mqtt_takes_devices_and_nothing_of_the_bridge() -> None:
    plan = load_plan(EXAMPLES / "zigbee2mqtt.yml")
    device = (
        b'{"state":"ON","contact":false,"battery":null,"temperature":27.34,"linkquality":102,"action":"",'
        b'"color":{"x":0.4,"y":0.3},"update":{"installed_version":17},"last_seen":"2019-12-14T15:38:56.796Z"}'
    )
    assert msgspec.to_builtins(read_message(MqttMessage("zigbee2mqtt/0x00124b0006227235", device, 0), plan.routes)) == {
        "sensor": "0x00124b0006227235",
        "time": "2019-12-14T15:38:56.796000Z",
        "values": {"state": 1.0, "contact": 0.0, "temperature": 27.34, "linkquality": 102},
        "units": {"temperature": "°C"},
    }
    assert read_message(MqttMessage("zigbee2mqtt/bridge/state", b'{"state":"online"}', 0), plan.routes) == "unmatched"


# Values


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        ("21.5", 21.5),
        (" -3 \r\n", -3.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        (b"21.5\0", 21.5),
        (b"\xef\xbb\xbf7", 7.0),
        ("ON", 1.0),
        ("21,5", "21,5"),
        ("21.5 °C", "21.5 °C"),
        ("nan", "nan"),
        ("1e999", "1e999"),
        ("١٢", "١٢"),
        ("", ""),
        ("x" * 200, "x" * 100 + "…"),
        (b"\xff\xfe", "\\xff\\xfe"),
    ],
)
def test_plain_payload_is_a_number_or_is_left_to_the_server_to_refuse(
    payload: str | bytes, values: float | str
) -> None:
    assert read(PLAIN, "t/a/m", payload) == {"sensor": "a", "values": {"m": values}}


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        ('{"a": 1, "b": {"c": [2.5, true]}, "d": "text", "e": null}', {"a": 1, "b.c.0": 2.5, "b.c.1": 1.0}),
        ('{"a": nan, "b": -inf, "c": "nan", "d": 2}', {"a": "nan", "b": "-inf", "d": 2}),
        ('{"a": NaN, "b": Infinity}', {"a": "nan", "b": "inf"}),
        (f'{{"a": {"9" * 5000}, "b": 1}}', {"a": "9" * 100 + "…", "b": 1}),
        (f'{{"a": {"9" * 400}, "b": 1}}', {"a": "9" * 100 + "…", "b": 1}),
        ('{"a": 1e999, "b": 1}', {"a": "inf", "b": 1}),
        (b'{"a": 1}\0', {"a": 1}),
        ('[1, {"x": 2}]', {"0": 1, "1.x": 2}),
        ('{"a": 1, "\\ud800": 2}', {"a": 1, "\\ud800": 2}),
    ],
)
def test_numbers_of_json_become_values_by_their_paths(payload: str | bytes, values: dict[str, Any]) -> None:
    assert read(JSON, "t/a", payload) == {"sensor": "a", "values": values}


@pytest.mark.parametrize("payload", ["{", "offline", '{"a": 1', "21.5", '"text"', "{'a': 1}"])
def test_other_payload_goes_to_the_server_in_place_of_values(payload: str) -> None:
    assert read(JSON, "t/a", payload) == {"sensor": "a", "values": payload.strip('"') if '"t' in payload else payload}


def test_payload_that_is_nested_too_deeply_is_refused_and_not_followed() -> None:
    assert read(JSON, "t/a", "[" * 17 + "1" + "]" * 17) == {"sensor": "a", "values": "nested deeper than 16 levels"}
    deep = "[" * 100_000
    assert read(JSON, "t/a", deep) == {"sensor": "a", "values": "[" * 100 + "…"}


@pytest.mark.parametrize("payload", ["{}", "[]", '{"action": "single"}', '{"battery": null}'])
def test_payload_without_a_number_is_no_reading(payload: str) -> None:
    assert read(JSON, "t/a", payload) == "empty"


def test_values_are_chosen_renamed_and_counted_out() -> None:
    topics = '{topic: "t/{sensor}", values: ["*.T", n], except: ["x.*"], rename: {d.T: temperature}, words: {low: 0}}'
    payload = '{"d": {"T": 1}, "e": {"T": "2.5"}, "x": {"T": 3}, "n": "low", "m": 4}'
    assert read(topics, "t/a", payload) == {"sensor": "a", "values": {"temperature": 1, "e.T": 2.5, "n": 0.0}}


def test_metric_of_the_topic_goes_before_names_in_the_payload() -> None:
    topics = '{topic: "t/{sensor}/{metric}", units: {wind: m/s}}'
    assert read(topics, "t/a/wind", '{"value": 3, "gust": 5}') == {
        "sensor": "a",
        "values": {"wind": 3, "wind.gust": 5},
        "units": {"wind": "m/s"},
    }
    assert read(topics, "t/a/wind", "3") == {"sensor": "a", "values": {"wind": 3}, "units": {"wind": "m/s"}}


def test_named_levels_become_tags_and_parts_of_the_name() -> None:
    topics = '{topic: "{site}/{room}/{metric}", sensor: "{site}-{room}", payload: plain}'
    assert read(topics, "quay/hall/t", "1") == {
        "sensor": "quay-hall",
        "values": {"t": 1.0},
        "tags": {"site": "quay", "room": "hall"},
    }


# Topics


def test_first_pattern_that_matches_is_used() -> None:
    topics = '{topic: "t/b", payload: ignore}, {topic: "t/{sensor}"}'
    assert read(topics, "t/b", "{}") == "ignored"
    assert read(topics, "t/a", '{"x": 1}') == {"sensor": "a", "values": {"x": 1}}
    assert read(topics, "u", "1") == "unmatched"


# Times


@pytest.mark.parametrize(
    ("at", "time"),
    [
        ('"2026-01-31T08:00:00Z"', "2026-01-31T08:00:00Z"),
        ('"2026-01-31T08:00:00+02:00"', "2026-01-31T06:00:00Z"),
        ('"2026-01-31T08:00:00"', "2026-01-31T07:00:00Z"),
        ('"2026-07-31 08:00:00"', "2026-07-31T06:00:00Z"),
        ("1769846400", "2026-01-31T08:00:00Z"),
        ('"1769846400"', "2026-01-31T08:00:00Z"),
        ("1769846400.5", "2026-01-31T08:00:00.500000Z"),
        ("1769846400123", "2026-01-31T08:00:00.123000Z"),
        ("1769846400123456", "2026-01-31T08:00:00.123456Z"),
        ("1769846400123456789", "2026-01-31T08:00:00.123456Z"),
        ('"yesterday"', "yesterday"),
        ('"9999-12-31T23:59:59-23:00"', "9999-12-31T23:59:59-23:00"),
    ],
)
def test_time_in_the_payload_is_read_or_left_to_the_server_to_refuse(at: str, time: str) -> None:
    assert read(TIMED, "t/a", f'{{"at": {at}, "x": 1}}') == {"sensor": "a", "time": time, "values": {"x": 1}}


@pytest.mark.parametrize("at", ["0", "12", '"1970-01-01T00:00:17"', "null", "true", "-5", '"0001-01-01T00:00:00"'])
def test_time_of_a_device_without_a_clock_is_that_of_receipt(at: str) -> None:
    assert read(TIMED, "t/a", f'{{"at": {at}, "x": 1}}') == {"sensor": "a", "values": {"x": 1}}


def test_time_without_a_zone_is_left_to_the_server_when_no_zone_is_given() -> None:
    topics = '{topic: "t/{sensor}", time: at}'
    assert read(topics, "t/a", '{"at": "2026-01-31T08:00:00", "x": 1}')["time"] == "2026-01-31T08:00:00"
    assert "time" not in read(topics, "t/a", '{"at": "1970-01-01T00:00:00", "x": 1}')


def test_retained_message_counts_only_when_it_says_when_it_was_measured() -> None:
    payload = '{"at": 1769846400, "x": 1}'
    assert read(TIMED, "t/a", payload, is_retained=True)["time"] == "2026-01-31T08:00:00Z"
    assert read(TIMED, "t/a", '{"x": 1}', is_retained=True) == "retained"
    assert read(PLAIN, "t/a/m", "1", is_retained=True) == "retained"


# Anything

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
PAYLOADS = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | DOCUMENTS.map(lambda document: json.dumps(document).encode())
)
EVERY_ROUTE = routes(
    '{topic: "j/{sensor}", time: at}, {topic: "p/{sensor}/{metric}", payload: plain},'
    ' {topic: "t/{sensor}/{metric}", time: at, timezone: Asia/Tokyo, values: ["*"]}'
)


@given(st.sampled_from(["j/a", "p/a/m", "t/a/m"]), PAYLOADS, LEAVES, st.booleans())
def test_no_payload_stops_the_bridge(topic: str, payload: bytes, at: object, is_timed: bool) -> None:
    if is_timed:
        payload = b'{"at": ' + json.dumps(at).encode() + b', "x": ' + payload + b"}"
    found = read_message(MqttMessage(topic, payload, 0), EVERY_ROUTE)
    if isinstance(found, Draft):
        encoded = msgspec.json.encode(found).decode()
        assert len(encoded) < 100 * len(payload) + 1_000
        assert all(
            is_storable(name) or "\0" in name for name in (found.values if isinstance(found.values, dict) else ())
        )
