"""The type of a request, as handlers of routes receive it."""

from typing import Any

from litestar import Request

#: A request whose user, session and state have no type of their own.
AnyRequest = Request[Any, Any, Any]
