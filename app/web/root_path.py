"""The path prefix under which a proxy offers the server."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Strips the prefix from requests that carry it, as a proxy passes them; those without it are served as well."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._prefix = root_path
        self._raw_prefix = root_path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on; redirect the bare prefix to the page, whose addresses are relative to its folder."""
        if scope["type"] == ScopeType.HTTP and scope["path"] == self._prefix:
            await _redirect(f"{self._prefix}/".encode(), send)
            return
        if scope["path"].startswith(f"{self._prefix}/"):
            scope["path"] = scope["path"][len(self._prefix) :]
            scope["raw_path"] = scope["raw_path"].removeprefix(self._raw_prefix)
        await self._app(scope, receive, send)


async def _redirect(location: bytes, send: Send) -> None:
    await send({"type": "http.response.start", "status": 308, "headers": [(b"location", location)]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
