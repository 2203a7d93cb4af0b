"""ASGI middleware around the whole application: gives each request an id and measures its duration."""

import random
import re
from time import perf_counter

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Histogram

from app.metrics import Metrics

_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
log = structlog.get_logger()


class RequestLog:
    """Binds `request_id` to the log (a valid X-Request-ID of the client, else a random id); measures each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._histograms: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection to the application; measure an HTTP request when its answer starts."""
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                self._measure(scope, message["status"], perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            structlog.contextvars.clear_contextvars()

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, not the path: otherwise each sensor, and each address that a scanner tries, would be a
        # label value of its own.
        path = scope.get("path_template") or "unknown"
        method = str(scope.get("method", ""))
        labels = (method, path, status)
        histogram = self._histograms.get(labels)
        if histogram is None:  # each look-up among the metrics takes a lock
            histogram = self._histograms[labels] = self._metrics.request_seconds.labels(*labels)
        histogram.observe(seconds)
        log.debug("request_answered", method=method, path=path, status=status, seconds=round(seconds, 6))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return value.decode("latin-1")
    return f"{random.getrandbits(64):016x}"
