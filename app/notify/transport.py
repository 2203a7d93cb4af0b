"""Transport: one POST with limits, and errors without secrets that say what the attempt proved."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import msgspec

from app.clock import now

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 10.0
ANSWER_LIMIT_BYTES = 64 * 1024
#: A longer Retry-After is read as this. The dispatcher and the broker cut it further, to what they wait at most.
RETRY_AFTER_LIMIT_S = 86_400.0

#: Statuses by which a server says that it did not process the request but may process it later: 408, 429 and 503.
_REFUSED_FOR_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Endpoints(msgspec.Struct, frozen=True):
    """The addresses of the services; private relays and tests set others than the defaults."""

    slack_webhook_prefix: str = "https://hooks.slack.com/"
    telegram_api_base: str = "https://api.telegram.org"


class Redacted(msgspec.Struct, frozen=True):
    """A struct whose repr hides its values, because any may hold a secret and tracebacks can show local variables."""

    def __repr__(self) -> str:
        return f"<{type(self).__module__.rpartition('.')[2]}.{type(self).__qualname__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class ChannelConfig(Redacted, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one channel."""

    #: The IANA name of the time zone of times in its messages; None: that of the rule, else the server's.
    timezone: str | None = None

    def moved(self, moved_to: int) -> Self:
        """Return the settings for a destination that the service has moved; `moved_to` is what `send` reported."""
        return self


class Post(Redacted, frozen=True):
    """One request: its address, its JSON body, and headers in addition to the content type."""

    url: str
    body: bytes
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Delivered(msgspec.Struct, frozen=True):
    """The result of a send whose message the service has accepted."""

    #: The id that a later message can reply to, where the service supports replies.
    message_ref: str | None = None
    #: The service's answer, decoded.
    response: Any = None
    #: The chat's new id, when the old one is no longer in use.
    moved_to: int | None = None


class DeliveryError(Exception):
    """A message was not accepted, as far as we know; `reason` holds no secret and may be shown and logged."""

    def __init__(self, reason: str, retry_after_s: float | None = None, moved_to: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        #: The wait that the service asked for; None if it asked for none.
        self.retry_after_s = retry_after_s
        #: The chat's new id, when the old one is no longer in use.
        self.moved_to = moved_to


class TransientError(DeliveryError):
    """Nothing arrived; the same message can be sent again later."""


class UncertainError(DeliveryError):
    """No answer says whether the message arrived; if it did, a resend is a duplicate."""


class UnknownAnswerError(UncertainError):
    """A success answer that is not the service's own: a relay sent it and has probably accepted the message."""


class PermanentError(DeliveryError):
    """Nothing arrived, and sending the same message again would fail too.

    `channel_broken`: any other message would fail as well (a revoked token, an archived channel).
    """

    def __init__(self, reason: str, *, channel_broken: bool, moved_to: int | None = None) -> None:
        super().__init__(reason, moved_to=moved_to)
        self.channel_broken = channel_broken


class Answer(Redacted, frozen=True):
    """A server's answer. It may quote the request; the body is cut at ANSWER_LIMIT_BYTES."""

    status: int
    body: bytes
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Return whether the status is 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def open_session(
    connect_timeout_s: float = CONNECT_TIMEOUT_S, total_timeout_s: float = TOTAL_TIMEOUT_S, connections: int = 100
) -> aiohttp.ClientSession:
    """Open the HTTP session that all channels share, with a time limit for each call and a limit of connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=total_timeout_s, connect=connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        # HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
        trust_env=True,
        # Answers are requested uncompressed: a small one could become larger than the limit when decompressed.
        auto_decompress=False,
        headers={"User-Agent": "Tidegauge", "Accept-Encoding": "identity"},
    )


async def send_post(session: aiohttp.ClientSession, post: Post) -> Answer:
    """Post JSON once, without following redirects, and return the answer.

    Raise TransientError if the connection failed, UncertainError if it broke after the request was sent, and
    PermanentError if the URL is not valid.
    """
    outcome = await _exchange(session, post)
    if isinstance(outcome, DeliveryError):
        # Raised outside the handler, because aiohttp's exception holds the URL and must not become the context.
        raise outcome
    return outcome


def refusal(
    answer: Answer, reason: str, *, channel_broken: bool = False, retry_after_s: float | None = None
) -> DeliveryError:
    """Return the error for an answer that is not the service's success, chosen by what its status proves.

    A 5xx other than 503 proves nothing: the service may have accepted the message before the error.
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
    """Return a name for a destination from which its secrets cannot be derived."""
    digest = hashlib.sha256("\0".join(secrets).encode()).hexdigest()
    return f"{kind}:{digest[:16]}"


async def _exchange(session: aiohttp.ClientSession, post: Post) -> Answer | DeliveryError:
    headers = {"Content-Type": "application/json", **post.headers}
    try:
        async with session.post(post.url, data=post.body, headers=headers, allow_redirects=False) as response:
            retry_after_s = _parse_retry_after(response.headers)
            return Answer(response.status, await _read_bounded(response), retry_after_s)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError):
        # UnicodeError: a host name that cannot be encoded, as with two dots in a row.
        return PermanentError("the URL is not valid", channel_broken=True)
    except aiohttp.ClientHttpProxyError as error:
        return TransientError(f"the proxy answered {error.status} instead of connecting")
    except aiohttp.ClientProxyConnectionError as error:
        return TransientError(f"proxy: {_name_connect_failure(error)}")
    except aiohttp.ConnectionTimeoutError:
        return TransientError("no connection could be opened in time")
    except aiohttp.ClientConnectorError as error:
        return TransientError(_name_connect_failure(error))
    except TimeoutError:
        return UncertainError("no answer came in time")
    except (aiohttp.ClientError, OSError):
        return UncertainError("the connection broke before an answer came")


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read at most ANSWER_LIMIT_BYTES; if the connection breaks, return what was read of an error's body."""
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


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After as seconds from now, from either form of RFC 9110: seconds, or a date by the service's clock.

    The header Date has the time of that clock; the clock of this machine may differ.
    """
    value = headers.get("Retry-After")
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), RETRY_AFTER_LIMIT_S)
    moment = _parse_date(value)
    if moment is None:
        return None
    delay_s = (moment - (_parse_date(headers.get("Date", "")) or now())).total_seconds()
    return min(max(delay_s, 0.0), RETRY_AFTER_LIMIT_S)


def _parse_date(value: str) -> datetime | None:
    """Return the date in a header of HTTP, or None if the text is not a date."""
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _name_connect_failure(error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the host name could not be resolved"
        case aiohttp.ClientConnectorSSLError():
            return "no TLS connection could be opened"
        case _ if isinstance(error.os_error, ConnectionRefusedError):
            return "the connection was refused"
        case _:
            return "no connection could be opened"
