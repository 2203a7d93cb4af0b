"""Removal of deleted sensors in the background, by the worker."""

from app.db.aggregates import remove_series
from app.db.pool import Pool
from app.db.rights.locks import lock_evaluation
from app.model import SensorName
from app.sensors.sql import SQL

#: Number of sensors whose readings one run removes.
SENSORS_LIMIT = 50
#: How long one run waits for flushes that began before a sensor was deleted, in seconds.
WAIT_S = 20.0


async def remove_deleted_sensors(pool: Pool) -> list[SensorName]:
    """Remove the readings of some deleted sensors; return the names of those that are removed completely.

    A sensor takes at least two runs, because a run must find no readings. Then its row is removed, with its series and
    alerts, once people have been told about the end of its alerts.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval(SQL["has_deleted"]):
            return []
        rows = await connection.fetch(SQL["list_not_emptied"], SENSORS_LIMIT)
        series_ids = [series_id for row in rows for series_id in row["series_ids"]]
        if rows and await remove_series(connection, series_ids, WAIT_S):
            await connection.execute(SQL["mark_emptied"], [row["id"] for row in rows])
        async with connection.transaction():
            await lock_evaluation(connection)
            dropped = await connection.fetch(SQL["drop_emptied"])
    return [row["name"] for row in dropped]
