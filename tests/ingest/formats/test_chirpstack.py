"""Events of ChirpStack 4, as its documents show them."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.clock import rfc3339, to_us
from app.errors import InvalidRequestError
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.chirpstack import parse
from app.model import Reading
from tests.conftest import Database, Server
from tests.ingest.client import send
from tests.ingest.uploads import as_objects

PATH = "/api/v1/integrations/chirpstack"
UP: dict[str, Any] = {
    "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    "time": "2026-01-31T08:00:15.775023242+00:00",
    "deviceInfo": {
        "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242",
        "tenantName": "ChirpStack",
        "applicationId": "17c82e96-be03-4f38-aef3-f83d48582d97",
        "applicationName": "Test application",
        "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad",
        "deviceProfileName": "Test device-profile",
        "deviceName": "Test device",
        "devEui": "0101010101010101",
        "tags": {"site": "dairy"},
    },
    "devAddr": "00189440",
    "dr": 1,
    "fPort": 1,
    "data": "qg==",
    "object": {
        "temperature": 4.5,
        "soil": {"moisture": 31, "probes": [1, 2.5]},
        "open": True,
        "state": "ok",
        "nothing": None,
    },
    "rxInfo": [
        {"gatewayId": "0016c001f153a14c", "uplinkId": 4217106255, "rssi": -93, "snr": 4.5, "context": "E3OWOQ=="},
        {"gatewayId": "0016c001f153a14d", "uplinkId": 4217106256, "rssi": -36, "snr": 10.5},
    ],
    "txInfo": {"frequency": 867100000, "modulation": {"lora": {"bandwidth": 125000}}},
}
RECEIVED_US = to_us(datetime(2026, 1, 31, 8, 1, tzinfo=UTC))


def test_uplink_becomes_one_reading_of_all_numbers() -> None:
    readings = _parse(UP)
    assert readings == [
        Reading(
            "Test device",
            RECEIVED_US - 44_224_977,
            {
                "rssi": -36.0,
                "snr": 10.5,
                "temperature": 4.5,
                "soil.moisture": 31.0,
                "soil.probes.0": 1.0,
                "soil.probes.1": 2.5,
                "open": 1.0,
            },
            {"site": "dairy"},
        )
    ]


def test_device_without_name_is_named_by_its_eui() -> None:
    (reading,) = _parse({**UP, "deviceInfo": {"devEui": "0101010101010101"}})
    assert (reading.sensor, reading.tags) == ("0101010101010101", None)


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (
            {"margin": 10, "externalPowerSource": False, "batteryLevelUnavailable": False, "batteryLevel": 75.3},
            {"battery": 75.3, "margin": 10.0, "external_power": 0.0},
        ),
        ({"margin": 10, "batteryLevelUnavailable": True, "batteryLevel": 0}, {"margin": 10.0}),
        ({"externalPowerSource": True, "batteryLevel": 0}, {"external_power": 1.0}),
    ],
)
def test_status_becomes_battery_and_margin(status: dict[str, Any], values: dict[str, float]) -> None:
    event = {key: UP[key] for key in ("deduplicationId", "time", "deviceInfo")}
    (reading,) = _parse({**event, **status}, "status")
    assert reading.values == values


@pytest.mark.parametrize("event", ["join", "ack", "txack", "log", "location", "integration"])
def test_event_without_readings_is_taken(event: str) -> None:
    assert _parse({"anything": 1}, event) == []


@pytest.mark.parametrize(("event", "meant"), [("uplink", "up"), ("UP", "up"), ("", "up"), ("Status", "status")])
def test_misspelt_event_is_refused_because_its_readings_would_be_lost(event: str, meant: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"event is '{event}'; did you mean {meant}"):
        _parse(UP, event)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The body cannot be used: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"{}", "The body cannot be used: Object missing required field `deviceInfo`"),
        (
            b'{"deviceInfo": {"deviceName": 1}}',
            "The body cannot be used: Expected `str`, got `int` - at `$.deviceInfo.deviceName`",
        ),
        (
            b'{"deviceInfo": {"deviceName": "a"}, "object": ' + b'{"a":' * 20 + b"1" + b"}" * 20 + b"}",
            "The decoded payload is nested deeper than 16 levels",
        ),
    ],
)
def test_body_that_cannot_be_used_is_refused_with_the_reason(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(body, "up", ReceiptTimes(RECEIVED_US))
    assert str(refused.value) == message


async def test_uplink_counts_once_when_it_is_sent_twice(server: Server) -> None:
    event = {**UP, "time": rfc3339(to_us(datetime.now(UTC)))}
    first, second = [await send(server, event, f"{PATH}?event=up") for _ in range(2)]
    assert (first.status, first.body["accepted"], second.body["duplicates"]) == (200, 7, 7)
    sensor = await server.get("/api/v1/sensors/Test device")
    assert sensor["tags"] == {"site": "dairy"}


def _parse(event: dict[str, Any], kind: str = "up") -> list[Reading]:
    parsed = parse(msgspec.json.encode(event), kind, ReceiptTimes(RECEIVED_US))
    assert parsed.rejected.count == 0
    return as_objects(parsed.readings)


async def test_event_that_is_sent_again_is_stored_once_when_its_time_is_another(
    server: Server, database: Database
) -> None:
    timeless = {name: value for name, value in UP.items() if name != "time"}
    first = await send(server, timeless, PATH)
    again = await send(server, {**timeless, "object": {"temperature": 5}}, PATH)
    assert (first.body["accepted"], first.body["duplicates"]) == (7, 0)
    assert (again.body["accepted"], again.body["duplicates"], again.body["seq"]) == (0, 7, None)
    assert await database.pool.fetchval("SELECT count(*) FROM reading") == 7
    other = await send(server, {**timeless, "deduplicationId": "another"}, PATH)
    assert other.body["accepted"] == 7


@pytest.mark.parametrize("told", [None, "", 5, [], "\ud800\0" * 1_000])
async def test_event_is_stored_whatever_its_deduplication_id(server: Server, told: object) -> None:
    raw = json.dumps({**UP, "time": None, "deduplicationId": told}).encode()
    answer = await send(server, raw, PATH)
    assert (answer.status, answer.body["accepted"]) == (200, 7)


def test_bad_tag_and_value_cost_nothing_but_themselves() -> None:
    body = b'{"deviceInfo": {"deviceName": "a", "tags": {"x": [], "y": 1}}, "object": {"t": nan, "h": 1}}\0'
    parsed = parse(body, "up", ReceiptTimes(RECEIVED_US))
    (reading,) = as_objects(parsed.readings)
    assert (reading.values, reading.tags) == ({"h": 1.0}, {"y": "1"})
    assert [(each.code, each.metric, each.tag) for each in parsed.rejected.listed] == [
        ("value_out_of_range", "t", None),
        ("tags_invalid", None, "x"),
    ]


@pytest.mark.parametrize(
    ("receptions", "values", "refused"),
    [
        ([{"rssi": "-90", "snr": 5}, {"rssi": -91, "snr": 4}], {"rssi": -91.0, "snr": 4.0}, []),
        ([{"rssi": "-90", "snr": 5}], {"snr": 5.0}, ["rssi"]),
        ([{"rssi": -90, "snr": []}], {"rssi": -90.0}, ["snr"]),
        ([{"rssi": 1e300}, 5, None], {}, ["rssi"]),
        ([{"rssi": None, "snr": 5}], {}, []),
        ({"rssi": -90}, {}, []),
        (None, {}, []),
    ],
)
def test_bad_reception_costs_nothing_but_itself(receptions: Any, values: dict[str, float], refused: list[str]) -> None:
    event = {**UP, "rxInfo": receptions, "object": {"t": 1}}
    parsed = parse(msgspec.json.encode(event), "up", ReceiptTimes(RECEIVED_US))
    (reading,) = as_objects(parsed.readings)
    assert reading.values == {**values, "t": 1.0}
    assert [each.metric for each in parsed.rejected.listed] == refused


def test_bad_status_costs_nothing_but_itself() -> None:
    event = {"deviceInfo": {"deviceName": "a"}, "margin": "x", "batteryLevel": 50}
    parsed = parse(msgspec.json.encode(event), "status", ReceiptTimes(RECEIVED_US))
    (reading,) = as_objects(parsed.readings)
    assert reading.values == {"battery": 50.0}
    assert [(each.code, each.metric) for each in parsed.rejected.listed] == [("value_not_a_number", "margin")]


@pytest.mark.parametrize("word", ["None", "01", "1.#IND"])
def test_word_in_a_payload_that_is_no_json_is_refused_alone(word: str) -> None:
    body = f'{{"deviceInfo": {{"deviceName": "a"}}, "object": {{"t": {word}, "h": 1}}}}'.encode()
    parsed = parse(body, "up", ReceiptTimes(RECEIVED_US))
    (reading,) = as_objects(parsed.readings)
    assert (reading.values, [each.metric for each in parsed.rejected.listed]) == ({"h": 1.0}, ["t"])


def test_reading_is_refused_when_a_key_stands_twice() -> None:
    body = b'{"deviceInfo": {"deviceName": "a"}, "object": {"t": 1, "t": 2}}'
    parsed = parse(body, "up", ReceiptTimes(RECEIVED_US))
    assert as_objects(parsed.readings) == []
    assert [(each.index, each.code, each.message) for each in parsed.rejected.listed] == [
        (0, "key_repeated", "an object has the key 't' twice; send it once")
    ]
    with pytest.raises(InvalidRequestError, match="The body has the field 'time' twice"):
        parse(b'{"time": 1, "time": 2, "deviceInfo": {}}', "up", ReceiptTimes(RECEIVED_US))
