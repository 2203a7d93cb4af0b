"""The replaced sensor server's format: one reading of temperature, humidity and pressure, at the time of receipt."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response
from litestar.di import NamedDependency
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.status_codes import HTTP_201_CREATED

from app.auth.guard import first_headers, require
from app.errors import OverloadedError, UnauthorizedError, UnprocessableError
from app.http.requests import AnyRequest
from app.ingest.bodies.loose_json import Repeated, decode_json
from app.ingest.checks import check_value, refuse_sensor
from app.ingest.gateways.refusals import BODY_KEPT
from app.ingest.intake import Ingest, client_ip, keep_sent
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.route import UploadRoute
from app.ingest.uploads.upload import Upload
from app.model import LEGACY_METRICS, LegacyRecord, Reading
from app.names import is_metric_name, is_sensor_name, show, tidy_name
from app.problems import respond

Problems = list[dict[str, Any]]
#: One reading is a few hundred bytes.
_BODY_LIMIT = 2**18


class WrongFieldsError(UnprocessableError):
    """Fields of the body are missing or wrong."""

    def __init__(self, problems: Problems) -> None:
        named = ", ".join(f"{'.'.join(problem['loc'])}: {problem['msg']}" for problem in problems)
        super().__init__(f"Fields are missing or wrong: {named}")
        #: In FastAPI's format.
        self.problems = problems


def parse(body: bytes) -> tuple[Problems, str, dict[str, float]]:
    """Return the problems in FastAPI's format (none if the body is right), the sensor and its values.

    Additional numeric fields become metrics of their own, because that server's firmware clients send them.
    """
    try:
        fields = decode_json(body)
    except (ValueError, RecursionError) as error:
        return [_problem("json_invalid", [], f"JSON decode error: {error}")], "", {}
    if not isinstance(fields, dict):
        return [_problem("model_attributes_type", [], "Input should be a valid dictionary")], "", {}
    if isinstance(fields, Repeated):
        message = f"The field {show(fields.repeated_key)} stands twice; send it once"
        return [_problem("value_error", [], message)], "", {}
    problems: Problems = []
    values = {metric: _read_number(fields, metric, problems) for metric in LEGACY_METRICS}
    sensor = _read_sensor(fields, problems)
    for given, value in fields.items():
        name = tidy_name(given)
        if name not in values and is_metric_name(name) and check_value(name, value) is None:
            values[name] = float(value)
    return problems, sensor, values


def _read_number(fields: dict[str, Any], name: str, problems: Problems) -> float:
    """Return a field as a number; add a problem if it is missing or wrong.

    A text that is a number is accepted, because the replaced server accepted it.
    """
    value: Any = fields.get(name)
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if name not in fields:
        problems.append(_problem("missing", [name], "Field required"))
    elif refusal := check_value(name, value):
        problems.append(_problem("float_type", [name], refusal[1]))
    else:
        return float(value)
    return 0.0


def _read_sensor(fields: dict[str, Any], problems: Problems) -> str:
    given = fields.get("sensor_id")
    sensor = tidy_name(given) if isinstance(given, str) else given
    if "sensor_id" not in fields:
        problems.append(_problem("missing", ["sensor_id"], "Field required"))
    elif not isinstance(sensor, str) or not is_sensor_name(sensor):
        problems.append(_problem("string_type", ["sensor_id"], refuse_sensor(sensor)[1]))
    return str(sensor)


def _problem(kind: str, place: list[str], message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["body", *place], "msg": message}


_NUMBER = Schema(type=OpenAPIType.NUMBER)
_TEXT = Schema(type=OpenAPIType.STRING)
_RECORD: dict[str, Reference | Schema] = {
    "temperature": _NUMBER,
    "humidity": _NUMBER,
    "pressure": _NUMBER,
    "sensor_id": _TEXT,
}
_TEMPERATURE = Schema(
    type=OpenAPIType.OBJECT, required=list(_RECORD), properties=_RECORD, additional_properties=_NUMBER
)
_TEMPERATURE_EXAMPLE = Example(
    value={"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}
)
_REFUSAL = Schema(type=OpenAPIType.OBJECT, required=["detail"], properties={"detail": _TEXT})
#: One entry for each wrong field, as FastAPI lists them.
_FIELD_ERRORS = Schema(
    type=OpenAPIType.ARRAY,
    items=Schema(
        type=OpenAPIType.OBJECT,
        required=["type", "loc", "msg"],
        properties={"type": _TEXT, "loc": Schema(type=OpenAPIType.ARRAY, items=_TEXT), "msg": _TEXT},
    ),
)
_WRONG_FIELDS = Schema(
    type=OpenAPIType.OBJECT,
    required=["detail"],
    properties={"detail": Schema(one_of=[_FIELD_ERRORS, _TEXT])},
)


def _json(schema: Schema, example: Example) -> dict[str, OpenAPIMediaType]:
    return {"application/json": OpenAPIMediaType(schema=schema, examples={"example": example})}


def _refused(description: str, schema: Schema = _REFUSAL) -> OpenAPIResponse:
    return OpenAPIResponse(description=description, content={"application/json": OpenAPIMediaType(schema=schema)})


_TEMPERATURE_ERRORS = {
    "400": _refused("The body cannot be decompressed"),
    "401": _refused("Missing or unknown API key"),
    "403": _refused("The key lacks the scope `ingest`"),
    "413": _refused("More bytes or decompressed bytes than one request may have"),
    "422": _refused("Fields are missing or wrong, or the sensor is one too many for the key", _WRONG_FIELDS),
    "503": _refused("Overload, or the database is away: nothing was stored, see Retry-After"),
}


@dataclass
class TemperatureOperation(Operation):
    """`POST /api/temperature_reading`: the replaced sensor server's body and errors."""

    def __post_init__(self) -> None:
        """Set the body and the errors, which are not RFC 9457 problem details."""
        self.request_body = RequestBody(content=_json(_TEMPERATURE, _TEMPERATURE_EXAMPLE), required=True)
        self.responses = {**(self.responses or {}), **_TEMPERATURE_ERRORS}


