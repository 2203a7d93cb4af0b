"""The HTTP route by which a client learns what its own key may do."""

from typing import Any

import msgspec
from litestar import Request, get

from app.auth.guard import require
from app.auth.keys import SCOPES, ApiKey, Limits, Scope
from app.problems import problem_responses


class OwnKey(msgspec.Struct, frozen=True):
    """The key of the request, without the key itself; a limit that is null is the server's default."""

    label: str
    scopes: list[Scope]
    limits: Limits


@get(
    "/api/v1/key",
    guards=[require()],
    responses=problem_responses(),
    tags=["Keys"],
    summary="Show what the key of the request may do",
)
async def show_own_key(request: Request[Any, Any, Any]) -> OwnKey:
    """Show the label, the scopes and the limits of the key that the request carries. Any valid key may ask."""
    api_key: ApiKey = request.state.api_key
    return OwnKey(api_key.label, [scope for scope in SCOPES if scope in api_key.scopes], api_key.limits)


handlers = [show_own_key]
