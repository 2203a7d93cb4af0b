"""Bodies of /api/v1/readings parsed as the route does it, small ones and the same in pieces."""

import json
from typing import Any, NamedTuple

import msgspec
import pytest

from app.clock import to_us
from app.errors import AppError
from app.ingest.bodies import document, pieces
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.readings import parse_from
from app.ingest.formats.shapes import Source
from app.ingest.uploads.receipt import Rejection
from app.model import Reading
from tests.ingest.formats.test_native import NOW
from tests.ingest.uploads import as_objects

NOW_US = to_us(NOW)
NOW_MS = NOW_US // 1_000


class Result(NamedTuple):
    """What became of a body."""

    readings: list[Reading]
    rejected: list[Rejection]
    rejected_count: int
    unknown_fields: dict[str, int]
    gateway: str | None

    @property
    def values(self) -> list[tuple[str, str, int, float]]:
        """Sensor, metric, microseconds before NOW, value."""
        return [
            (reading.sensor, metric, NOW_US - reading.time_us, value)
            for reading in self.readings
            for metric, value in reading.values.items()
        ]

    @property
    def refusals(self) -> list[tuple[int, str, str]]:
        """Index, code and message."""
        return [(each.index, each.code, each.message) for each in self.rejected]


def parse(body: object, media_type: str = "application/json", asked: str | None = None) -> Result:
    """Parse a body with the key `key`, also in pieces; bytes as they are, text as UTF-8, and all else as JSON."""
    encoded = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    whole = _try(encoded, media_type, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "WHOLE_BYTES", -1)
        patch.setattr(pieces, "PIECE_BYTES", 40)
        in_pieces = _try(encoded, media_type, asked)
    if isinstance(whole, AppError):
        assert type(in_pieces) is type(whole)
        raise whole
    assert in_pieces == whole
    return whole


def _try(body: bytes, media_type: str, asked: str | None) -> Result | AppError:
    source = Source(ReceiptTimes(NOW_US), asked, "key")
    try:
        parsed = parse_from(body, media_type, source)
    except AppError as error:
        return error
    rejected = parsed.rejected
    msgspec.json.encode(rejected.listed)
    return Result(as_objects(parsed.readings), rejected.listed, rejected.count, rejected.unknown_fields, parsed.gateway)


def pack(body: Any) -> bytes:
    """Return MessagePack."""
    return msgspec.msgpack.encode(body)
