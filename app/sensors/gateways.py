"""Gateways over HTTP: their state and counts, and what was refused of their last uploads."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from app.auth.guard import require
from app.db.pool import Pool
from app.errors import NotFoundError
from app.parameters import check_text
from app.problems import problem_responses
from app.sensors.sql import SQL

_REJECTED = b"/rejected"
RefusalLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=20, description="Refused uploads")]


class GatewayItem(msgspec.Struct, frozen=True):
    """A gateway as one API key uploads for it; one that does not name itself goes by the key's label.

    Offline once everything that came through it is silent.
    """

    name: str
    #: Label of the API key.
    key: str
    last_upload: datetime
    #: When something of an upload was last stored, or known already.
    last_taken: datetime | None
    sensors: int
    uploads: int
    accepted: int
    duplicates: int
    #: Of the duplicates, those whose value differs from the stored one; of a large upload some are compared.
    conflicts: int
    #: Values refused, by code.
    rejected: dict[str, int]
    rejected_count: int
    #: Receive time minus the newest reading's time, of the last upload: negative means a clock that runs ahead. Where
    #: all readings were refused, they count.
    skew_s: float | None
    #: Receive time minus the oldest reading's time, of the last upload.
    lateness_s: float | None
    state: Literal["ok", "offline"]
    #: As the built-in rule gateway-clock judges it.
    clock: Literal["ok", "ahead", "behind"]
    #: How often fields that no format has were left out of its uploads, and when last; they may be misspelt.
    unknown_fields: dict[str, int]
    unknown_fields_at: datetime | None


class GatewayPage(msgspec.Struct, frozen=True):
    """All gateways, offline ones first."""

    items: list[GatewayItem]
    next: None = None


class RefusalItem(msgspec.Struct, frozen=True):
    """The refusal of one value, or of all values of one reading, as the answer listed it."""

    index: int
    code: str
    message: str
    metric: str | None = None


class RefusedUploadItem(msgspec.Struct, frozen=True):
    """An upload of which something was refused, with the beginning of its body."""

    at: datetime
    #: Label of the API key.
    key: str
    #: The address that it was sent to.
    path: str
    #: Why the upload was refused as a whole; null if only some of its values were.
    error: str | None
    rejected_count: int
    by_code: dict[str, int]
    #: The first refusals.
    rejected: list[RefusalItem]
    #: At most 1,000 characters, decompressed. What looks like a secret is left out.
    body: str


class RefusedUploadPage(msgspec.Struct, frozen=True):
    """The last refused uploads of a gateway, the newest first."""

    items: list[RefusedUploadItem]
    next: None = None


@get(
    "/api/v1/gateways",
    guards=[require("read", "live")],
    responses=problem_responses(),
    tags=["Gateways"],
    summary="List gateways",
)
async def list_gateways(read_pool: NamedDependency[Pool]) -> GatewayPage:
    """List gateways with their counts, whether they are offline, and whether their clocks are right."""
    return GatewayPage([GatewayItem(**row) for row in await read_pool.fetch(SQL["list_gateways"])])


@get(
    "/api/v1/gateways/{name:str}/rejected",
    guards=[require("read", "live")],
    responses=problem_responses({404: "There is no such gateway"}),
    tags=["Gateways"],
    summary="Show what was refused of a gateway's last uploads",
)
async def list_rejected(
    request: Request[Any, Any, Any], read_pool: NamedDependency[Pool], name: FromPath[str], limit: RefusalLimit = 20
) -> RefusedUploadPage:
    """List the last uploads of which something was refused, each with the beginning of its body.

    The name may hold slashes. An upload is listed after 5 seconds at most.
    """
    return await _fetch_rejected(request, read_pool, limit)


# Litestar gives a name with slashes to a route whose parameter is the last part of its address, and prefers this one.
@get("/api/v1/gateways/{name:path}", guards=[require("read", "live")], include_in_schema=False)
async def list_rejected_of_path(
    request: Request[Any, Any, Any], read_pool: NamedDependency[Pool], name: FromPath[str], limit: RefusalLimit = 20
) -> RefusedUploadPage:
    """List what `list_rejected` lists, of a gateway with any name."""
    return await _fetch_rejected(request, read_pool, limit)


async def _fetch_rejected(request: Request[Any, Any, Any], read_pool: Pool, limit: int) -> RefusedUploadPage:
    """Return the refused uploads of the gateway in the raw path; raise NotFoundError."""
    path = request.scope["raw_path"].partition(b"/gateways/")[2]
    if not path.endswith(_REJECTED):
        raise NotFoundError("There is nothing at this address; a gateway has /api/v1/gateways/{name}/rejected")
    given = check_text("gateway", unquote(path.removesuffix(_REJECTED)))
    found = await read_pool.fetchval(SQL["find_gateway"], given)
    rows = await read_pool.fetch(SQL["list_refused_uploads"], found or given, limit)
    if not rows and found is None:
        raise NotFoundError(f"There is no gateway {given!r}; /api/v1/gateways lists them")
    return RefusedUploadPage([msgspec.convert(dict(row), RefusedUploadItem) for row in rows])


handlers = [list_gateways, list_rejected, list_rejected_of_path]
