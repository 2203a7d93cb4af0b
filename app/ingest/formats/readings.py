"""`POST /api/v1/readings`: a body in any of the shapes of app/ingest/formats/shapes, in JSON, MessagePack or as text.

A body in Tidegauge's own shape whose types are all right is decoded into structs and checked as a whole. Any other body
is decoded without types and checked reading by reading, so that one bad value does not reject others.
"""

from collections.abc import Iterator
from typing import Annotated, Final

from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.auth.keys import ApiKey
from app.errors import InvalidRequestError
from app.http.requests import AnyRequest
from app.ingest.bodies import document as documents
from app.ingest.bodies.document import JSON, MESSAGE_PACK, Coding, Document, Listing, read_document
from app.ingest.bodies.loose_json import strip_nuls
from app.ingest.bodies.pieces import check_count, check_value_count
from app.ingest.checks import refuse_sensor
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.shapes import Source, find_shape, find_text_shape, native, shapes_by_media_type
from app.ingest.formats.shapes._items import check_items
from app.ingest.formats.shapes._nearest import refuse_shape
from app.ingest.formats.shapes._operation import ReadingsOperation
from app.ingest.formats.shapes._typed import take_good, take_good_piece
from app.ingest.intake import Ingest
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.route import UploadRoute
from app.names import is_sensor_name, tidy_name
from app.problems import problem_responses

MSGPACK_TYPES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


def parse(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
    """Return the readings and rejections of a body that says itself which sensors it is about."""
    return parse_from(body, media_type, Source(times))


def parse_from(body: bytes, media_type: str, source: Source) -> Parsed:
    """Return the readings and rejections of a body; a large one is decoded in pieces, and runs in a thread.

    Raise InvalidRequestError if it cannot be decoded, PayloadTooLargeError if it has too many readings or values.
    """
    shape = shapes_by_media_type().get(media_type)
    if shape is not None:
        document = shape.open_body(body, media_type) if shape.open_body is not None else read_document(JSON, body)
        return _collect(check_items(shape.read(document, source), source), source, document)
    coding = _coding(media_type)
    if coding is JSON:
        body = strip_nuls(body)
    if len(body) <= documents.WHOLE_BYTES and source.asked_sensor is None:
        parsed = take_good(body, coding, source.times)
        if parsed is not None:
            return parsed
    return _parse_document(coding, body, source)


def parse_good(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed | None:
    """Return the readings of a body in Tidegauge's own shape in which all is right, quickly; None for any other."""
    if media_type in shapes_by_media_type():
        return None
    return take_good(body, _coding(media_type), times)


def _coding(media_type: str) -> Coding:
    return MESSAGE_PACK if media_type in MSGPACK_TYPES else JSON


def _parse_document(coding: Coding, body: bytes, source: Source) -> Parsed:
    """Parse a body whose shape is not known yet, reading by reading."""
    try:
        document = read_document(coding, body)
        shape = find_shape(document)
    except InvalidRequestError:
        if coding is not JSON or find_text_shape(body) is None:
            raise
        document, shape = Document(), None
    if document.is_neither and coding is JSON and (shape := find_text_shape(body)) is not None:
        assert shape.open_body is not None  # noqa: S101 -- as of each shape of text
        document = shape.open_body(body, "")
    if shape is None:
        raise refuse_shape(document)
    if shape is native.SHAPE and len(body) > documents.WHOLE_BYTES:
        listing = document.items or document.list_of("readings")
        if listing is not None and listing.pieces is not None:
            return _collect(_read_pieces(coding, native.open_envelope(document, source), source), source, document)
    return _collect(check_items(shape.read(document, source), source), source, document)


def _collect(parts: Iterator[Readings], source: Source, document: Document) -> Parsed:
    """Join the readings of a body; raise PayloadTooLargeError if it has too many values.

    Raise InvalidRequestError if the rest of the body cannot be decoded.
    """
    kept: list[Readings] = []
    value_count = 0
    for part in parts:
        kept.append(part)
        value_count += len(part.values)
        check_value_count(value_count + source.rejected.count)
    document.check_rest()
    return Parsed(Readings.join(kept), source.rejected, source.gateway)


def _read_pieces(coding: Coding, listing: Listing, source: Source) -> Iterator[Readings]:
    """Yield the readings of a list piece by piece; each piece is forgotten before the next one is decoded."""
    assert listing.pieces is not None  # noqa: S101 -- asked before
    count = 0
    for piece in listing.pieces():
        good = None
        if source.asked_sensor is None and source.outer_time is None:
            good = take_good_piece(piece, coding, source.times, source.units, count)
        if good is not None:
            yield good
            count = good.indexes[-1] + 1
            continue
        items = coding.read_part(piece)
        check_count(count + len(items))
        source.times.expect(len(items))
        yield from check_items(iter(enumerate(items, count)), source)
        count += len(items)


_PROBLEMS = problem_responses(
    {
        400: "The body cannot be decoded",
        413: "More bytes, decompressed bytes, readings or values than one request may have",
        422: "The Idempotency-Key was used for another body",
        503: "Overload, or the database is away: nothing was stored, see Retry-After",
    }
)


@UploadRoute(
    "/api/v1/readings",
    http_method="POST",
    guards=[require("ingest")],
    status_code=HTTP_200_OK,
    operation_class=ReadingsOperation,
    responses=_PROBLEMS,
    tags=["Readings"],
    summary="Store a batch of readings",
)
async def post_readings(
    request: AnyRequest,
    ingest: NamedDependency[Ingest],
    sensor: Annotated[str | None, QueryParameter(description="The sensor of readings that name none")] = None,
    dry_run: Annotated[bool, QueryParameter(description="With 1, nothing is stored; the answer is the same")] = False,
) -> Receipt:
    """Store readings. Sending the same ones again is safe: they are counted as duplicates.

    Bad values are rejected one by one, with a code and a message that says what to send instead; the others are
    stored. The answer is 200 even then, so that a sender does not repeat values that can never be stored.
    """
    asked, own = _check_sensor(sensor), own_sensor(request)

    def parse_this(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
        return parse_from(body, media_type, Source(times, asked, own))

    return await ingest.take(request, parse_this, parse_good if asked is None else None, dry_run=dry_run)


def _check_sensor(sensor: str | None) -> str | None:
    """Return the parameter as a name is stored; raise InvalidRequestError."""
    tidy = None if sensor is None else tidy_name(sensor)
    if tidy is not None and not is_sensor_name(tidy):
        raise InvalidRequestError(f"The parameter {refuse_sensor(tidy)[1]}")
    return tidy


def own_sensor(request: AnyRequest) -> str:
    """Return the sensor of readings that name none: the gateway of the key, else the key's label."""
    key: ApiKey = request.scope["state"]["api_key"]
    return key.label if key.binding is None else key.binding.gateway


handlers = [post_readings]
