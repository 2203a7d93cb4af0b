"""Readings inserted directly into the tables, for tests that only read."""

from collections.abc import Iterable
from datetime import datetime

from app.db.pool import Pool


async def store_series(pool: Pool, sensor: str, metric: str, rows: Iterable[tuple[datetime, float]]) -> int:
    """Register a series, store its readings and return its id."""
    insert_sensor = "INSERT INTO sensor (name, created_by) VALUES ($1, 'test') ON CONFLICT DO NOTHING"
    insert_series = "INSERT INTO series (sensor_id, metric) SELECT id, $2 FROM sensor WHERE name = $1 RETURNING id"
    await pool.execute(insert_sensor, sensor)
    series_id: int = await pool.fetchval(insert_series, sensor, metric)
    times, values = zip(*rows, strict=True)
    await pool.execute(
        "INSERT INTO reading SELECT $1, * FROM unnest($2::timestamptz[], $3::float8[])", series_id, times, values
    )
    return series_id
