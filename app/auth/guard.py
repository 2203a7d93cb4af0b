"""The Litestar guard that authenticates a request's API key and checks its scope."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.auth.keys import ApiKey, KeyRing, Scope
from app.errors import ForbiddenError

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def require(*scopes: Scope) -> Guard:
    """Return a guard that allows keys with one of `scopes`, and stores the key in `connection.state.api_key`.

    What the page shows of readings and alerts needs `read` or `live`, because it follows the feed with the same key.
    """

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        await authenticate(connection, handler)
        check_scope(connection.state.api_key, *scopes)

    return guard


async def authenticate(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Allow any valid key, as a guard, and store it in `connection.state.api_key`."""
    ring: KeyRing = connection.app.state.key_ring
    connection.state.api_key = await ring.authenticate(key_from_headers(connection.headers))


def check_scope(api_key: ApiKey, *scopes: Scope) -> None:
    """Raise ForbiddenError if the key has none of the scopes."""
    if api_key.scopes.isdisjoint(scopes):
        raise ForbiddenError(
            f"The key {api_key.label!r} has the scopes {', '.join(sorted(api_key.scopes)) or 'none'}; "
            f"this needs {' or '.join(scopes)}"
        )


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the key from X-API-Key, else from Authorization, without `Bearer` or `Token`; None if there is none."""
    key = headers.get("x-api-key") or headers.get("authorization", "")
    scheme, _, rest = key.partition(" ")
    return (rest.strip() if scheme.lower() in ("bearer", "token") and rest else key.strip()) or None
