"""Sensors over HTTP: state, latest values, and what operators change of a sensor."""

from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
import structlog
from litestar import Request, delete, get, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromPath, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from app.auth.audit import actor
from app.auth.guard import require
from app.db.pool import Pool
from app.paging import cut_page
from app.parameters import PageCursor, check_text
from app.problems import problem_responses
from app.sensors.changes import SensorChange, change_sensor, delete_sensor, list_fields
from app.sensors.listing import SensorItem, fetch_sensor, fetch_sensors

_PROBLEMS = problem_responses({404: "There is no such sensor"})
SensorLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=10_000, description="Items a page")]

log = structlog.get_logger()
_EXAMPLE = Example(
    summary="A cold room that reports every minute",
    value={
        "display_name": "Cold room 1",
        "units": {"temperature": "°C"},
        "expected_interval": 60,
        "tags": {"site": "harbour"},
        "notes": "Behind the second door",
    },
)


class SensorPage(msgspec.Struct, frozen=True):
    """Sensors in order of name."""

    items: list[SensorItem]
    next: str | None


@get("/api/v1/sensors", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Sensors"], summary="List sensors")
async def list_sensors(
    read_pool: NamedDependency[Pool],
    retired: Annotated[bool, QueryParameter(description="Also list retired sensors")] = False,
    limit: SensorLimit = 1_000,
    cursor: PageCursor = None,
) -> SensorPage:
    """List sensors with their state and latest values, in order of name."""
    items = await fetch_sensors(read_pool, check_text("cursor", cursor or ""), limit + 1, retired=retired)
    page, next_cursor = cut_page(items, limit, lambda item: item.name)
    return SensorPage(list(page), next_cursor)


@get(
    "/api/v1/sensors/{name:path}",
    guards=[require("read", "live")],
    responses=_PROBLEMS,
    tags=["Sensors"],
    summary="Get one sensor",
)
async def get_sensor(
    request: Request[Any, Any, Any], read_pool: NamedDependency[Pool], name: FromPath[str]
) -> SensorItem:
    """Get a sensor with its state and latest values; a name may hold slashes."""
    return await fetch_sensor(read_pool, check_text("sensor", _name_in_path(request)))


@put(
    "/api/v1/sensors/{name:path}",
    guards=[require("admin")],
    responses=problem_responses({404: "There is no such sensor", 409: "The new name is taken"}),
    tags=["Sensors"],
    summary="Change a sensor",
)
async def put_sensor(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    name: FromPath[str],
    data: Annotated[SensorChange, BodyKwarg(examples=[_EXAMPLE])],
) -> SensorItem:
    """Describe, rename or retire a sensor. Uploads do not change what is set here. Fields left out stay as they are."""
    before = check_text("sensor", _name_in_path(request))
    name = await change_sensor(pool, before, data)
    log.info("sensor_changed", sensor=before, name=name, fields=list_fields(data), **actor(request))
    return await fetch_sensor(pool, name)


@delete(
    "/api/v1/sensors/{name:path}",
    guards=[require("admin")],
    status_code=HTTP_204_NO_CONTENT,
    responses=_PROBLEMS,
    tags=["Sensors"],
    summary="Delete a sensor with its readings",
)
async def remove_sensor(request: Request[Any, Any, Any], pool: NamedDependency[Pool], name: FromPath[str]) -> None:
    """Delete a sensor with its readings and alerts, for good.

    It is hidden at once, and its readings are removed in the background. An upload under its name makes a new sensor.
    """
    name = check_text("sensor", _name_in_path(request))
    await delete_sensor(pool, name)
    log.info("sensor_deleted", sensor=name, **actor(request))


def _name_in_path(request: Request[Any, Any, Any]) -> str:
    """Read the name from the raw path: Litestar drops slashes that begin or end it or follow one another."""
    return unquote(request.scope["raw_path"].partition(b"/sensors/")[2])


handlers = [list_sensors, get_sensor, put_sensor, remove_sensor]
