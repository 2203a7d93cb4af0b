"""The HTTP route by which a client learns what its own key may do."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, get

from app.auth.guard import require
from app.auth.keys import SCOPES, ApiKey, Binding, Limits, Scope
from app.problems import problem_responses


class OwnKey(msgspec.Struct, frozen=True):
    """The key of the request, without the key itself; a limit that is null is the server's default."""

    label: str
    scopes: list[Scope]
    limits: Limits
    #: What a bound key may write to; null for a key that may write to any sensor.
    binding: Binding | None
    expires_at: datetime | None


@get(
    "/api/v1/key",
    guards=[require()],
    responses=problem_responses(),
    tags=["Keys"],
    summary="Show what the key of the request may do",
)
async def show_own_key(request: Request[Any, Any, Any]) -> OwnKey:
    """Show what the key that the request carries may do, and until when. Any valid key may ask."""
    api_key: ApiKey = request.state.api_key
    scopes = [scope for scope in SCOPES if scope in api_key.scopes]
    return OwnKey(api_key.label, scopes, api_key.limits, api_key.binding, api_key.expires_at)


handlers = [show_own_key]
