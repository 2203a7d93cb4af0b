"""The webhooks of The Things Stack: uplinks of devices with their decoded payload."""

from typing import Any, Final

import msgspec
from litestar.di import NamedDependency

from app.http.requests import AnyRequest
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats._devices import best, decode, device_route, flatten, take
from app.ingest.intake import Ingest
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt, Rejected


class ApplicationIds(msgspec.Struct):
    """The application of a device."""

    application_id: str = ""


class DeviceIds(msgspec.Struct):
    """The device that a message is about."""

    device_id: str = ""
    dev_eui: str = ""
    application_ids: ApplicationIds = msgspec.field(default_factory=ApplicationIds)


class UplinkMessage(msgspec.Struct):
    """An uplink; fields that no reading needs are left out."""

    received_at: Any = None
    decoded_payload: Any = None
    rx_metadata: Any = None
    #: An object with the value in percent.
    last_battery_percentage: Any = None


class WebhookMessage(msgspec.Struct):
    """A message of a webhook. Those of other kinds, such as joins, have no uplink."""

    end_device_ids: DeviceIds
    received_at: Any = None
    uplink_message: UplinkMessage | None = None


def parse(body: bytes, _media_type: str, times: ReceiptTimes) -> Parsed:
    """Return the reading in a message, if it has one; raise InvalidRequestError."""
    message, repeated = decode(body, WebhookMessage)
    uplink, device = message.uplink_message, message.end_device_ids
    if uplink is None:
        return Parsed(Readings.of([]), Rejected())
    told = uplink.last_battery_percentage
    battery = told.get("value") if isinstance(told, dict) else told
    values = {
        **({"battery": battery} if battery is not None else {}),
        **best(uplink.rx_metadata),
        **flatten(uplink.decoded_payload),
    }
    application = device.application_ids.application_id
    tags = {"application": application} if application else {}
    return take(
        device.device_id or device.dev_eui, uplink.received_at or message.received_at, values, tags, times, repeated
    )


_EXAMPLE: Final = {
    "end_device_ids": {"device_id": "cellar-1", "application_ids": {"application_id": "harbour"}},
    "uplink_message": {
        "received_at": "2026-01-31T08:00:00Z",
        "decoded_payload": {"temperature": 4.5},
        "rx_metadata": [{"gateway_ids": {"gateway_id": "gateway-1"}, "rssi": -93, "snr": 4.5}],
    },
}


@device_route("/api/v1/integrations/ttn", "Take a message of The Things Stack", _EXAMPLE)
async def post_message(request: AnyRequest, ingest: NamedDependency[Ingest]) -> Receipt:
    """Store what a device has measured, with the RSSI and SNR of the best gateway, and its battery.

    Messages without an uplink are accepted and store nothing.
    """
    return await ingest.take(request, parse)


handlers = [post_message]
