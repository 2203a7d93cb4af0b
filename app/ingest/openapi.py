"""The bodies of this domain for OpenAPI: they are decoded by hand, so Litestar cannot see them."""

from dataclasses import dataclass

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

_TIME = "RFC 3339 with a zone, or milliseconds since 1970; absent, the time of receipt"
_READING = Schema(
    type=OpenAPIType.OBJECT,
    required=["sensor", "values"],
    properties={
        "sensor": Schema(type=OpenAPIType.STRING, max_length=200, description="Registered on first sight"),
        "time": Schema(one_of=[Schema(type=OpenAPIType.STRING), Schema(type=OpenAPIType.NUMBER)], description=_TIME),
        "values": Schema(
            type=OpenAPIType.OBJECT,
            additional_properties=Schema(type=OpenAPIType.NUMBER),
            description="Metric to value",
        ),
        "tags": Schema(type=OpenAPIType.OBJECT, additional_properties=Schema(type=OpenAPIType.STRING)),
    },
)
_READINGS = Schema(type=OpenAPIType.ARRAY, items=_READING)
_BATCH = Schema(
    one_of=[
        Schema(
            type=OpenAPIType.OBJECT,
            required=["readings"],
            properties={"gateway": Schema(type=OpenAPIType.STRING), "readings": _READINGS},
        ),
        _READINGS,
    ]
)
_EXAMPLE = Example(
    summary="Two sensors behind one gateway",
    value={
        "gateway": "harbour-1",
        "readings": [
            {"sensor": "cellar", "time": "2026-01-31T08:00:00Z", "values": {"temperature": 12.5, "humidity": 61}},
            {"sensor": "roof", "values": {"temperature": -3.25}, "tags": {"site": "harbour"}},
        ],
    },
)
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
#: One entry a field that is wrong, as FastAPI lists them.
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
    "413": _refused("More bytes or decompressed bytes than one request may bring"),
    "422": _refused("Fields are missing or wrong, or the sensor is one too many for the key", _WRONG_FIELDS),
    "503": _refused("Overload, or the database is away: nothing stored, see Retry-After"),
}


# Both put in what Litestar left out: it gives None for what it cannot see, so defaults would not do.


@dataclass
class ReadingsOperation(Operation):
    """`POST /api/v1/readings`: JSON or MessagePack, plain, gzip or zstd."""

    def __post_init__(self) -> None:
        """Describe the body."""
        message_pack = {"application/msgpack": OpenAPIMediaType(schema=_BATCH)}
        self.request_body = RequestBody(content=_json(_BATCH, _EXAMPLE) | message_pack, required=True)


@dataclass
class TemperatureOperation(Operation):
    """`POST /api/temperature_reading`: the replaced sensor server's body and errors."""

    def __post_init__(self) -> None:
        """Describe the body and the errors, which are no problem details."""
        self.request_body = RequestBody(content=_json(_TEMPERATURE, _TEMPERATURE_EXAMPLE), required=True)
        self.responses = {**(self.responses or {}), **_TEMPERATURE_ERRORS}