def _legacy_problem(request: AnyRequest, error: Exception) -> Response[Any]:
    """Answer an error in the replaced server's format: `{"detail": …}`."""
    if isinstance(error, WrongFieldsError):
        return Response({"detail": error.problems}, status_code=error.status)
    if isinstance(error, UnauthorizedError):
        return Response({"detail": "Invalid or missing API Key."}, status_code=401)
    answer = respond(request, error)
    return Response({"detail": answer.content.detail}, status_code=answer.status_code, headers=answer.headers)


@UploadRoute(
    "/api/temperature_reading",
    http_method="POST",
    guards=[require("ingest")],
    status_code=HTTP_201_CREATED,
    exception_handlers={Exception: _legacy_problem},
    operation_class=TemperatureOperation,
    tags=["Replaced services"],
    summary="Store one reading, as the replaced sensor server did",
)
async def post_temperature_reading(request: AnyRequest, ingest: NamedDependency[Ingest]) -> dict[str, Any]:
    """Store temperature, humidity and pressure of one sensor at the time of receipt.

    Additional numeric fields are stored as metrics of their own.
    """
    body = await ingest.read_small_body(request, first_headers(request.scope), _BODY_LIMIT)
    received_us = ingest.clock()
    problems, sensor, values = parse(body)
    if problems:
        wrong = WrongFieldsError(problems)
        ingest.note_refused(request, received_us, body[:BODY_KEPT], wrong)
        raise wrong
    upload = _legacy_upload(request, sensor, values, received_us, body[:BODY_KEPT])
    del body
    outcome = await ingest.store(upload)
    if outcome.receipt.rejected and outcome.legacy_id is None:  # else only further fields were refused
        raise UnprocessableError(outcome.receipt.rejected[0].message)
    if outcome.legacy_id is None:
        raise OverloadedError("Another process stored a reading of this sensor in the same microsecond; send again")
    record = LegacyRecord.make(outcome.legacy_id, sensor, received_us, values, upload.client_ip)
    return record.as_sent(ZoneInfo(ingest.settings.legacy_timezone))


def _legacy_upload(
    request: AnyRequest, sensor: str, values: dict[str, float], received_us: int, beginning: bytes
) -> Upload:
    return Upload(
        Readings.of([Reading(sensor, received_us, values)]),
        Rejected(),
        received_us,
        request.scope["state"]["api_key"],
        client_ip=client_ip(request),
        wants_legacy_id=True,
        is_untimed=True,
        sent=keep_sent(request, first_headers(request.scope), beginning),
    )


handlers = [post_temperature_reading]
