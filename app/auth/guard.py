"""The Litestar guard that authenticates a request's API key and checks its scope."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.auth.keys import ApiKey, KeyRing, Scope
from app.errors import ForbiddenError

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def require(scope: Scope) -> Guard:
    """Return a guard that allows keys with `scope`, and stores the key in `connection.state.api_key`."""

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        ring: KeyRing = connection.app.state.key_ring
        api_key = await ring.authenticate(key_from_headers(connection.headers))
        check_scope(api_key, scope)
        connection.state.api_key = api_key

    return guard


def check_scope(api_key: ApiKey, scope: Scope) -> None:
    """Raise ForbiddenError if the key lacks the scope. The scope `live` includes `read`, since the page needs both."""
    if scope not in api_key.scopes and not (scope == "read" and "live" in api_key.scopes):
        raise ForbiddenError(
            f"The key {api_key.label!r} has the scopes {', '.join(sorted(api_key.scopes)) or 'none'}; "
            f"this needs {scope}"
        )


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the key from X-API-Key, else from Authorization, without `Bearer` or `Token`; None if there is none."""
    key = headers.get("x-api-key") or headers.get("authorization", "")
    scheme, _, rest = key.partition(" ")
    return (rest.strip() if scheme.lower() in ("bearer", "token") and rest else key.strip()) or None
