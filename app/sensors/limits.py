"""The limits of the rules in force, as lines for charts."""

from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.auth.guard import require
from app.db.pool import Pool
from app.model import MetricName
from app.parameters import check_text
from app.problems import problem_responses
from app.sensors.sql import SQL


class LimitItem(msgspec.Struct, frozen=True):
    """One limit of a rule on a metric: the level holds above or below the number, or in a range that ends at it."""

    metric: MetricName
    rule: str
    level: str
    side: Literal["above", "below", "at"]
    number: float


class LimitPage(msgspec.Struct, frozen=True):
    """All limits of one sensor, in order of metric."""

    items: list[LimitItem]
    next: None = None


@get(
    "/api/v1/limits",
    guards=[require("read", "live")],
    responses=problem_responses(),
    tags=["Sensors"],
    summary="List limits",
)
async def list_limits(
    read_pool: NamedDependency[Pool], sensor: Annotated[str, QueryParameter(description="Its name")]
) -> LimitPage:
    """List the limits that rules in force set for a sensor's values; those of rates and differences are left out."""
    rows = await read_pool.fetch(SQL["list_limits"], check_text("sensor", sensor))
    return LimitPage([LimitItem(**row) for row in rows])


handlers = [list_limits]
