"""The end of a page of readings of many series, found by reading about as many rows as the page has.

Reading a whole page of rows from each of thousands of series would mean millions of rows.
"""

from datetime import datetime
from typing import NamedTuple

from app.clock import from_us, to_us
from app.db.pool import Connection
from app.trends.sql import SQL

#: With so few series, a whole page of rows is read from each.
_FEW_SERIES = 8


class Range(NamedTuple):
    """The readings of a list: series of these sensors and metrics (None: all), after a cursor, in [start, end)."""

    sensor_ids: list[int] | None
    metrics: list[str] | None
    start: datetime
    end: datetime
    after: datetime
    after_sensor: int


async def find_page_end(connection: Connection, wanted: Range, limit: int) -> datetime:
    """Return a time (excluded, at most `wanted.end`) before which the first `limit` readings lie, and few others.

    Run it in the transaction that reads the page, on one snapshot.

    Each round reads the next few times of each series. The largest of the `limit` smallest times found so far is a
    bound of the page: further times can only make it smaller. So the next round reads only series whose last time is
    before this bound, and twice as many times of each; nearly all of them are on the page.
    """
    row = await connection.fetchrow(SQL["get_series_of_page"], wanted.sensor_ids, wanted.metrics)
    assert row is not None  # noqa: S101 -- an aggregate has a row
    series, sensors = row["series"], row["sensors"]
    if len(series) <= _FEW_SERIES:
        return wanted.end
    start, after, end = to_us(wanted.start), to_us(wanted.after), to_us(wanted.end)
    starts = [max(start, after + (sensor <= wanted.after_sensor)) for sensor in sensors]
    each = min(limit, 1 + 2 * limit // len(series))
    found: list[tuple[int, int]] = []
    while series:
        rows = await connection.fetch(SQL["list_first_times"], series, sensors, starts, from_us(end), each, limit)
        found = sorted({*found, *((row["time_us"], row["sensor_id"]) for row in rows)})[:limit]
        if len(found) == limit:
            end = found[-1][0] + 1
        more = [
            (each_series, row["sensor_id"], row["time_us"] + 1)
            for row in rows
            if row["time_us"] + 1 < end
            for each_series in row["unfinished"] or ()
        ]
        series, sensors, starts = map(list, zip(*more, strict=True)) if more else ([], [], [])
        each = min(limit, 2 * each)
    return from_us(end)
