"""The Litestar guard that authenticates a request's API key and checks its scope."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

from app.auth import keys
from app.auth.audit import Reason
from app.auth.key_ring import KeyRing
from app.auth.keys import ApiKey
from app.errors import ForbiddenError, UnauthorizedError
from app.http.proxies import client_address

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], Awaitable[None]]


def require(*scopes: keys.Scope) -> Guard:
    """Return a guard that allows keys with one of `scopes`, and stores the key in `connection.state.api_key`.

    Without any scopes, it allows every valid key.
    What the page shows of readings and alerts needs `read` or `live`, because it follows the feed with the same key.
    """

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        ring: KeyRing = connection.app.state.key_ring
        # Not `connection.state` and `.headers`: Litestar makes an object for each, which takes as long as the check of
        # the key.
        scope = connection.scope
        scope["state"]["api_key"] = await admit(ring, scope, key_from_headers(first_headers(scope)), *scopes)

    return guard


async def admit(ring: KeyRing, connection: Scope, key: str | None, *scopes: keys.Scope) -> ApiKey:
    """Return the key of a connection, which must have one of the scopes, if any are given. A refused key is logged.

    Raise UnauthorizedError, or ForbiddenError.
    """
    try:
        api_key = await ring.authenticate(key)
    except UnauthorizedError:
        revoked = ring.find_revoked(key) if key else None
        reason: Reason = "missing" if not key else "revoked" if revoked else "unknown"
        ring.refusals.count(client_address(connection), reason, revoked)
        raise
    if scopes and api_key.scopes.isdisjoint(scopes):
        ring.refusals.count(client_address(connection), "scope", api_key.label)
        raise ForbiddenError(
            f"The key {api_key.label!r} has the scopes {', '.join(sorted(api_key.scopes)) or 'none'}; "
            f"this needs {' or '.join(scopes)}"
        )
    return api_key


def first_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of a connection by name in lower case; of several with one name, the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed([*scope["headers"]])}


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the key from X-API-Key, else from Authorization, without `Bearer` or `Token`; None if there is none."""
    key = headers.get("x-api-key") or headers.get("authorization", "")
    scheme, _, rest = key.partition(" ")
    return (rest.strip() if scheme.lower() in ("bearer", "token") and rest else key.strip()) or None
