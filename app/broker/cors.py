"""Routes that pages of any origin may call: the broker's clients include browsers, and keys are no cookies."""

from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

#: What a preflight allows when it does not say what it wants.
_HEADERS: Final = b"authorization, content-type, slack-webhook-url, telegram-bot-token, telegram-chat-id, x-api-key"
_OPEN: Final = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after, x-request-id"),
]
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"access-control-request-headers"),
]


class OpenCors:
    """Answers preflights, and marks every answer, errors too, as readable by any page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a preflight is answered here."""

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_OPEN]
            await send(message)

        if scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS":
            headers = dict(scope["headers"])
            if b"access-control-request-method" in headers:
                await _answer_preflight(headers, send_open)
                return
        await self._app(scope, receive, send_open)


async def _answer_preflight(headers: dict[bytes, bytes], send: Send) -> None:
    """Allow whatever headers are asked for: `*` would leave out Authorization."""
    allowed = (b"access-control-allow-headers", headers.get(b"access-control-request-headers", _HEADERS))
    await send({"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT, allowed]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
