"""The documentation of a body in Tidegauge's own format."""

from dataclasses import dataclass

from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType

from app.names import UNIT_LENGTH_LIMIT

_TIME = "RFC 3339 with a zone, or milliseconds since 1970; without it, the time of receipt"
_UNITS = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=Schema(type=OpenAPIType.STRING, max_length=UNIT_LENGTH_LIMIT),
    description="By metric; a series that has a unit keeps it",
)
_READING = Schema(
    type=OpenAPIType.OBJECT,
    required=["sensor", "values"],
    properties={
        "sensor": Schema(type=OpenAPIType.STRING, max_length=200, description="Registered with its first reading"),
        "time": Schema(one_of=[Schema(type=OpenAPIType.STRING), Schema(type=OpenAPIType.NUMBER)], description=_TIME),
        "values": Schema(
            type=OpenAPIType.OBJECT,
            additional_properties=Schema(type=OpenAPIType.NUMBER),
            description="Values by metric",
        ),
        "tags": Schema(type=OpenAPIType.OBJECT, additional_properties=Schema(type=OpenAPIType.STRING)),
        "unit": Schema(type=OpenAPIType.STRING, max_length=UNIT_LENGTH_LIMIT, description="Of every value"),
        "units": _UNITS,
    },
)
_READINGS = Schema(type=OpenAPIType.ARRAY, items=_READING)
_BATCH = Schema(
    one_of=[
        Schema(
            type=OpenAPIType.OBJECT,
            required=["readings"],
            properties={
                "gateway": Schema(type=OpenAPIType.STRING),
                "units": _UNITS,
                "readings": _READINGS,
            },
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


def _json(schema: Schema, example: Example) -> dict[str, OpenAPIMediaType]:
    return {"application/json": OpenAPIMediaType(schema=schema, examples={"example": example})}


@dataclass
class ReadingsOperation(Operation):
    """`POST /api/v1/readings`: JSON or MessagePack, plain, gzip or zstd."""

    def __post_init__(self) -> None:
        """Set the body; Litestar cannot derive it."""
        message_pack = {"application/msgpack": OpenAPIMediaType(schema=_BATCH)}
        self.request_body = RequestBody(content=_json(_BATCH, _EXAMPLE) | message_pack, required=True)
