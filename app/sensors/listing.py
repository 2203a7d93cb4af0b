"""Sensors as the API and the command line show them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import asyncpg
import msgspec

from app.clock import from_us
from app.db.pool import Pool
from app.errors import NoSuchSensorError
from app.model import MetricName, SensorName, Tags
from app.sensors.sql import SQL


class Latest(msgspec.Struct, frozen=True):
    """The newest value of one metric; `time` is the time of its reading."""

    value: float
    time: datetime
    unit: str | None


class SensorItem(msgspec.Struct, frozen=True):
    """A sensor, its state and its latest values.

    `state` is the first that holds: retired; alert, with the level of its worst open alert; silent, when every metric
    has received nothing new for longer than expected; late, when one has received nothing for half of that; ok.
    """

    name: SensorName
    display_name: str | None
    tags: Tags
    #: The gateway that its newest readings came through.
    gateway: str | None
    #: The gateway that registered it: its uploads set the tags, and keys of other gateways may not write to it.
    owner: str | None
    #: Time of the newest reading.
    last_seen: datetime | None
    #: When a new reading last came in, by the server's clock.
    received_at: datetime | None
    state: Literal["retired", "alert", "silent", "late", "ok"]
    level: str | None
    #: Seconds between two readings, where it is known.
    expected_interval: float | None
    notes: str | None
    #: Names that the sensor had before; uploads and queries under them reach it.
    old_names: list[SensorName]
    latest: dict[MetricName, Latest]


async def fetch_sensors(pool: Pool, after: SensorName, limit: int, *, retired: bool) -> Sequence[SensorItem]:
    """Return at most `limit` sensors whose names come after the given one, in order of name."""
    return [_sensor(row) for row in await pool.fetch(SQL["list_sensors"], after, limit, None, retired)]


async def fetch_sensor(pool: Pool, name: SensorName) -> SensorItem:
    """Return a sensor by its name or an old one; raise NoSuchSensorError."""
    rows = await pool.fetch(SQL["list_sensors"], "", 1, name, True)
    if not rows:
        raise NoSuchSensorError(name)
    return _sensor(rows[0])


def _sensor(row: asyncpg.Record) -> SensorItem:
    latest = {
        metric: Latest(value["value"], from_us(value["time_us"]), value["unit"])
        for metric, value in (row["latest"] or {}).items()
    }
    interval: timedelta | None = row["expected_interval"]
    return SensorItem(
        row["name"],
        row["display_name"],
        row["tags"],
        row["gateway"],
        row["owner"],
        row["last_seen"],
        row["received_at"],
        row["state"],
        row["level"],
        None if interval is None else interval.total_seconds(),
        row["notes"],
        row["old_names"],
        latest,
    )
