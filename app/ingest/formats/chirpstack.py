"""The HTTP integration of ChirpStack 4: events of devices, of which `up` and `status` have readings."""

from typing import Annotated, Any, Final

import msgspec
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.errors import InvalidRequestError
from app.hints import find_meant
from app.http.requests import AnyRequest
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats._devices import as_metric, best, decode, device_route, flatten, take
from app.ingest.intake import Ingest
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt, Rejected
from app.names import show

#: The events of ChirpStack, and what others call them.
_EVENTS: Final = ("up", "status", "join", "ack", "txack", "log", "location", "integration")
_OTHER_EVENTS: Final = dict.fromkeys(("uplink", "data", ""), "up")
#: The fields of a status that become metrics.
_STATUS: Final = ("battery", "margin", "external_power")


class DeviceInfo(msgspec.Struct, rename="camel"):
    """The device that an event is about."""

    device_name: str = ""
    dev_eui: str = ""
    tags: Any = None


class Event(msgspec.Struct, rename="camel"):
    """An event of a device; fields that no reading needs are left out."""

    device_info: DeviceInfo
    #: The same for each copy of an event that is sent again.
    deduplication_id: Any = None
    #: When the first gateway received it.
    time: Any = None
    #: The payload as the device's codec has decoded it.
    object: Any = None
    rx_info: Any = None
    margin: Any = None
    external_power_source: Any = None
    #: In percent.
    battery_level: Any = None
    battery_level_unavailable: Any = False


def parse(body: bytes, event: str, times: ReceiptTimes) -> Parsed:
    """Return the reading in an event, if it has one; raise InvalidRequestError."""
    meant = None if event in _EVENTS else find_meant(event, _EVENTS, _OTHER_EVENTS)
    if meant is not None:
        raise InvalidRequestError(f"event is {show(event)}; did you mean {meant}?")
    if event not in ("up", "status"):
        return Parsed(Readings.of([]), Rejected())
    message, repeated = decode(body, Event)
    values = {**best(message.rx_info), **flatten(message.object)} if event == "up" else _read_status(message)
    device = message.device_info
    parsed = take(device.device_name or device.dev_eui, message.time, values, device.tags, times, repeated)
    told = message.deduplication_id
    is_told_once = isinstance(told, str) and told and parsed.readings.values
    return parsed._replace(event=f"chirpstack {event} {told}") if is_told_once else parsed


def _read_status(message: Event) -> dict[str, object]:
    battery = None if message.battery_level_unavailable or message.external_power_source else message.battery_level
    values = zip(_STATUS, (battery, message.margin, message.external_power_source), strict=True)
    return {name: as_metric(value) for name, value in values if value is not None}


_EXAMPLE: Final = {
    "time": "2026-01-31T08:00:00Z",
    "deviceInfo": {"deviceName": "cellar-1", "devEui": "0101010101010101", "tags": {"site": "harbour"}},
    "object": {"temperature": 4.5},
    "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -93, "snr": 4.5}],
}
EventName = Annotated[str, QueryParameter(description="Kind of the event; `up` and `status` have readings")]


@device_route("/api/v1/integrations/chirpstack", "Take an event of ChirpStack", _EXAMPLE)
async def post_event(request: AnyRequest, ingest: NamedDependency[Ingest], event: EventName = "up") -> Receipt:
    """Store what a device has measured, with the RSSI and SNR of the best gateway, and its battery.

    An event that is sent again, with the same `deduplicationId`, is stored once. Events without readings, such as
    `join`, are accepted and store nothing.
    """
    return await ingest.take(request, lambda body, _media_type, times: parse(body, event, times))


handlers = [post_event]
