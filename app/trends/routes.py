"""Raw readings and trends over HTTP."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.auth.guard import require
from app.clock import from_us
from app.db.pool import Pool
from app.errors import NotFoundError
from app.model import MetricName, SensorName
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


handlers = [list_readings, get_trend]
