"""Sensors, raw readings and trends over HTTP."""

from datetime import UTC, datetime
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
from app.paging import cut_page, parse_time_cursor, time_cursor
from app.parameters import PageCursor, check_text
from app.problems import problem_responses
from app.trends.parameters import parse_range
from app.trends.resolution import choose_resolution
from app.trends.sql import SQL

_PROBLEMS = problem_responses({404: "There is no such sensor or metric"})
_TIME = "RFC 3339 with a zone, or milliseconds since 1970"
From = Annotated[str | None, QueryParameter(name="from", description=f"{_TIME}; a day before `to` when left out")]
To = Annotated[str | None, QueryParameter(name="to", description=f"{_TIME}, excluded; now when left out")]
ReadingLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=10_000, description="Items a page")]


class Latest(msgspec.Struct, frozen=True):
    """The newest value of one metric."""

    value: float
    time: datetime
    unit: str | None


class SensorItem(msgspec.Struct, frozen=True):
    """A sensor and its latest values; `last_seen` is when its last new reading arrived, by the server's clock."""

    name: SensorName
    tags: Tags
    gateway: str | None
    last_seen: datetime | None
    status: Literal["online", "stale", "never seen"]
    latest: dict[MetricName, Latest]


class SensorPage(msgspec.Struct, frozen=True):
    """Sensors in order of name."""

    items: list[SensorItem]
    next: str | None


class ReadingItem(msgspec.Struct, frozen=True):
    """The values that one sensor measured at one time."""

    sensor: SensorName
    time: datetime
    values: dict[MetricName, float]


class ReadingPage(msgspec.Struct, frozen=True):
    """Readings in order of time."""

    items: list[ReadingItem]
    next: str | None


class Bucket(msgspec.Struct, frozen=True):
    """One bucket of a trend; `avg` is weighted by count, `first` and `last` are by event time."""

    time: datetime
    avg: float
    min: float
    max: float
    count: int
    first: float
    last: float


class Trend(msgspec.Struct, frozen=True):
    """Buckets in ascending order; buckets without readings are left out."""

    resolution: str
    buckets: list[Bucket]


@get("/api/v1/sensors", guards=[require("read")], responses=_PROBLEMS, tags=["Sensors"], summary="List sensors")
async def list_sensors(
    read_pool: NamedDependency[Pool], limit: ReadingLimit = 1_000, cursor: PageCursor = None
) -> SensorPage:
    """List sensors with their latest values, in order of name."""
    after = check_text("cursor", cursor or "")
    rows = await read_pool.fetch(SQL["list_sensors"], after, limit + 1, None)
    page, next_cursor = cut_page(rows, limit, lambda row: str(row["name"]))
    return SensorPage([_sensor(row, datetime.now(UTC)) for row in page], next_cursor)


@get(
    "/api/v1/sensors/{name:path}",
    guards=[require("read")],
    responses=_PROBLEMS,
    tags=["Sensors"],
    summary="Get one sensor",
)
async def get_sensor(
    request: Request[Any, Any, Any], read_pool: NamedDependency[Pool], name: FromPath[str]
) -> SensorItem:
    """Get a sensor with its latest values; a name may hold slashes."""
    # Not from `name`: Litestar removes leading, trailing and repeated slashes.
    wanted = check_text("sensor", unquote(request.scope["raw_path"].partition(b"/sensors/")[2]))
    rows = await read_pool.fetch(SQL["list_sensors"], "", 1, wanted)
    if not rows:
        raise NotFoundError(f"There is no sensor {wanted!r}; /api/v1/sensors lists them")
    return _sensor(rows[0], datetime.now(UTC))


@get(
    "/api/v1/readings",
    guards=[require("read")],
    responses=_PROBLEMS,
    tags=["Readings"],
    summary="List raw readings",
)
async def list_readings(
    read_pool: NamedDependency[Pool],
    sensor: Annotated[list[str] | None, QueryParameter(description="May be repeated; all when left out")] = None,
    metric: Annotated[list[str] | None, QueryParameter(description="May be repeated; all when left out")] = None,
    from_: From = None,
    to: To = None,
    limit: ReadingLimit = 1_000,
    cursor: PageCursor = None,
) -> ReadingPage:
    """List stored readings in order of time, page by page."""
    start, end = parse_range(from_, to, datetime.now(UTC))
    after, after_sensor = parse_time_cursor(cursor, (start, -1))
    for name in sensor or ():
        await _check_sensor(read_pool, name)
    for name in metric or ():
        check_text("metric", name)
    rows = await read_pool.fetch(SQL["list_readings"], sensor, metric, start, end, after, after_sensor, limit + 1)
    page, next_cursor = cut_page(rows, limit, lambda row: time_cursor(row["time_us"], row["sensor_id"]))
    return ReadingPage([ReadingItem(row["name"], from_us(row["time_us"]), row["values"]) for row in page], next_cursor)


@get("/api/v1/trends", guards=[require("read")], responses=_PROBLEMS, tags=["Trends"], summary="Get a trend")
async def get_trend(
    read_pool: NamedDependency[Pool],
    sensor: Annotated[str, QueryParameter(description="Name of the sensor")],
    metric: Annotated[str, QueryParameter(description="Name of a metric of the sensor")],
    from_: From = None,
    to: To = None,
    points: Annotated[int, QueryParameter(ge=1, le=10_000, description="Approximate maximum of buckets")] = 500,
) -> Trend:
    """Get one metric of one sensor over time, in buckets whose width depends on the range and `points`."""
    start, end = parse_range(from_, to, datetime.now(UTC))
    names = check_text("sensor", sensor), check_text("metric", metric)
    series_id = await read_pool.fetchval(SQL["find_trend_series"], *names)
    if series_id is None:
        await _check_sensor(read_pool, sensor)
        metrics = [row["metric"] for row in await read_pool.fetch(SQL["list_metrics"], sensor)]
        raise NotFoundError(f"Sensor {sensor!r} has no metric {metric!r}; it has {', '.join(metrics) or 'none'}")
    resolution = choose_resolution(end - start, points)
    rows = await read_pool.fetch(SQL[resolution.query], series_id, resolution.width, start, end)
    return Trend(resolution.name, [Bucket(**row) for row in rows])


async def _check_sensor(pool: Pool, name: SensorName) -> None:
    if await pool.fetchval(SQL["find_sensor"], check_text("sensor", name)) is None:
        raise NotFoundError(f"There is no sensor {name!r}; /api/v1/sensors lists them")


def _sensor(row: asyncpg.Record, now: datetime) -> SensorItem:
    latest = {
        metric: Latest(value["value"], from_us(value["time_us"]), value["unit"])
        for metric, value in (row["latest"] or {}).items()
    }
    last_seen: datetime | None = row["last_seen"]
    if last_seen is None:
        return SensorItem(row["name"], row["tags"], row["gateway"], None, "never seen", latest)
    status: Literal["online", "stale"] = "stale" if now - last_seen > row["stale_after"] else "online"
    return SensorItem(row["name"], row["tags"], row["gateway"], last_seen, status, latest)


handlers = [list_sensors, get_sensor, list_readings, get_trend]
