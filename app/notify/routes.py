"""HTTP routes of the outbox and of the channels: list and resend messages, list and test channels."""

from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, PathParameter, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from app.auth.audit import actor
from app.auth.guard import require
from app.db.lease import try_to_signal_leader
from app.db.pool import Pool
from app.errors import NotFoundError
from app.notify.channel_states import ChannelStatus, list_channel_statuses
from app.notify.dispatch.channel_tests import ChannelTest, request_test, require_worker
from app.notify.outbox import Notification, NotificationState, list_notifications, resend
from app.paging import LARGEST_ID, cut_page, parse_id_cursor
from app.parameters import PageCursor, PageLimit
from app.problems import problem_responses

log = structlog.get_logger()
_NOT_FOUND = {404: "There is none of that id or name"}
_NotificationId = Annotated[int, PathParameter(ge=1, le=LARGEST_ID)]
_WantedState = Annotated[
    NotificationState,
    QueryParameter(
        name="state",
        description="`dead`: given up; `failed`: was dead and has been sent again; `sending`: also between attempts",
    ),
]


class OutboxPage(msgspec.Struct, frozen=True):
    """Messages of the outbox, newest first."""

    items: list[Notification]
    next: str | None


class Resent(msgspec.Struct, frozen=True):
    """The new message that replaces a dead letter; it is deleted if nothing is left to tell when it is due."""

    id: int
    delayed_from: int


class ChannelPage(msgspec.Struct, frozen=True):
    """All configured channels, in order of name."""

    items: list[ChannelStatus]
    next: str | None = None


@get(
    "/api/v1/notifications/outbox",
    guards=[require("read", "live")],
    responses=problem_responses(),
    tags=["Notifications"],
    summary="List alert messages",
)
async def list_outbox(
    read_pool: NamedDependency[Pool], wanted: _WantedState = "dead", limit: PageLimit = 100, cursor: PageCursor = None
) -> OutboxPage:
    """List the alert messages in a state, newest first, with their delivery attempts."""
    found = await list_notifications(read_pool, wanted, parse_id_cursor(cursor, LARGEST_ID), limit + 1)
    page, next_cursor = cut_page(found, limit, lambda notification: str(notification.id))
    return OutboxPage(list(page), next_cursor)


@post(
    "/api/v1/notifications/outbox/{notification_id:int}/resend",
    guards=[require("notify", "admin")],
    status_code=HTTP_202_ACCEPTED,
    responses=problem_responses({**_NOT_FOUND, 409: "The message is not dead"}),
    tags=["Notifications"],
    summary="Send a dead letter again",
)
async def resend_notification(
    request: Request[Any, Any, Any], pool: NamedDependency[Pool], notification_id: _NotificationId
) -> Resent:
    """Send a new message with what is still true of the dead letter's content; its title begins with "Delayed"."""
    new_id = await resend(pool, notification_id)
    log.info("dead_letter_resent", id=notification_id, new_id=new_id, **actor(request))
    await try_to_signal_leader(pool)
    return Resent(new_id, notification_id)


@get(
    "/api/v1/channels",
    guards=[require("read", "live")],
    responses=problem_responses(),
    tags=["Notifications"],
    summary="List channels",
)
async def list_channels(read_pool: NamedDependency[Pool]) -> ChannelPage:
    """List the configured channels and whether they work, without their settings."""
    return ChannelPage(await list_channel_statuses(read_pool))


@post(
    "/api/v1/channels/{name:str}/test",
    guards=[require("notify", "admin")],
    status_code=HTTP_200_OK,
    responses=problem_responses({**_NOT_FOUND, 503: "No worker runs: `Retry-After` says when to try again"}),
    tags=["Notifications"],
    summary="Send a test message",
)
async def test_channel(
    request: Request[Any, Any, Any], pool: NamedDependency[Pool], name: FromPath[str]
) -> ChannelTest:
    """Send a test message through a channel; a message that arrives mends a broken channel."""
    await require_worker(pool)  # which alone knows the channels
    if name not in [channel.name for channel in await list_channel_statuses(pool)]:
        raise NotFoundError(f"There is no channel {name!r}; /api/v1/channels lists them")
    log.info("channel_test_requested", channel=name, **actor(request))
    return await request_test(pool, name)


handlers = [list_outbox, resend_notification, list_channels, test_channel]
