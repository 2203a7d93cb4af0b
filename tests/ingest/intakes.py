"""A body for each way in, which brings one temperature of the sensor `oven`, of the gateway `kitchen` as it may say."""

from typing import Any, NamedTuple

import cbor2
import cramjam
import msgspec

from tests.conftest import YESTERDAY_AT_8_MS, Server
from tests.ingest.client import READINGS, RECORD
from tests.ingest.formats.test_remote_write import write_request


class Intake(NamedTuple):
    """A way in, and what it makes of its body."""

    path: str
    #: Bytes as they are sent, anything else as JSON.
    body: Any
    #: The status when the sensor is refused.
    refused: int = 200
    sensor: str = "oven"
    media_type: str = "application/json"
    encoding: str = "identity"


class IntakeAnswer(NamedTuple):
    """An answer to such a body."""

    status: int
    text: str


_READING = {"sensor": "oven", "values": {"temperature": 200}, "tags": {"site": "kitchen"}}
_ENTRY = {"ts": YESTERDAY_AT_8_MS, "values": {"temperature": 200}}
_METRIC = {"name": "temperature", "fields": {"value": 200}, "tags": {"sensor": "oven"}}
_SAMPLES = ({"__name__": "temperature", "sensor": "oven"}, [(YESTERDAY_AT_8_MS, 200.0)])
_SENML = [{"bn": "oven/", "n": "temperature", "v": 200}]
_COLUMNS = {"sensor": "oven", "metric": "temperature", "times": [YESTERDAY_AT_8_MS], "values": [200]}
_LINE = b"temperature,sensor=oven value=200"

INTAKES = {
    "readings": Intake(READINGS, {"gateway": "bakery", "readings": [_READING]}),
    "list": Intake(READINGS, [_READING]),
    "single reading": Intake(READINGS, _READING),
    "MessagePack": Intake(READINGS, msgspec.msgpack.encode([_READING]), media_type="application/msgpack"),
    "Telegraf JSON": Intake(READINGS, {"metrics": [_METRIC]}),
    "ThingsBoard": Intake(f"{READINGS}?sensor=oven", _ENTRY),
    "ThingsBoard gateway": Intake(READINGS, {"oven": [_ENTRY]}),
    "SenML": Intake(READINGS, _SENML, media_type="application/senml+json"),
    "SenML in CBOR": Intake(
        READINGS, cbor2.dumps([{-2: "oven/", 0: "temperature", 2: 200}]), media_type="application/senml+cbor"
    ),
    "NDJSON": Intake(READINGS, msgspec.json.encode(_READING) + b"\n", media_type="application/x-ndjson"),
    "columns": Intake(READINGS, {**_COLUMNS, "gateway": "bakery"}),
    "CSV": Intake(READINGS, b"sensor,metric,value\noven,temperature,200\n", media_type="text/csv"),
    "wide CSV": Intake(f"{READINGS}?sensor=oven", b"time,temperature\n,200\n", media_type="text/csv"),
    "telemetry": Intake("/api/v1/{key}/telemetry", {"temperature": 200}, sensor="kitchen"),
    "line protocol 2": Intake("/api/v2/write", _LINE, 422),
    "line protocol 1": Intake("/write", _LINE, 422),
    "remote write": Intake(
        "/api/v1/write",
        bytes(cramjam.snappy.compress_raw(write_request(_SAMPLES))),
        422,
        media_type="application/x-protobuf",
        encoding="snappy",
    ),
    "ChirpStack": Intake(
        "/api/v1/integrations/chirpstack?event=up",
        {"deviceInfo": {"deviceName": "oven"}, "object": {"temperature": 200}},
    ),
    "The Things Stack": Intake(
        "/api/v1/integrations/ttn",
        {"end_device_ids": {"device_id": "oven"}, "uplink_message": {"decoded_payload": {"temperature": 200}}},
    ),
    "replaced sensor server": Intake(
        RECORD, {"temperature": 200, "humidity": 2, "pressure": 3, "sensor_id": "oven"}, 422
    ),
}


async def send_intake(server: Server, key: str, intake: Intake) -> IntakeAnswer:
    """Send the body of a way in with a key, and return the answer."""
    raw = intake.body if isinstance(intake.body, bytes) else msgspec.json.encode(intake.body)
    headers = {"X-API-Key": key, "Content-Type": intake.media_type, "Content-Encoding": intake.encoding}
    async with server.http.post(intake.path.replace("{key}", key), data=raw, headers=headers) as response:
        return IntakeAnswer(response.status, await response.text())
