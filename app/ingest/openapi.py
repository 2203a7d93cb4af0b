"""The bodies of this domain for OpenAPI: they are decoded by hand, so Litestar cannot see them."""

from dataclasses import dataclass, field

from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Reference, RequestBody, Schema
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
_RECORD: dict[str, Reference | Schema] = {
    "temperature": _NUMBER,
    "humidity": _NUMBER,
    "pressure": _NUMBER,
    "sensor_id": Schema(type=OpenAPIType.STRING),
}


def _json(schema: Schema, example: Example, *further_types: str) -> RequestBody:
    content = {"application/json": OpenAPIMediaType(schema=schema, examples={"example": example})}
    return RequestBody(
        content={**content, **{name: OpenAPIMediaType(schema=schema) for name in further_types}}, required=True
    )


@dataclass
class ReadingsOperation(Operation):
    """`POST /api/v1/readings`: JSON or MessagePack, plain, gzip or zstd."""

    request_body: RequestBody | None = field(default_factory=lambda: _json(_BATCH, _EXAMPLE, "application/msgpack"))


@dataclass
class TemperatureOperation(Operation):
    """`POST /api/temperature_reading`: the replaced sensor server's body."""

    request_body: RequestBody | None = field(
        default_factory=lambda: _json(
            Schema(
                type=OpenAPIType.OBJECT,
                required=list(_RECORD),
                properties=_RECORD,
                additional_properties=_NUMBER,
            ),
            Example(value={"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}),
        )
    )
