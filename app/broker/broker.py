"""The notification broker: delivers a notification while the client waits, and stores the outcome."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, cast
from uuid import UUID, uuid4

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from app.auth.keys import ApiKey
from app.broker.delivery import BrokerDelivery
from app.broker.format import BrokerNotification
from app.broker.pacing import RetryAfterPacing
from app.broker.rates import RateLimiter
from app.broker.request import ChannelSettings, SendRequest, TargetError, make_target
from app.broker.store import BrokerLevel, NotificationStore, StoredNotification, StoredOutcome
from app.clock import now
from app.db.pool import Pool
from app.db.shared import SharedState
from app.errors import OverloadedError
from app.notify.transport import Endpoints, open_session

#: Limit of connections to all services together; a notification may use one for its whole deadline.
CONNECTIONS: Final = 500
#: Limit of notifications being sent at once; further ones are refused with 503 and Retry-After.
UNDER_WAY: Final = 2_000
log = structlog.get_logger()


class ChannelResponse(msgspec.Struct, frozen=True):
    """The service's answer: Slack's `ok`, or Telegram's JSON."""

    status: Literal["sent"]
    response: Any


class ChannelResult(msgspec.Struct, frozen=True):
    """The outcome of the notification in one channel; a failure is final, so nothing is sent later."""

    success: bool
    response: ChannelResponse | UnsetType = UNSET
    error: str | UnsetType = UNSET


class SentNotification(msgspec.Struct, frozen=True):
    """A sent notification. `timestamp` is UTC with microseconds and without a zone, as existing clients parse it."""

    notification_id: str
    timestamp: str
    channels: dict[str, ChannelResult]


class SendAnswer(msgspec.Struct, frozen=True):
    """The answer to a notification, also if every channel failed."""

    success: bool
    data: SentNotification


class Broker:
    """Sends notifications within the request or not at all; sending does not need the database."""

    def __init__(self, endpoints: Endpoints, shared: SharedState | None = None) -> None:
        self._shared = shared or SharedState()
        self.limiter = RateLimiter(self._shared)
        self.store = NotificationStore()
        self._endpoints = endpoints
        self._delivery: BrokerDelivery | None = None
        self._under_way = 0

    @asynccontextmanager
    async def opened(self, pool: Pool) -> AsyncIterator[None]:
        """Keep the connections to the services open; at the end, store the notifications that are not stored yet."""
        async with open_session(connections=CONNECTIONS) as session:
            self._delivery = BrokerDelivery(session, self._endpoints, RetryAfterPacing(self._shared))
            try:
                yield
            finally:
                await self.store.close(pool)

    async def send(self, request: SendRequest, api_key: ApiKey) -> SendAnswer:
        """Deliver to all channels at the same time, and return the answer when all are done, within the deadline.

        Raise OverloadedError if UNDER_WAY notifications are being sent already.
        """
        if self._under_way >= UNDER_WAY:
            raise OverloadedError(f"{self._under_way} notifications are under way already; this one was not sent")
        notification_id = uuid4()
        notification = _notification(notification_id, request)
        self._under_way += 1
        try:
            outcomes = await self._deliver_all(request.channels, notification)
        finally:
            self._under_way -= 1
        results = {name: result for name, (result, _stored) in outcomes.items()}
        stored = {name: stored for name, (_result, stored) in outcomes.items()}
        self.store.put(_stored(notification_id, notification, api_key, stored))
        _log_sent(notification, api_key, stored)
        timestamp = notification.at.replace(tzinfo=None).isoformat(timespec="microseconds")
        return SendAnswer(True, SentNotification(notification.id, timestamp, results))

    async def _deliver_all(
        self, channels: dict[str, ChannelSettings], notification: BrokerNotification
    ) -> dict[str, tuple[ChannelResult, StoredOutcome]]:
        if len(channels) == 1:
            # Most notifications have one channel; they need no further task.
            [(name, settings)] = channels.items()
            return {name: await self._deliver(name, settings, notification)}
        outcomes = await asyncio.gather(
            *(self._deliver(name, settings, notification) for name, settings in channels.items())
        )
        return dict(zip(channels, outcomes, strict=True))

    async def _deliver(
        self, channel_name: str, settings: ChannelSettings, notification: BrokerNotification
    ) -> tuple[ChannelResult, StoredOutcome]:
        if self._delivery is None:
            raise RuntimeError("the broker is not open")
        try:
            target = make_target(channel_name, settings, notification, self._endpoints)
        except TargetError as error:
            return ChannelResult(False, error=str(error)), StoredOutcome(False, 0, str(error))
        outcome = await self._delivery.deliver(target)
        stored = StoredOutcome(outcome.error is None, outcome.attempts, outcome.error, target.destination)
        if outcome.error is not None:
            return ChannelResult(False, error=outcome.error), stored
        return ChannelResult(True, ChannelResponse("sent", outcome.response)), stored


def _notification(notification_id: UUID, request: SendRequest) -> BrokerNotification:
    return BrokerNotification(
        id=str(notification_id),
        title=request.title,
        message=request.message,
        level=request.level,
        at=now(),
        source=request.source,
        metadata=request.metadata,
    )


def _stored(
    notification_id: UUID, notification: BrokerNotification, api_key: ApiKey, channels: dict[str, StoredOutcome]
) -> StoredNotification:
    return StoredNotification(
        notification_id,
        notification.at,
        api_key.label,
        cast("BrokerLevel", notification.level.upper()),
        notification.title,
        notification.message,
        notification.source,
        notification.metadata,
        channels,
    )


def _log_sent(notification: BrokerNotification, api_key: ApiKey, channels: dict[str, StoredOutcome]) -> None:
    """Log one line for a notification: its outcome, without its text."""
    errors = {name: outcome.error for name, outcome in channels.items() if outcome.error is not None}
    if errors:
        log.warning(
            "notification_failed", id=notification.id, key=api_key.label, channels=list(channels), errors=errors
        )
    else:
        log.info("notification_sent", id=notification.id, key=api_key.label, channels=list(channels))
