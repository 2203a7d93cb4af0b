"""Uplinks of LoRaWAN devices, as network servers send them: one reading of all numbers in a decoded payload."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.errors import InvalidRequestError
from app.ingest.bodies.loose_json import Repeated, Word, decode_json
from app.ingest.bodies.pieces import check_repeated
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes._fields import refuse_repeated
from app.ingest.formats.shapes._items import check_items
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.route import UploadRoute
from app.model import VALUE_LIMIT
from app.problems import problem_responses

#: A payload that is nested deeper is refused.
_DEPTH_LIMIT = 16
Message = TypeVar("Message")


class Decoded(NamedTuple, Generic[Message]):
    """A message, and a key that stands twice in an object in it, if there is one."""

    message: Message
    repeated: str | None


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


def decode(body: bytes, kind: type[Message]) -> Decoded[Message]:
    """Decode a message; raise InvalidRequestError, which names the wrong field.

    Where a payload has numbers that are none in JSON, they are left for the check of values.
    """
    try:
        loaded = decode_json(body)
        if isinstance(loaded, Repeated):
            check_repeated(True, loaded.repeated_key)
        return Decoded(msgspec.convert(loaded, kind), _find_repeated(loaded))
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body cannot be used: {error}") from None


def _find_repeated(value: object) -> str | None:
    """Return the first key that stands twice in an object, at any depth."""
    if isinstance(value, Repeated):
        return value.repeated_key
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for each in inner if (found := _find_repeated(each)) is not None), None)


def best(receptions: object) -> dict[str, object]:
    """Return RSSI, in dBm, and SNR, in dB, of the gateway that received the device best, by metric."""
    listed = receptions if isinstance(receptions, list) else []
    heard = [each for each in listed if isinstance(each, dict) and each.get("rssi") is not None]
    if not heard:
        return {}
    loudest = max(heard, key=lambda each: _as_strength(each["rssi"]))
    return {name: loudest[name] for name in ("rssi", "snr") if loudest.get(name) is not None}


def _as_strength(rssi: object) -> float:
    """Return an RSSI to compare; what is no number is below all others."""
    if isinstance(rssi, int | float) and abs(rssi) <= VALUE_LIMIT:  # no NaN is
        return float(rssi)
    return -inf


def flatten(payload: object) -> dict[str, object]:
    """Return the numbers and booleans in a decoded payload, by names such as `soil.temperature` and `probes.0`."""
    return dict(_walk("", payload, _DEPTH_LIMIT))


def _walk(name: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, int | float | Word):
        yield name, as_metric(value)
    elif isinstance(value, dict | list):
        if not depth:
            raise InvalidRequestError(f"The decoded payload is nested deeper than {_DEPTH_LIMIT} levels")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(f"{name}.{key}" if name else str(key), inner, depth - 1)


def as_metric(value: object) -> object:
    """Return a boolean as 1 or 0, and any other value as it is."""
    return float(value) if isinstance(value, bool) else value


def take(
    sensor: str, time: object, values: dict[str, object], tags: object, times: ReceiptTimes, repeated: str | None
) -> Parsed:
    """Return one reading of a device, or none if it has no values, or a key stands twice in its message."""
    source = Source(times)
    item: object = {"sensor": sensor, "time": time, "values": values, "tags": tags or None}
    if repeated is not None:
        item = refuse_repeated(Repeated((), repeated))
    items = [item] if values or repeated is not None else []
    return Parsed(Readings.join([*check_items(iter(enumerate(items)), source)]), source.rejected)
