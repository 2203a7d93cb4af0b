"""Uploads are dispatched without Litestar's router and injection, which take a quarter of an upload of one reading."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Receive, Scope, Send


class DirectRoutes:
    """Calls handlers of one type itself when the path has no parameters and the request no query.

    Every other request is passed to the router. `provided` are the objects that such handlers receive by parameter
    name. Their guards, and their handler of exceptions, work as in the router.
    """

    def __init__(self, app: Litestar, kind: type[HTTPRouteHandler], provided: Mapping[str, Any]) -> None:
        self._router: ASGIApp = app.asgi_handler
        self._routes = {
            (method, route.path): _DirectRoute(app, handler, route.path, provided)
            for route in app.routes
            if isinstance(route, HTTPRoute) and not route.path_parameters
            for handler in route.route_handlers
            if isinstance(handler, kind) and _can_be_called(handler, provided)
            for method in handler.http_methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == ScopeType.HTTP and not scope["query_string"]:
            route = self._routes.get((scope["method"], scope["path"]))
            if route is not None:
                await route(scope, receive, send)
                return
        await self._router(scope, receive, send)


class _DirectRoute:
    def __init__(self, app: Litestar, handler: HTTPRouteHandler, path: str, provided: Mapping[str, Any]) -> None:
        self._app = app
        self._handler = handler
        self._path = path
        self._provided = {name: provided[name] for name in signature(handler.fn).parameters if name in provided}
        self._respond = handler.resolve_exception_handlers()[Exception]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_params"] = {}
        scope["path_template"] = self._path
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        try:
            await self._handler.authorize_connection(request)
            data = await self._handler.fn(request=request, **self._provided)
            answer = await self._handler.to_response(app=self._app, data=data, request=request)
        except Exception as error:  # noqa: BLE001 -- each one is answered, as the router does
            answer = self._respond(request, error).to_asgi_response(app=None, request=request)
        await answer(scope, receive, send)


def _can_be_called(handler: HTTPRouteHandler, provided: Mapping[str, Any]) -> bool:
    """Return whether a handler needs nothing but the request and what is provided."""
    needed = {
        name for name, parameter in signature(handler.fn).parameters.items() if parameter.default is Parameter.empty
    }
    return needed <= {"request", *provided}
