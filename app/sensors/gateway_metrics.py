"""Metrics of gateways, which the worker that holds the lease shows for all of them."""

from app.db.pool import Pool
from app.metrics import Metrics
from app.sensors.sql import SQL

#: Of more gateways than these, the ones that have uploaded last have metrics: each takes a dozen lines.
GATEWAYS_MEASURED = 1_000


async def measure_gateways(pool: Pool, metrics: Metrics) -> None:
    """Set the gauges of each gateway, whichever keys it uploads with."""
    for row in await pool.fetch(SQL["measure_gateways"], GATEWAYS_MEASURED):
        name = row["name"]
        metrics.gateway_last_upload_seconds.labels(name).set(row["last_upload_at"].timestamp())
        metrics.gateway_sensors.labels(name).set(row["sensors"])
        metrics.gateway_duplicates.labels(name).set(row["duplicates"])
        metrics.gateway_conflicts.labels(name).set(row["conflicts"])
        for gauge, seconds in (
            (metrics.gateway_skew_seconds, row["skew_s"]),
            (metrics.gateway_lateness_seconds, row["lateness_s"]),
        ):
            if seconds is not None:
                gauge.labels(name).set(seconds)
        for code, count in row["rejected_by_code"].items():
            metrics.gateway_rejected.labels(name, code).set(count)
