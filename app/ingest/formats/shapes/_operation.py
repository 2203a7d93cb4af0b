"""The documentation of bodies in Tidegauge's own shape, and in those of others by their examples."""

from dataclasses import dataclass

from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType

from app.hints import listed
from app.ingest.formats.shapes import find_shapes
from app.names import UNIT_LENGTH_LIMIT

#: The usual names of media types that have several.
_USUAL_TYPES = ("application/senml+json", "application/x-ndjson", "text/csv")

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
    any_of=[
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
        _READING,
        Schema(type=OpenAPIType.OBJECT, description="Another shape, see the examples"),
        Schema(type=OpenAPIType.ARRAY, description="A list in another shape, see the examples"),
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


def _json() -> dict[str, OpenAPIMediaType]:
    """Return the shapes of JSON, our own first."""
    others = {
        f"like {listed([*shape.fields][:3])}": Example(value=shape.example)
        for shape in find_shapes()
        if not isinstance(shape.example, str) and not shape.is_last
    }
    return {"application/json": OpenAPIMediaType(schema=_BATCH, examples={"example": _EXAMPLE, **others})}


def _of_media_types() -> dict[str, OpenAPIMediaType]:
    """Return the media types whose bodies always have one shape; of several names of one, the first."""
    return {
        min(shape.media_types, key=lambda name: (name not in _USUAL_TYPES, name)): OpenAPIMediaType(
            schema=Schema(type=OpenAPIType.STRING if isinstance(shape.example, str) else OpenAPIType.ARRAY),
            examples={"example": Example(value=shape.example)},
        )
        for shape in find_shapes()
        if shape.media_types
    }


@dataclass
class ReadingsOperation(Operation):
    """`POST /api/v1/readings`: JSON or MessagePack, plain, gzip or zstd."""

    def __post_init__(self) -> None:
        """Set the body; Litestar cannot derive it."""
        message_pack = {"application/msgpack": OpenAPIMediaType(schema=_BATCH)}
        self.request_body = RequestBody(content=_json() | message_pack | _of_media_types(), required=True)
