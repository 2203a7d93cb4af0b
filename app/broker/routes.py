"""HTTP routes of the notification broker: the two of the replaced broker, and those that read sent notifications."""

import traceback
from typing import Annotated, Final, cast, get_args
from uuid import UUID

import msgspec
import structlog
from litestar import Response, Router, get, head, post
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_500_INTERNAL_SERVER_ERROR
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.guard import admit, key_from_headers, require
from app.auth.key_ring import KeyRing
from app.auth.rates import RateLimitedError
from app.broker.broker import Broker
from app.broker.openapi import SEND_RESPONSES, BrokerError, SendOperation
from app.broker.request import parse_request
from app.broker.store import BrokerLevel, NotificationPage, StoredNotification
from app.db.pool import Pool
from app.errors import InvalidRequestError, UnauthorizedError
from app.http.requests import AnyRequest
from app.parameters import PageCursor, PageLimit, check_text
from app.problems import describe, is_database_away, problem_responses

PATH: Final = "/api/v1/notifications"
BODY_LIMIT: Final = 2**20
log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode
#: Allowed to a preflight that asks for no headers.
_DEFAULT_HEADERS: Final = (
    b"authorization, content-type, slack-webhook-url, telegram-bot-token, telegram-chat-id, x-api-key"
)
_CORS_HEADERS: Final = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after, x-request-id"),
]
_PREFLIGHT_HEADERS: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"access-control-request-headers"),
]
_DATABASE_AWAY = {503: "The database is away, see Retry-After"}


def _answer_error(request: AnyRequest, error: Exception) -> Response[BrokerError]:
    """Answer in the replaced broker's format; log an unexpected error without local variables, which hold secrets."""
    problem, headers = describe(error)
    message = problem.detail
    if isinstance(error, UnauthorizedError):
        message = "Invalid or missing API key"
    elif isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.retry_after_s)
    elif is_database_away(error):
        message = "The database is away, so the API key could not be checked; nothing was sent"
    elif problem.status == HTTP_500_INTERNAL_SERVER_ERROR:
        message = "Internal server error"
        log.error("request_failed", path=request.url.path, traceback="".join(traceback.format_exception(error)))
    return Response(BrokerError(message), status_code=problem.status, headers=headers)


@get("/health", security=[{}], tags=["Replaced services"], summary="Check that the broker runs")
async def get_broker_health() -> dict[str, str]:
    """Return the replaced broker's answer; no key is needed."""
    return {"status": "healthy", "service": "notification-broker"}


@head("/health", include_in_schema=False, status_code=HTTP_200_OK)
async def head_broker_health() -> None:
    """Answer monitors that send HEAD."""


@post(
    "/send",
    status_code=HTTP_201_CREATED,
    request_max_body_size=BODY_LIMIT,
    exception_handlers={Exception: _answer_error},
    operation_class=SendOperation,
    responses=SEND_RESPONSES,
    tags=["Replaced services"],
    summary="Send a notification, as the replaced broker did",
)
async def send_notification(request: AnyRequest) -> ASGIResponse:
    """Send a notification to Slack, Telegram or both, and return the outcome of each.

    A failed attempt that may succeed later is repeated for up to ten seconds, while the client waits. `success: false`
    is final: nothing is sent later.
    """
    # No guard, no dependency and no response made by Litestar: together they took a sixth of the time.
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    ring: KeyRing = request.app.state.key_ring
    broker: Broker = request.app.state.broker
    api_key = await admit(ring, request.scope, key_from_headers(headers), "notify")
    await broker.limiter.count(api_key)
    answer = await broker.send(parse_request(await request.body(), headers), api_key)
    return ASGIResponse(body=_encode(answer), status_code=HTTP_201_CREATED, media_type="application/json")


@get(
    "/{notification_id:uuid}",
    guards=[require("read")],
    responses=problem_responses({404: "There is no such notification", **_DATABASE_AWAY}),
    tags=["Notifications"],
    summary="Get one sent notification",
)
async def get_notification(
    notification_id: FromPath[UUID], broker: NamedDependency[Broker], pool: NamedDependency[Pool]
) -> StoredNotification:
    """Return a notification and its outcome; it can be read as soon as its request has been answered."""
    return await broker.store.find(pool, notification_id)


@get(
    "/",
    guards=[require("read")],
    responses=problem_responses(_DATABASE_AWAY),
    tags=["Notifications"],
    summary="List sent notifications",
)
async def list_notifications(
    broker: NamedDependency[Broker],
    pool: NamedDependency[Pool],
    level: Annotated[str | None, QueryParameter(description="INFO, WARNING, ERROR, CRITICAL or DISASTER")] = None,
    source: Annotated[str | None, QueryParameter(description="Exactly as sent")] = None,
    limit: PageLimit = 100,
    cursor: PageCursor = None,
) -> NotificationPage:
    """List notifications, newest first, page by page."""
    check_text("source", source or "")
    return await broker.store.list_page(pool, level=_read_level(level), source=source, cursor=cursor, limit=limit)


def _read_level(level: str | None) -> BrokerLevel | None:
    name = None if level is None else level.upper()
    if name is not None and name not in get_args(BrokerLevel):
        raise InvalidRequestError(f"level is {level!r:.60}; it must be one of {', '.join(get_args(BrokerLevel))}")
    return cast("BrokerLevel | None", name)


class OpenCors:
    """Middleware that answers CORS preflights and lets web pages of any origin read every answer, also errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight; pass any other request on."""

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_CORS_HEADERS]
            await send(message)

        if scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS":
            headers = dict(scope["headers"])
            if b"access-control-request-method" in headers:
                await _answer_preflight(headers, send_with_cors)
                return
        await self._app(scope, receive, send_with_cors)


async def _answer_preflight(headers: dict[bytes, bytes], send: Send) -> None:
    """Allow the headers that the preflight asks for; `*` would not include Authorization."""
    allowed = (b"access-control-allow-headers", headers.get(b"access-control-request-headers", _DEFAULT_HEADERS))
    await send({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT_HEADERS, allowed]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


handlers = [
    Router(
        PATH,
        route_handlers=[
            get_broker_health,
            head_broker_health,
            send_notification,
            get_notification,
            list_notifications,
        ],
        middleware=[OpenCors],
    )
]
