"""Raw readings and trends over HTTP."""

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Annotated
from urllib.parse import urlencode

import asyncpg
import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.auth.guard import require
from app.clock import from_us, now, rfc3339, to_us
from app.csv_text import spreadsheet_text
from app.db.pool import Pool
from app.errors import InvalidRequestError
from app.http.requests import AnyRequest
from app.model import MetricName, SensorName
from app.paging import cut_page, parse_time_cursor, time_cursor
from app.parameters import PageCursor, read_name
from app.problems import problem_responses
from app.trends.csv_answer import OperationWithCsv, answer_csv, wants_csv
from app.trends.local_days import LocalDays, find_local_days
from app.trends.page_end import Range, find_page_end
from app.trends.parameters import parse_range, parse_zone
from app.trends.resolution import Resolution, choose_resolution
from app.trends.series import StoredSeries, find_sensor_ids, find_series
from app.trends.sql import SQL

#: The largest number of series times `points` in one answer, which is about 8 MB of JSON.
BUCKETS_LIMIT = 50_000
#: Items of a page when `limit` is left out. A file that ends early is noticed less than a page with `next`.
JSON_PAGE, CSV_PAGE = 1_000, 10_000
_PROBLEMS = problem_responses({404: "There is no such sensor or metric"})
_TIME = "RFC 3339 with a zone, milliseconds since 1970, `now`, or a time before now such as `-24h`"
From = Annotated[str | None, QueryParameter(name="from", description=f"{_TIME}; a day before `to` when left out")]
To = Annotated[str | None, QueryParameter(name="to", description=f"{_TIME}, excluded; now when left out")]
ReadingLimit = Annotated[
    int | None,
    QueryParameter(
        name="limit",
        ge=1,
        le=10_000,
        description=f"Items a page; {JSON_PAGE:,} when left out, and {CSV_PAGE:,} of CSV",
    ),
]
Format = Annotated[
    str | None,
    QueryParameter(name="format", description="`json` or `csv`; by the header Accept when left out, else JSON"),
]
Zone = Annotated[
    str | None,
    QueryParameter(
        description="A zone such as Europe/Berlin: buckets of 1 and 7 days begin at local midnight; UTC when left out"
    ),
]
Points = Annotated[int, QueryParameter(ge=1, le=10_000, description="Approximate maximum of buckets of each series")]


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


class SeriesTrend(msgspec.Struct, frozen=True):
    """The trend of one of several series."""

    sensor: SensorName
    metric: MetricName
    unit: str | None
    buckets: list[Bucket]


class Trends(msgspec.Struct, frozen=True):
    """The trends of several series, in buckets of the same width."""

    resolution: str
    series: list[SeriesTrend]


@get(
    "/api/v1/readings",
    guards=[require("read", "live")],
    operation_class=OperationWithCsv,
    responses=_PROBLEMS,
    tags=["Readings"],
    summary="List raw readings",
)
async def list_readings(
    request: AnyRequest,
    read_pool: NamedDependency[Pool],
    sensor: Annotated[list[str] | None, QueryParameter(description="May be repeated; all when left out")] = None,
    metric: Annotated[list[str] | None, QueryParameter(description="May be repeated; all when left out")] = None,
    from_: From = None,
    to: To = None,
    limit: ReadingLimit = None,
    cursor: PageCursor = None,
    format_: Format = None,
) -> Response[ReadingPage]:
    """List stored readings in order of time, page by page.

    CSV has a row for each value, with the columns sensor, time, metric and value. Where there are more, the header
    `Link` has the address of the next page, with `rel="next"`. A name that a spreadsheet would take for a formula
    begins with an apostrophe.
    """
    as_csv = wants_csv(request, format_)
    start, end = parse_range(from_, to, now())
    after, after_sensor = parse_time_cursor(cursor, (start, -1))
    sensor_ids = await find_sensor_ids(read_pool, sensor) if sensor else None
    metrics = [read_name("metric", name) for name in metric] if metric else None
    limit = limit or (CSV_PAGE if as_csv else JSON_PAGE)
    rows = await _read_page(read_pool, Range(sensor_ids, metrics, start, end, after, after_sensor), limit + 1)
    page, next_cursor = cut_page(rows, limit, lambda row: time_cursor(row["time_us"], row["sensor_id"]))
    items = [ReadingItem(row["name"], from_us(row["time_us"]), row["values"]) for row in page]
    if not as_csv:
        return Response(ReadingPage(items, next_cursor))
    headers = {} if next_cursor is None else {"Link": _link(request, start, end, next_cursor)}
    return answer_csv("readings", start, end, _reading_rows(items), headers)


