"""The routes by which clients of InfluxDB 1 and 2 write; the answers are those of InfluxDB."""

from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from litestar import Response, route
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from app.auth.guard import Connection, admit, first_headers, key_from_headers
from app.auth.key_ring import KeyRing
from app.errors import InvalidRequestError, UnauthorizedError, UnprocessableError
from app.http.parameters import IGNORED
from app.http.requests import AnyRequest
from app.ingest.formats.influx.lines import MalformedLineError
from app.ingest.formats.influx.readings import UNITS_NS, parse, parse_good
from app.ingest.intake import Ingest
from app.ingest.uploads.receipt import Receipt
from app.ingest.uploads.route import UploadRoute
from app.problems import respond

#: The version that clients are told; from 1.8 on, both interfaces are there.
_VERSION: Final = "1.8.10"
#: InfluxDB's codes of errors by status; all others are "internal error".
_CODES: Final = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "invalid",
    413: "request too large",
    422: "unprocessable entity",
    429: "too many requests",
    503: "unavailable",
}
#: Parameters of InfluxDB that mean nothing here; `p` is read by the guard.
_IGNORED: Final = ("org", "orgID", "bucket", "db", "rp", "u", "p", "consistency")
#: Refused fields that an answer describes; all are counted.
_REFUSALS_SHOWN: Final = 3


async def allow_ingest(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Allow a key with the scope `ingest`, as a guard, wherever clients of InfluxDB put it."""
    ring: KeyRing = connection.app.state.key_ring
    *others, last = [*_find_keys(connection)] or [""]
    for key in others:
        with suppress(UnauthorizedError):
            await ring.authenticate(key)
            last = key
            break
    connection.scope["state"]["api_key"] = await admit(ring, connection.scope, last, "ingest")


def _find_keys(connection: Connection) -> Iterator[str]:
    """Yield what may be the key: a token, which may have a user before it, or a password in a header or the query."""
    headers = first_headers(connection.scope)
    key = key_from_headers(headers)
    scheme, _, rest = (key or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            yield b64decode(rest, validate=True).decode().partition(":")[2]
        except ValueError:
            raise UnauthorizedError(
                "The header Authorization is no valid HTTP Basic: user:password in Base64"
            ) from None
    elif key:
        yield key
        if ":" in key:
            yield key.partition(":")[2]
    else:
        query = dict(parse_qsl(connection.scope["query_string"].decode("latin-1")))
        if "p" in query:
            yield query["p"]


class PartialWriteError(UnprocessableError):
    """Some fields of a body were refused. All others are stored."""


def answer_error(request: AnyRequest, error: Exception) -> Response[Any]:
    """Answer an error in the form of both versions of InfluxDB."""
    answer = respond(request, error)
    content: dict[str, Any] = _error(answer.content.status, answer.content.detail)
    if isinstance(error, MalformedLineError):
        content["line"] = error.line
    return Response(content, status_code=answer.status_code, headers=answer.headers)


def _error(status: int, message: str) -> dict[str, Any]:
    # Version 2 reads `code` and `message`, version 1 `error`.
    return {"code": _CODES.get(status, "internal error"), "message": message, "error": message}


def _check_all_stored(receipt: Receipt) -> None:
    """Raise PartialWriteError if fields were refused."""
    if not receipt.rejected_count:
        return
    shown = [f"line {each.index + 1}: {each.message}" for each in receipt.rejected[:_REFUSALS_SHOWN]]
    left = receipt.rejected_count - len(shown)
    raise PartialWriteError(
        f"partial write: {receipt.rejected_count} fields refused, all others stored: "
        + "; ".join(shown)
        + (f"; and {left} more" if left else "")
    )


def _read_unit(precision: str) -> int:
    if not precision:
        return UNITS_NS["ns"]
    if precision not in UNITS_NS:
        raise InvalidRequestError(f"precision is {precision!r:.60}; send one of {', '.join(UNITS_NS)}")
    return UNITS_NS[precision]


_TEXT: Final = Schema(type=OpenAPIType.STRING)
_ERROR: Final = Schema(
    type=OpenAPIType.OBJECT,
    required=["code", "message", "error"],
    properties={"code": _TEXT, "message": _TEXT, "error": _TEXT, "line": Schema(type=OpenAPIType.INTEGER)},
)
_ERRORS: Final = {
    "400": "A line is malformed, or the precision is unknown: nothing was stored; `line` counts from 1",
    "401": "Missing or unknown API key",
    "403": "The key lacks the scope `ingest`",
    "413": "More bytes, decompressed bytes or fields than one request may have",
    "422": "Some fields were refused; all others are stored",
    "503": "Overload, or the database is away, see Retry-After",
}

Precision = Annotated[str, QueryParameter(description=f"Unit of the times: {', '.join(UNITS_NS)}")]


@dataclass
class WriteOperation(Operation):
    """A body in line protocol, and the errors of InfluxDB, which are not RFC 9457 problem details."""

    def __post_init__(self) -> None:
        """Set body and errors."""
        example = Example(value="temperature,device=cellar,site=harbour value=12.5 1767254400000000000")
        body = OpenAPIMediaType(schema=_TEXT, examples={"example": example})
        self.request_body = RequestBody(content={"text/plain": body}, required=True)
        errors = {
            status: OpenAPIResponse(description=text, content={"application/json": OpenAPIMediaType(schema=_ERROR)})
            for status, text in _ERRORS.items()
        }
        self.responses = {**(self.responses or {}), **errors}


async def write_lines(request: AnyRequest, ingest: NamedDependency[Ingest], precision: Precision = "ns") -> None:
    """Store the numeric fields of all lines, as InfluxDB does. Texts are left out.

    Organization, bucket, database and retention policy are ignored.
    """
    unit_ns = _read_unit(precision)

    receipt = await ingest.take(
        request,
        lambda body, _media_type, times: parse(body, times, unit_ns),
        lambda body, _media_type, times: parse_good(body, times, unit_ns),
    )
    _check_all_stored(receipt)


def _make_write_route(path: str) -> HTTPRouteHandler:
    """Return a route of its own for each address: the order of several addresses of one route is not fixed."""
    return UploadRoute(
        path,
        http_method="POST",
        guards=[allow_ingest],
        status_code=HTTP_204_NO_CONTENT,
        exception_handlers={Exception: answer_error},
        operation_class=WriteOperation,
        opt={IGNORED: _IGNORED},
        tags=["InfluxDB"],
        summary="Store a batch in line protocol",
    )(write_lines)


@route(
    "/ping",
    http_method=["GET", "HEAD"],
    status_code=HTTP_204_NO_CONTENT,
    tags=["InfluxDB"],
    security=[{}],
    summary="Is this an InfluxDB?",
)
async def ping() -> Response[None]:
    """Answer as InfluxDB does; no key is needed."""
    return Response(None, status_code=HTTP_204_NO_CONTENT, headers={"X-Influxdb-Version": _VERSION})


@route(
    "/health",
    http_method=["GET", "HEAD"],
    status_code=HTTP_200_OK,
    tags=["InfluxDB"],
    security=[{}],
    summary="Is the server up? (as InfluxDB answers)",
)
async def health() -> dict[str, Any]:
    """Answer that the process runs, as InfluxDB does; `/health/ready` tells whether it can store readings."""
    return {
        "name": "influxdb",
        "message": "ready for queries and writes",
        "status": "pass",
        "checks": [],
        "version": _VERSION,
    }


handlers = [_make_write_route("/api/v2/write"), _make_write_route("/write"), ping, health]
