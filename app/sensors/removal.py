"""Removal of deleted sensors in the background, by the process that holds the lease."""

from app.db.aggregates import remove_series
from app.db.locks import lock_evaluation
from app.db.pool import Pool
from app.model import SensorName
from app.sensors.sql import SQL

#: How long one run waits for flushes that began before a sensor was deleted, in seconds.
WAIT_S = 20.0


async def remove_deleted_sensors(pool: Pool) -> list[SensorName]:
    """Remove the readings of deleted sensors; return the names of those of which nothing is left.

    A sensor takes two runs at least: the second one finds nothing more, and then the sensor's row goes, with its series
    and alerts.
    """
    async with pool.acquire() as connection:
        deleted = await connection.fetch(SQL["list_deleted"])
        series_ids = [series_id for row in deleted for series_id in row["series_ids"]]
        if not deleted or not await remove_series(connection, series_ids, WAIT_S):
            return []
        async with connection.transaction():
            await lock_evaluation(connection)
            rows = await connection.fetch(SQL["drop_deleted"], [row["id"] for row in deleted])
    return [row["name"] for row in rows]
