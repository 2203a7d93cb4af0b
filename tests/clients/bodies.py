"""Bodies as the documents of Telegraf, ChirpStack and The Things Stack show them, and broken ones of each."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.clock import rfc3339

#: Milliseconds since 1970, and the value.
Reading = tuple[int, int]


class Form(NamedTuple):
    """How a system writes readings of one sensor, and where it posts them."""

    name: str
    path: str
    #: The most readings in one body.
    most: int
    encode: Callable[[str, Sequence[Reading]], bytes]
    #: Bodies that no retry makes better.
    poisons: tuple[bytes, ...]


def telegraf_lines(sensor: str, readings: Sequence[Reading]) -> bytes:
    """Return lines of Telegraf's `influx` serializer, times in nanoseconds."""
    return b"".join(b"n,host=%s value=%di %d\n" % (sensor.encode(), n, ms * 1_000_000) for ms, n in readings)


def telegraf_json(sensor: str, readings: Sequence[Reading]) -> bytes:
    """Return a batch of Telegraf's `json` serializer, with `json_timestamp_units = "1ms"`."""
    metrics = [{"fields": {"value": n}, "name": "n", "tags": {"host": sensor}, "timestamp": ms} for ms, n in readings]
    return json.dumps({"metrics": metrics}).encode()


def chirpstack_up(sensor: str, readings: Sequence[Reading]) -> bytes:
    """Return the event `up` of ChirpStack 4 with a decoded object."""
    ((ms, n),) = readings
    event = {
        "deduplicationId": f"3ac7e3c4-4401-4b8d-9386-{n:012x}",
        "time": rfc3339(ms * 1_000),
        "deviceInfo": {
            "tenantName": "tenant",
            "applicationName": "cellars",
            "deviceProfileName": "thermometer",
            "deviceName": sensor,
            "devEui": "0101010101010101",
            "tags": {},
        },
        "devAddr": "00189440",
        "dr": 1,
        "fPort": 1,
        "data": "qg==",
        "object": {"n": n},
    }
    return json.dumps(event).encode()


def things_stack_up(sensor: str, readings: Sequence[Reading]) -> bytes:
    """Return the webhook of an uplink of The Things Stack with a decoded payload."""
    ((ms, n),) = readings
    time = rfc3339(ms * 1_000)
    message = {
        "end_device_ids": {
            "device_id": sensor,
            "application_ids": {"application_id": "cellars"},
            "dev_eui": "0004A30B001C0530",
            "dev_addr": "00BCB929",
        },
        "correlation_ids": ["as:up:01E0WZGT6Y7657CPFPE5WEYDSQ"],
        "received_at": time,
        "uplink_message": {
            "f_port": 1,
            "frm_payload": "gkHe",
            "decoded_payload": {"n": n},
            "received_at": time,
        },
    }
    return json.dumps(message).encode()


FORMS = (
    Form(
        "Telegraf, line protocol",
        "/api/v2/write",
        40,
        telegraf_lines,
        (b"n,host=a value=", b"n,host=a value=1e300 1\n"),
    ),
    Form("Telegraf, JSON", "/api/v1/readings", 40, telegraf_json, (b'{"metrics": [', b'{"metrics": [{"name": "n"}]}')),
    Form("ChirpStack", "/api/v1/integrations/chirpstack?event=up", 1, chirpstack_up, (b"{", b'{"object": {"n": 1}}')),
    Form("The Things Stack", "/api/v1/integrations/ttn", 1, things_stack_up, (b"[]", b'{"uplink_message": 7}')),
)
