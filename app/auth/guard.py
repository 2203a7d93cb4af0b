"""The Litestar guard that authenticates a request's API key and checks its scope."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

from app.auth import keys
from app.auth.keys import ApiKey, KeyRing
from app.errors import ForbiddenError

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def require(*scopes: keys.Scope) -> Guard:
    """Return a guard that allows keys with one of `scopes`, and stores the key in `connection.state.api_key`.

    What the page shows of readings and alerts needs `read` or `live`, because it follows the feed with the same key.
    """

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        await authenticate(connection, handler)
        check_scope(connection.app.state.key_ring, connection.scope["state"]["api_key"], *scopes)

    return guard


async def authenticate(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Allow any valid key, as a guard, and store it in `connection.state.api_key`."""
    ring: KeyRing = connection.app.state.key_ring
    # Not `connection.state` and `.headers`: Litestar makes an object for each, which takes as long as to check the key.
    connection.scope["state"]["api_key"] = await ring.authenticate(key_from_headers(first_headers(connection.scope)))


def check_scope(ring: KeyRing, api_key: ApiKey, *scopes: keys.Scope) -> None:
    """Raise ForbiddenError if the key has none of the scopes."""
    if api_key.scopes.isdisjoint(scopes):
        ring.on_refused("scope")
        raise ForbiddenError(
            f"The key {api_key.label!r} has the scopes {', '.join(sorted(api_key.scopes)) or 'none'}; "
            f"this needs {' or '.join(scopes)}"
        )


def first_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of a connection by name in lower case; of several with one name, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed([*scope["headers"]])}


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the key from X-API-Key, else from Authorization, without `Bearer` or `Token`; None if there is none."""
    key = headers.get("x-api-key") or headers.get("authorization", "")
    scheme, _, rest = key.partition(" ")
    return (rest.strip() if scheme.lower() in ("bearer", "token") and rest else key.strip()) or None
