"""Sensors and gateways over HTTP: state, latest values, counts."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from app.auth.guard import require
from app.clock import from_us
from app.db.pool import Pool
from app.errors import NotFoundError
from app.model import MetricName, SensorName, Tags
from app.paging import cut_page
from app.parameters import PageCursor, check_text
from app.problems import problem_responses
from app.sensors.sql import SQL

_PROBLEMS = problem_responses({404: "There is no such sensor"})
SensorLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=10_000, description="Items a page")]


class Latest(msgspec.Struct, frozen=True):
    """The newest value of one metric; `time` is the time of its reading."""

    value: float
    time: datetime
    unit: str | None


class SensorItem(msgspec.Struct, frozen=True):
    """A sensor, its state and its latest values.

    `state` is the first that holds: retired; alert, with the level of its worst open alert; silent, when every metric
    has received nothing new for longer than expected; late, when one has received nothing for half of that; ok.
    """

    name: SensorName
    display_name: str | None
    tags: Tags
    gateway: str | None
    #: Time of the newest reading.
    last_seen: datetime | None
    #: When a new reading last came in, by the server's clock.
    received_at: datetime | None
    state: Literal["retired", "alert", "silent", "late", "ok"]
    level: str | None
    #: Seconds between two readings, where it is known.
    expected_interval: float | None
    notes: str | None
    latest: dict[MetricName, Latest]


class SensorPage(msgspec.Struct, frozen=True):
    """Sensors in order of name."""

    items: list[SensorItem]
    next: str | None


class GatewayItem(msgspec.Struct, frozen=True):
    """A gateway as one API key uploads for it; one that does not name itself goes by the key's label.

    Offline once everything that came through it is silent.
    """

    name: str
    #: Label of the API key.
    key: str
    last_upload: datetime
    sensors: int
    uploads: int
    accepted: int
    duplicates: int
    rejected: int
    #: Receive time minus the newest reading's time, of the last upload: negative means a clock that runs ahead.
    skew_s: float | None
    #: Receive time minus the oldest reading's time, of the last upload.
    lateness_s: float | None
    state: Literal["ok", "offline"]


class GatewayPage(msgspec.Struct, frozen=True):
    """All gateways, offline ones first."""

    items: list[GatewayItem]
    next: None = None


@get("/api/v1/sensors", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Sensors"], summary="List sensors")
async def list_sensors(
    read_pool: NamedDependency[Pool],
    retired: Annotated[bool, QueryParameter(description="Also list retired sensors")] = False,
    limit: SensorLimit = 1_000,
    cursor: PageCursor = None,
) -> SensorPage:
    """List sensors with their state and latest values, in order of name."""
    after = check_text("cursor", cursor or "")
    rows = await read_pool.fetch(SQL["list_sensors"], after, limit + 1, None, retired)
    page, next_cursor = cut_page(rows, limit, lambda row: str(row["name"]))
    return SensorPage([_sensor(row) for row in page], next_cursor)


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
    wanted = check_text("sensor", _name_in_path(request))
    rows = await read_pool.fetch(SQL["list_sensors"], "", 1, wanted, True)
    if not rows:
        raise NotFoundError(f"There is no sensor {wanted!r}; /api/v1/sensors lists them")
    return _sensor(rows[0])


@get(
    "/api/v1/gateways",
    guards=[require("read", "live")],
    responses=problem_responses(),
    tags=["Sensors"],
    summary="List gateways",
)
async def list_gateways(read_pool: NamedDependency[Pool]) -> GatewayPage:
    """List gateways with their counts and whether they are offline."""
    return GatewayPage([GatewayItem(**row) for row in await read_pool.fetch(SQL["list_gateways"])])


def _name_in_path(request: Request[Any, Any, Any]) -> str:
    """Read the name from the raw path: Litestar drops slashes that begin or end it or follow one another."""
    return unquote(request.scope["raw_path"].partition(b"/sensors/")[2])


def _sensor(row: asyncpg.Record) -> SensorItem:
    latest = {
        metric: Latest(value["value"], from_us(value["time_us"]), value["unit"])
        for metric, value in (row["latest"] or {}).items()
    }
    interval: timedelta | None = row["expected_interval"]
    return SensorItem(
        row["name"],
        row["display_name"],
        row["tags"],
        row["gateway"],
        row["last_seen"],
        row["received_at"],
        row["state"],
        row["level"],
        None if interval is None else interval.total_seconds(),
        row["notes"],
        latest,
    )


handlers = [list_sensors, get_sensor, list_gateways]
