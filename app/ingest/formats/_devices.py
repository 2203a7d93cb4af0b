"""Uplinks of LoRaWAN devices, as network servers send them: one reading of all numbers in a decoded payload."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.errors import InvalidRequestError
from app.ingest.bodies.loose_json import decode_json
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes._items import check_items
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.route import UploadRoute
from app.problems import problem_responses

#: A payload that is nested deeper is refused.
_DEPTH_LIMIT = 16
Message = TypeVar("Message")


class Reception(msgspec.Struct):
    """How a gateway received a device."""

    #: In dBm.
    rssi: float | None = None
    #: In dB.
    snr: float | None = None


def device_route(path: str, summary: str, example: dict[str, Any]) -> UploadRoute:
    """Return the route by which a network server sends what devices have measured; `example` is one of its bodies."""
    return UploadRoute(
        path,
        http_method="POST",
        guards=[require("ingest")],
        status_code=HTTP_200_OK,
        operation_class=_describe_body(example),
        responses=problem_responses({413: "The body is too large", 503: "Overload, or the database is away"}),
        tags=["LoRaWAN"],
        summary=summary,
    )


def _describe_body(example: dict[str, Any]) -> type[Operation]:
    body = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT), examples={"example": Example(value=example)})

    @dataclass
    class DeviceOperation(Operation):
        """A body in the form of a network server, which Litestar cannot derive."""

        def __post_init__(self) -> None:
            self.request_body = RequestBody(content={"application/json": body}, required=True)

    return DeviceOperation


def decode(body: bytes, kind: type[Message]) -> Message:
    """Decode a message; raise InvalidRequestError, which names the wrong field.

    Where a payload has numbers that are none in JSON, they are left for the check of values.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        first = error
    try:
        return msgspec.convert(decode_json(body.rstrip(b"\0")), kind)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"The body cannot be used: {error}") from None
    except (ValueError, RecursionError):
        raise InvalidRequestError(f"The body cannot be used: {first}") from None


def best(receptions: Sequence[Reception]) -> dict[str, float]:
    """Return RSSI and SNR of the gateway that received the device best, by metric."""
    heard = [each for each in receptions if each.rssi is not None]
    if not heard:
        return {}
    loudest = max(heard, key=lambda each: each.rssi or 0.0)
    return {name: value for name, value in (("rssi", loudest.rssi), ("snr", loudest.snr)) if value is not None}


def flatten(payload: object) -> dict[str, float]:
    """Return the numbers and booleans in a decoded payload, by names such as `soil.temperature` and `probes.0`."""
    return dict(_walk("", payload, _DEPTH_LIMIT))


def _walk(name: str, value: object, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float):
        yield name, float(value) if isinstance(value, bool) else value
    elif isinstance(value, dict | list):
        if not depth:
            raise InvalidRequestError(f"The decoded payload is nested deeper than {_DEPTH_LIMIT} levels")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(f"{name}.{key}" if name else str(key), inner, depth - 1)


def take(sensor: str, time: object, values: dict[str, float], tags: object, times: ReceiptTimes) -> Parsed:
    """Return one reading of a device, or none if it has no values."""
    source = Source(times)
    items = [{"sensor": sensor, "time": time, "values": values, "tags": tags or None}] if values else []
    return Parsed(Readings.join([*check_items(iter(enumerate(items)), source)]), source.rejected)
