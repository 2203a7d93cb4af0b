"""The OpenAPI description of `POST …/send`; Litestar cannot derive it, because the handler decodes the body itself."""

from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType

from app.broker.broker import SendAnswer
from app.broker.request import MESSAGE_CHARS, SOURCE_CHARS, TITLE_CHARS
from app.broker.store import BrokerLevel


class BrokerError(msgspec.Struct, frozen=True):
    """An error in the format of the replaced broker."""

    error: str


def _error(description: str, *messages: str) -> ResponseSpec:
    examples = [Example(summary=message, value={"error": message}) for message in messages]
    return ResponseSpec(BrokerError, generate_examples=False, description=description, examples=examples)


_SENT: Final[dict[str, Any]] = {
    "success": True,
    "data": {
        "notification_id": "123e4567-e89b-12d3-a456-426614174000",
        "timestamp": "2024-06-11T14:30:00.375397",
        "channels": {
            "slack": {"success": True, "response": {"status": "sent", "response": "ok"}},
            "telegram": {"success": False, "error": "Network error sending to Telegram: no answer came in time"},
        },
    },
}
SEND_RESPONSES: Final = {
    201: ResponseSpec(
        SendAnswer,
        generate_examples=False,
        description="Sent to every channel; `success` of each says whether the channel accepted it, and is final",
        examples=[Example(summary="One channel accepted it, one failed", value=_SENT)],
    ),
    400: _error(
        "The request cannot be used; nothing was sent",
        "Missing required field: title",
        "Invalid log level: X",
        "At least one notification channel must be configured with valid parameters",
    ),
    401: _error("Missing or unknown API key", "Invalid or missing API key"),
    403: _error("The key lacks the scope `notify`"),
    413: _error("The body is too large"),
    429: _error("The key sends faster than it may, see Retry-After"),
    500: _error("An error of the server", "Internal server error"),
    503: _error("Overload, or the key cannot be checked: nothing was sent, see Retry-After"),
}

_TEXT: Final = Schema(type=OpenAPIType.STRING)
_LIKE_HEADER: Final = "The same as the header, which takes precedence"
_SLACK: Final = Schema(
    type=OpenAPIType.OBJECT,
    properties={
        "webhook_url": Schema(type=OpenAPIType.STRING, description="Begins with https://hooks.slack.com/"),
        "channel": Schema(type=OpenAPIType.STRING, examples=["#alerts"]),
        "username": Schema(type=OpenAPIType.STRING, default="NotificationBot"),
    },
)
_TELEGRAM: Final = Schema(
    type=OpenAPIType.OBJECT,
    properties={
        "bot_token": _TEXT,
        "chat_id": Schema(one_of=[_TEXT, Schema(type=OpenAPIType.INTEGER)]),
        "parse_mode": Schema(
            type=OpenAPIType.STRING,
            default="Markdown",
            description="The markup of `message`: Markdown, MarkdownV2 or HTML; null for plain text",
        ),
    },
)
_PROPERTIES: Final[dict[str, Reference | Schema]] = {
    "title": Schema(type=OpenAPIType.STRING, max_length=TITLE_CHARS),
    "message": Schema(type=OpenAPIType.STRING, max_length=MESSAGE_CHARS),
    "level": Schema(
        type=OpenAPIType.STRING,
        enum=list(get_args(BrokerLevel)),
        description="In upper or lower case",
    ),
    "source": Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL], max_length=SOURCE_CHARS),
    "metadata": Schema(type=[OpenAPIType.OBJECT, OpenAPIType.NULL], description="Names with any JSON values"),
    "channels": Schema(type=OpenAPIType.OBJECT, properties={"slack": _SLACK, "telegram": _TELEGRAM}),
    "slack_webhook_url": Schema(type=OpenAPIType.STRING, description=_LIKE_HEADER),
    "telegram_bot_token": Schema(type=OpenAPIType.STRING, description=_LIKE_HEADER),
    "telegram_chat_id": Schema(one_of=[_TEXT, Schema(type=OpenAPIType.INTEGER)], description=_LIKE_HEADER),
}
_EXAMPLE: Final[dict[str, Any]] = {
    "title": "⚠️ CPU Alto no Servidor",
    "message": "O servidor prod-api-01 está com 85% de uso de CPU há mais de 10 minutos",
    "level": "WARNING",
    "source": "monitoring-system",
    "metadata": {"server": "prod-api-01", "cpu_usage": "85%"},
    "channels": {
        "slack": {
            "webhook_url": "https://hooks.slack.com/services/T123/B456/abc123",
            "channel": "#alerts",
            "username": "MonitoringBot",
        },
        "telegram": {"bot_token": "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ", "chat_id": "-1001234567890"},
    },
}


def _header(name: str) -> Parameter | Reference:
    return Parameter(
        name=name, param_in="header", required=False, schema=_TEXT, description="A value in `channels` takes precedence"
    )


@dataclass
class SendOperation(Operation):
    """`POST /api/v1/notifications/send`."""

    def __post_init__(self) -> None:
        """Set the body and the headers; Litestar passes None for both, so defaults of the fields would not be used."""
        schema = Schema(type=OpenAPIType.OBJECT, required=["title", "message", "level"], properties=_PROPERTIES)
        media_type = OpenAPIMediaType(schema=schema, examples={"both channels": Example(value=_EXAMPLE)})
        self.request_body = RequestBody(content={"application/json": media_type}, required=True)
        self.parameters = [_header(name) for name in ("Slack-Webhook-Url", "Telegram-Bot-Token", "Telegram-Chat-Id")]
