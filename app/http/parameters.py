"""Query parameters that no route has: a misspelt one would change an answer in silence, so it is refused."""

from collections.abc import Collection
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from litestar import Request
from litestar.handlers import HTTPRouteHandler

from app.errors import InvalidRequestError
from app.hints import find_meant, shown

#: A route whose clients send parameters that it ignores has their names under this key of its `opt`.
IGNORED: Final = "ignored_parameters"
#: What others call our parameters, in lower case without separators.
_OTHER_NAMES: Final = {
    **dict.fromkeys(("start", "since", "begin", "starttime", "startdate"), "from"),
    **dict.fromkeys(("end", "until", "endtime", "enddate"), "to"),
    **dict.fromkeys(("device", "deviceid", "sensorid", "sensorname"), "sensor"),
    **dict.fromkeys(("field", "measurement"), "metric"),
    **dict.fromkeys(("timezone", "zone"), "tz"),
    **dict.fromkeys(("pagesize", "count", "max"), "limit"),
    **dict.fromkeys(("try", "test", "validate"), "dry_run"),
}
#: Largest number of names that are checked in one request, and that are remembered in all; others are ignored.
_COMPARED: Final = 50
_REMEMBERED: Final = 1_000
log = structlog.get_logger()


class CheckParameters:
    """Is called before a route with parameters; raises InvalidRequestError for a misspelt one, and logs others once."""

    def __init__(self) -> None:
        self._accepted: dict[HTTPRouteHandler, Collection[str]] = {}
        self._logged: set[tuple[str, str]] = set()

    async def __call__(self, request: Request[Any, Any, Any]) -> None:
        """Check the query of a request."""
        query = request.scope["query_string"]
        if not query:
            return
        handler: Any = request.scope["route_handler"]
        accepted = self._accepted.get(handler)
        if accepted is None:
            accepted = self._accepted[handler] = _find_accepted(handler, request.scope["path_params"])
        given = dict.fromkeys(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        for name in [name for name in given if name not in accepted][:_COMPARED]:
            meant = find_meant(name, accepted, _OTHER_NAMES)
            if meant is not None and meant not in given:
                raise InvalidRequestError(f"There is no parameter {shown(name)}; did you mean {meant}?")
            self._log(request.scope.get("path_template") or "unknown", shown(name))

    def _log(self, path: str, name: str) -> None:
        if (path, name) not in self._logged and len(self._logged) < _REMEMBERED:
            self._logged.add((path, name))
            log.warning("unknown_parameter_ignored", path=path, parameter=name)


def _find_accepted(handler: HTTPRouteHandler, in_path: dict[str, Any]) -> Collection[str]:
    """Return the names of a route's query parameters, and of those that it ignores."""
    model = handler.create_kwargs_model(path_parameters=in_path)
    return {one.field_alias for one in model.expected_query_params} | set(handler.opt.get(IGNORED, ()))
