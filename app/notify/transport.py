"""How a message leaves: one bounded POST, and errors that say what it proved, without a secret in them."""

import hashlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import msgspec

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 10.0
ANSWER_LIMIT_BYTES = 64 * 1024
#: A longer Retry-After is taken as this: the deadline of a message is the outbox's to decide.
RETRY_AFTER_LIMIT_S = 86_400.0

#: Statuses by which a server says that it did nothing with the request, and may later.
_REFUSED_FOR_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Endpoints(msgspec.Struct, frozen=True):
    """Where the services are; other than the defaults for private relays and tests."""

    slack_webhook_prefix: str = "https://hooks.slack.com/"
    telegram_api_base: str = "https://api.telegram.org"


class Redacted(msgspec.Struct, frozen=True):
    """Shown without its values, any of which may hold a secret, wherever it is: tracebacks can show locals."""

    def __repr__(self) -> str:
        return f"<{type(self).__module__.rpartition('.')[2]}.{type(self).__qualname__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class ChannelConfig(Redacted, frozen=True, forbid_unknown_fields=True):
    """The settings of one channel."""

    def moved(self, moved_to: int) -> Self:
        """Return the settings after the service has moved the destination, which `send` reports as `moved_to`."""
        return self


class Post(Redacted, frozen=True):
    """One request: where to, the JSON, and headers beside its type."""

    url: str
    body: bytes
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Delivered(msgspec.Struct, frozen=True):
    """The service has taken the message."""

    #: What a later message can reply to, where the service has such a thing.
    message_ref: str | None = None
    #: The service's answer, decoded.
    response: Any = None
    #: The chat's new id, when the old one is no longer in use.
    moved_to: int | None = None


class DeliveryError(Exception):
    """A message was not taken, as far as we know; `reason` is fit to be shown and logged."""

    def __init__(self, reason: str, retry_after_s: float | None = None, moved_to: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        #: What the service asked for; None if it did not say.
        self.retry_after_s = retry_after_s
        #: The chat's new id, when the old one is no longer in use.
        self.moved_to = moved_to


class TransientError(DeliveryError):
    """Nothing arrived; the same message can be sent again later."""


class UncertainError(DeliveryError):
    """The request went out but no answer told its fate: it may have arrived, a resend may be the second one."""


class UnknownAnswerError(UncertainError):
    """An answer of success that is not the service's: a relay's that has likely taken the message."""


class PermanentError(DeliveryError):
    """Nothing arrived, and sending the same again cannot help.

    `channel_broken`: no other message would get through either (a revoked token, an archived channel).
    """

    def __init__(self, reason: str, *, channel_broken: bool, moved_to: int | None = None) -> None:
        super().__init__(reason, moved_to=moved_to)
        self.channel_broken = channel_broken


class Answer(Redacted, frozen=True):
    """What a server answered, in which it may quote the request; the body is cut at ANSWER_LIMIT_BYTES."""

    status: int
    body: bytes
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def open_session(
    connect_timeout_s: float = CONNECT_TIMEOUT_S, total_timeout_s: float = TOTAL_TIMEOUT_S, connections: int = 100
) -> aiohttp.ClientSession:
    """Open the session that all channels share; every call on it is bounded in time, all together in connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=total_timeout_s, connect=connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Answers are asked for as they are; unpacking would let a small one grow past its bound.
        auto_decompress=False,
        headers={"User-Agent": "Tidegauge", "Accept-Encoding": "identity"},
    )


async def send_post(session: aiohttp.ClientSession, post: Post) -> Answer:
    """Post JSON once, following no redirect.

    Raises TransientError when no connection came about, UncertainError when it broke later, PermanentError
    when the URL is none.
    """
    outcome = await _exchange(session, post)
    if isinstance(outcome, DeliveryError):
        # Raised outside the handler: aiohttp's exception holds the URL, and must not become the context.
        raise outcome
    return outcome


def refusal(
    answer: Answer, reason: str, *, channel_broken: bool = False, retry_after_s: float | None = None
) -> DeliveryError:
    """Sort an answer that is not a success by what it proves.

    A 5xx other than 503 proves nothing: the service, or what stands behind a gateway, may have acted first.
    """
    wait_s = answer.retry_after_s if retry_after_s is None else retry_after_s
    if answer.status in _REFUSED_FOR_NOW:
        return TransientError(reason, wait_s)
    if answer.ok:
        return UnknownAnswerError(reason, wait_s)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UncertainError(reason, wait_s)
    return PermanentError(reason, channel_broken=channel_broken)


def fingerprint(kind: str, *secrets: str) -> str:
    """Name a destination without giving away what leads to it."""
    digest = hashlib.sha256("\0".join(secrets).encode()).hexdigest()
    return f"{kind}:{digest[:16]}"


async def _exchange(session: aiohttp.ClientSession, post: Post) -> Answer | DeliveryError:
    headers = {"Content-Type": "application/json", **post.headers}
    try:
        async with session.post(post.url, data=post.body, headers=headers, allow_redirects=False) as response:
            retry_after_s = _parse_retry_after(response.headers.get("Retry-After"))
            return Answer(response.status, await _read_bounded(response), retry_after_s)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
        # UnicodeError: a host name that cannot be encoded, as with two dots in a row.
        return PermanentError("the URL is not valid", channel_broken=True)
    except aiohttp.ConnectionTimeoutError:
        return TransientError("no connection came about in time")
    except aiohttp.ClientConnectorError as error:
        return TransientError(_name_connect_failure(error))
    except TimeoutError:
        return UncertainError("no answer came in time")
    except (aiohttp.ClientError, OSError):
        return UncertainError("the connection broke before an answer came")


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read at most ANSWER_LIMIT_BYTES; what a refusal says beyond its status may be lost with the connection."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(8_192):
            body += chunk
            if len(body) >= ANSWER_LIMIT_BYTES:
                break
    except (aiohttp.ClientError, OSError):
        if response.status < HTTPStatus.BAD_REQUEST:
            raise
    return bytes(body[:ANSWER_LIMIT_BYTES])


def _parse_retry_after(value: str | None) -> float | None:
    """Read Retry-After in either form of RFC 9110, seconds or a date, as seconds from now."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), RETRY_AFTER_LIMIT_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delay_s = (moment - datetime.now(UTC)).total_seconds()
    return min(max(delay_s, 0.0), RETRY_AFTER_LIMIT_S)


def _name_connect_failure(error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host name could not be resolved"
        case aiohttp.ClientConnectorSSLError():
            return "no secure connection came about"
        case _ if isinstance(error.os_error, ConnectionRefusedError):
            return "the connection was refused"
        case _:
            return "no connection came about"
