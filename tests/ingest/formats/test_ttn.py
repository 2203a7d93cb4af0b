"""Messages of The Things Stack's webhooks, as its documents show them."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from app.clock import rfc3339, to_us
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.ttn import parse
from app.model import Reading
from tests.conftest import Server
from tests.ingest.client import send
from tests.ingest.uploads import as_objects

RECEIVED_US = to_us(datetime(2026, 1, 31, 8, 1, tzinfo=UTC))
UPLINK: dict[str, Any] = {
    "end_device_ids": {
        "device_id": "dev1",
        "application_ids": {"application_id": "app1"},
        "dev_eui": "0004A30B001C0530",
        "join_eui": "800000000000000C",
        "dev_addr": "00BCB929",
    },
    "correlation_ids": ["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"],
    "received_at": "2026-01-31T08:00:45.787Z",
    "uplink_message": {
        "session_key_id": "AXA50tHUNiGMIwo5bVyFkQ==",
        "f_port": 1,
        "frm_payload": "gkHe",
        "decoded_payload": {"temperature": 1.0, "luminosity": 0.64, "accelerometer_3": {"x": 0.1, "y": 0, "z": 1}},
        "rx_metadata": [
            {"gateway_ids": {"gateway_id": "gtw1"}, "time": "2026-01-31T08:00:45Z", "rssi": -35, "snr": 5.2},
            {"gateway_ids": {"gateway_id": "gtw2"}, "rssi": -80, "snr": 9.2},
        ],
        "settings": {"data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 7}}},
        "received_at": "2026-01-31T08:00:45.571Z",
        "last_battery_percentage": {"f_cnt": 7, "value": 94.4, "received_at": "2026-01-31T07:00:00Z"},
    },
}


def test_uplink_becomes_one_reading_of_all_numbers() -> None:
    parsed = parse(msgspec.json.encode(UPLINK), "", ReceiptTimes(RECEIVED_US))
    assert as_objects(parsed.readings) == [
        Reading(
            "dev1",
            RECEIVED_US - 14_429_000,
            {
                "battery": 94.4,
                "rssi": -35.0,
                "snr": 5.2,
                "temperature": 1.0,
                "luminosity": 0.64,
                "accelerometer_3.x": 0.1,
                "accelerometer_3.y": 0.0,
                "accelerometer_3.z": 1.0,
            },
            {"application": "app1"},
        )
    ]


def test_message_without_uplink_is_taken() -> None:
    join = {key: UPLINK[key] for key in ("end_device_ids", "received_at")} | {"join_accept": {"received_at": "x"}}
    parsed = parse(msgspec.json.encode(join), "", ReceiptTimes(RECEIVED_US))
    assert (as_objects(parsed.readings), parsed.rejected.count) == ([], 0)


def test_bad_parts_cost_nothing_but_themselves() -> None:
    parts = {"rx_metadata": [{"rssi": "x", "snr": 5}], "last_battery_percentage": {"value": "full"}}
    message = {**UPLINK, "uplink_message": {**UPLINK["uplink_message"], **parts, "decoded_payload": {"t": 1}}}
    parsed = parse(msgspec.json.encode(message), "", ReceiptTimes(RECEIVED_US))
    (reading,) = as_objects(parsed.readings)
    assert reading.values == {"snr": 5.0, "t": 1.0}
    assert [each.metric for each in parsed.rejected.listed] == ["battery", "rssi"]
    twice = msgspec.json.encode(message).replace(b'"t":1', b'"t":1,"t":2')
    parsed = parse(twice, "", ReceiptTimes(RECEIVED_US))
    assert ([each.code for each in parsed.rejected.listed], as_objects(parsed.readings)) == (["key_repeated"], [])


async def test_uplink_counts_once_when_it_is_sent_twice(server: Server) -> None:
    at = rfc3339(to_us(datetime.now(UTC)))
    message = {**UPLINK, "uplink_message": {**UPLINK["uplink_message"], "received_at": at}}
    first, second = [await send(server, message, "/api/v1/integrations/ttn") for _ in range(2)]
    assert (first.status, first.body["accepted"], second.body["duplicates"]) == (200, 8, 8)
