"""A route for uploads that takes little time for each request."""

from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from app.auth.guard import Connection
from app.auth.keys import ApiKey
from app.http.requests import AnyRequest
from app.ingest.uploads.receipt import Receipt

_encode = msgspec.json.Encoder().encode


class UploadRoute(HTTPRouteHandler):
    """A route with little overhead, because thousands of uploads of a single reading may arrive in a second."""

    async def authorize_connection(self, connection: Connection) -> None:
        """Run the guards, as Litestar does, but without a copy of this route for each; count the key's uploads.

        Raise what the guards raise, and RateLimitedError.
        """
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc]
        api_key: ApiKey = connection.scope["state"]["api_key"]
        if api_key.limits.uploads_per_minute:
            await connection.app.state.upload_rates.count(api_key)

    async def to_response(self, app: Litestar, data: Any, request: AnyRequest) -> ASGIApp:
        """Answer with a receipt or a dict as JSON; leave other data to Litestar."""
        if isinstance(data, Receipt | dict):
            return JsonAnswer(self.status_code, _encode(data))
        return await super().to_response(app, data, request)


class JsonAnswer:
    """An answer with fixed headers."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status = status
        self._body = body

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