@get(
    "/api/v1/trends",
    guards=[require("read", "live")],
    operation_class=OperationWithCsv,
    responses=_PROBLEMS,
    tags=["Trends"],
    summary="Get trends",
)
async def get_trend(
    request: AnyRequest,
    read_pool: NamedDependency[Pool],
    sensor: Annotated[list[str], QueryParameter(description="Name of a sensor; may be repeated")],
    metric: Annotated[
        list[str] | None, QueryParameter(description="Name of a metric; may be repeated; all when left out")
    ] = None,
    from_: From = None,
    to: To = None,
    points: Points = 500,
    tz: Zone = None,
    format_: Format = None,
) -> Response[Trend | Trends]:
    """Get metrics of sensors over time, in buckets whose width depends on the range and `points`.

    One sensor and one metric are answered with `buckets`. When one of them is repeated, or `metric` is left out, the
    answer has `series`: every combination that exists. CSV has a row for each bucket, and the same columns in both
    cases; a name that a spreadsheet would take for a formula begins with an apostrophe.
    """
    as_csv = wants_csv(request, format_)
    asked_at = now()
    start, end = parse_range(from_, to, asked_at)
    zone = None if tz is None else parse_zone(tz)
    series = await find_series(read_pool, sensor, metric)
    _check_size(len(series), points)
    resolution = choose_resolution(end - start, points)
    local = find_local_days(zone, resolution, start, end, asked_at) if zone is not None else None
    trends = _as_trends(resolution, series, await _read_buckets(read_pool, series, resolution, local, start, end))
    if as_csv:
        return answer_csv("trends", start, end, _trend_rows(trends), {})
    is_one = len(sensor) == 1 and metric is not None and len(metric) == 1
    return Response(Trend(trends.resolution, trends.series[0].buckets) if is_one else trends)


async def _read_page(pool: Pool, wanted: Range, limit: int) -> list[asyncpg.Record]:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        end = await find_page_end(connection, wanted, limit)
        return await connection.fetch(SQL["list_readings"], *wanted._replace(end=end), limit)


async def _read_buckets(
    pool: Pool,
    series: list[StoredSeries],
    resolution: Resolution,
    local: LocalDays | None,
    start: datetime,
    end: datetime,
) -> list[asyncpg.Record]:
    """Return the buckets of some series, in order of series and time; by local days if `local` is given."""
    ids = [each.id for each in series]
    if local is None:
        return await pool.fetch(SQL[resolution.query], ids, resolution.width, start, end)
    local.check(len(series))
    return await pool.fetch(SQL[local.query], ids, local.edges, local.edges[0], local.end)


def _check_size(series: int, points: int) -> None:
    if series > 1 and series * points > BUCKETS_LIMIT:
        raise InvalidRequestError(
            f"points is {points}; {series} series of as many buckets are more than {BUCKETS_LIMIT:,} buckets. Ask for "
            f"fewer series, or at most points={max(BUCKETS_LIMIT // series, 1)}"
        )


def _as_trends(resolution: Resolution, series: list[StoredSeries], rows: list[asyncpg.Record]) -> Trends:
    """Return the series, each with its buckets; `rows` are in order of series and time."""
    buckets = {
        series_id: [Bucket(*values) for _, *values in of_series]
        for series_id, of_series in groupby(rows, key=itemgetter(0))
    }
    return Trends(
        resolution.name,
        [SeriesTrend(each.sensor, each.metric, each.unit, buckets.get(each.id, [])) for each in series],
    )


def _reading_rows(items: list[ReadingItem]) -> Iterator[tuple[object, ...]]:
    yield "sensor", "time", "metric", "value"
    for item in items:
        sensor, time = spreadsheet_text(item.sensor), rfc3339(to_us(item.time))
        for metric in sorted(item.values):
            yield sensor, time, spreadsheet_text(metric), float(item.values[metric])


def _trend_rows(trends: Trends) -> Iterator[tuple[object, ...]]:
    yield "sensor", "metric", "unit", "time", *Bucket.__struct_fields__[1:]
    for each in trends.series:
        names = tuple(map(spreadsheet_text, (each.sensor, each.metric, each.unit or "")))
        for bucket in each.buckets:
            time, *values = msgspec.structs.astuple(bucket)
            yield *names, rfc3339(to_us(time)), *values


def _link(request: AnyRequest, start: datetime, end: datetime, cursor: str) -> str:
    """Return a Link to the next page: the same request over the same range, also where that was relative to now."""
    changed = {"from": start, "to": end, "cursor": cursor, "format": "csv"}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
    absolute = [(name, value.isoformat() if isinstance(value, datetime) else value) for name, value in changed.items()]
    return f'<?{urlencode([*kept, *absolute])}>; rel="next"'


handlers = [list_readings, get_trend]
