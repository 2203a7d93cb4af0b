"""Telemetry that devices post to ThingsBoard: the key is a part of the address."""

from dataclasses import dataclass
from typing import Any, Final

from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import Connection, admit
from app.auth.key_ring import KeyRing
from app.http.requests import AnyRequest
from app.ingest.bodies.document import JSON, read_document
from app.ingest.bodies.loose_json import strip_nuls
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.readings import own_sensor
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes._items import check_items
from app.ingest.formats.shapes.thingsboard import read_device
from app.ingest.intake import Ingest
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.route import UploadRoute
from app.problems import problem_responses

_EXAMPLE: Final = {"temperature": 12.5, "humidity": 61}


async def allow_key_in_path(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Allow a key with the scope `ingest`, as a guard, that stands in the address."""
    ring: KeyRing = connection.app.state.key_ring
    key = str(connection.path_params["key"])
    connection.scope["state"]["api_key"] = await admit(ring, connection.scope, key, "ingest")


@dataclass
class TelemetryOperation(Operation):
    """Values of a device as the body."""

    def __post_init__(self) -> None:
        """Set the body; Litestar cannot derive it."""
        body = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT), examples={"example": Example(value=_EXAMPLE)})
        self.request_body = RequestBody(content={"application/json": body}, required=True)


def parse(body: bytes, source: Source) -> Parsed:
    """Return the readings in telemetry; raise InvalidRequestError or PayloadTooLargeError."""
    document = read_document(JSON, strip_nuls(body))
    parts = [*check_items(read_device(document, source), source)]
    document.check_rest()
    return Parsed(Readings.join(parts), source.rejected)


@UploadRoute(
    "/api/v1/{key:str}/telemetry",
    http_method="POST",
    guards=[allow_key_in_path],
    status_code=HTTP_200_OK,
    operation_class=TelemetryOperation,
    responses=problem_responses({413: "The body is too large", 503: "Overload, or the database is away"}),
    security=[{}],
    tags=["ThingsBoard"],
    summary="Take telemetry of a device of ThingsBoard",
)
async def post_telemetry(request: AnyRequest, ingest: NamedDependency[Ingest], key: FromPath[str]) -> Receipt:
    """Store values of the device that the key belongs to, as objects of values, with or without times.

    The key is the access token of ThingsBoard. In an address it gets into logs of proxies: give each device its own.
    """
    del key  # the guard has seen it
    sensor = own_sensor(request)

    def parse_this(body: bytes, _media_type: str, times: ReceiptTimes) -> Parsed:
        return parse(body, Source(times, sensor=sensor))

    return await ingest.take(request, parse_this)


handlers: list[Any] = [post_telemetry]
