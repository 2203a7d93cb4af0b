"""Structured logs: readable lines on a terminal, otherwise one JSON object a line."""

import logging
import re
import sys
from datetime import datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from app.settings import LogFormat, LogLevel

#: Parameters that carry a key or a password (`api-key`, `p`, `token`, `password`), the token in a Telegram address, a
#: Slack address, the password in the address of a database, the keys that Tidegauge makes, and the key in the address
#: of telemetry.
_SECRETS = re.compile(
    r"(?i)((?:api[-_]?key|token|password|[?&]p)=)[^&\s\"']+|(/bot)\d+:[\w-]+|(https://hooks\.slack\.com/)[^\s\"']+"
    r"|(postgres(?:ql)?://[^:@/\s]*:)\S+(?=@)|(tg_)[\w-]{43}"
    r"|(/api/v1/)[^/\s\"']+(?=/telemetry)"
)


def configure(level: LogLevel = "info", form: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send the logs of Tidegauge and of all libraries through one pipeline to `stream`, by default standard error."""
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*shared, *_render(console)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_libraries(shared, console, threshold, stream)


def redact(text: str) -> str:
    """Replace keys, tokens and passwords in an address or a message with `[redacted]`."""
    return _SECRETS.sub(lambda match: f"{match[match.lastindex or 0]}[redacted]", text)


def _render(console: bool) -> list[Processor]:
    shared: list[Processor] = [structlog.processors.format_exc_info, _redact_all]
    if console:
        # The default formatter would show local variables, among them settings, keys and passwords.
        plain = structlog.dev.plain_traceback
        return [*shared, structlog.dev.ConsoleRenderer(timestamp_key="time", exception_formatter=plain)]
    return [*shared, _event_first, _to_json]


def _event_first(_logger: object, _method: str, event: EventDict) -> EventDict:
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return {**first, **event}


def _to_json(_logger: object, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event).decode()


def _route_libraries(shared: list[Processor], console: bool, threshold: int, stream: TextIO) -> None:
    """Format the records of the standard library's loggers (uvicorn, APScheduler, asyncio) in the same way."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render(console)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("uvicorn").setLevel(max(threshold, logging.WARNING))
    # APScheduler warns of each run that it skips because the run before still works. A slow database causes many.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def _redact_all(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    """Return a value without secrets, also inside lists and mappings; of other objects, their text."""
    if isinstance(value, dict):
        return {_redacted(key): _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | datetime):
        return value
    return redact(str(value))
