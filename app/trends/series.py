"""The series that a request names: every combination of its sensors and metrics that exists."""

from collections.abc import Sequence

import asyncpg
import msgspec

from app.db.pool import Pool
from app.errors import NoSuchSensorError, NotFoundError
from app.model import MetricName, SensorName, SeriesId
from app.parameters import check_text, read_name
from app.trends.sql import SQL


class StoredSeries(msgspec.Struct, frozen=True):
    """One metric of one sensor."""

    id: SeriesId
    sensor: SensorName
    metric: MetricName
    unit: str | None


async def find_series(
    pool: Pool, sensors: Sequence[SensorName], metrics: Sequence[MetricName] | None
) -> list[StoredSeries]:
    """Return the series of these sensors and metrics, in the order in which they are given; of all metrics if None.

    Metrics that are left out are in the order of their names. Raises InvalidRequestError for a name that cannot be
    one, NotFoundError for a sensor that does not exist, and if none of the sensors has one of the metrics.
    """
    metrics = None if metrics is None else [read_name("metric", metric) for metric in metrics]
    rows = await _look_up(pool, sensors)
    found = {(row["asked"], row["metric"]): _as_series(row) for row in rows if row["series_id"] is not None}
    known = sorted({metric for _, metric in found})
    for metric in metrics or ():
        if metric not in known:
            raise NotFoundError(_describe_missing(sensors, metric, known))
    wanted = known if metrics is None else dict.fromkeys(metrics)
    pairs = [(sensor, metric) for sensor in dict.fromkeys(sensors) for metric in wanted]
    return list({found[pair].id: found[pair] for pair in pairs if pair in found}.values())


async def find_sensor_ids(pool: Pool, sensors: Sequence[SensorName]) -> list[int]:
    """Return the ids of these sensors; raise InvalidRequestError and NotFoundError as `find_series` does."""
    return sorted({row["sensor_id"] for row in await _look_up(pool, sensors)})


async def _look_up(pool: Pool, sensors: Sequence[SensorName]) -> list[asyncpg.Record]:
    """Return the rows of all series of these sensors: the only place where names become ids."""
    names = [check_text("sensor", name) for name in sensors]
    rows = await pool.fetch(SQL["list_series"], names)
    asked = {row["asked"] for row in rows}
    for name in names:
        if name not in asked:
            raise NoSuchSensorError(name)
    return rows


def _as_series(row: asyncpg.Record) -> StoredSeries:
    return StoredSeries(row["series_id"], row["sensor"], row["metric"], row["unit"])


def _describe_missing(sensors: Sequence[SensorName], metric: MetricName, known: Sequence[MetricName]) -> str:
    have = ", ".join(known) or "none"
    if len(sensors) == 1:
        return f"Sensor {sensors[0]!r} has no metric {metric!r}; it has {have}"
    return f"None of the {len(sensors)} sensors has a metric {metric!r}; they have {have}"
