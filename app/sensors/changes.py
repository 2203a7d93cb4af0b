"""What operators change of sensors: description, units, name, retirement, deletion.

The transaction of a change holds the row of `sensor_version`, so changes happen one after another. Each lets the
evaluation look at the sensor's newest readings again, because rules select sensors by name and tags.
"""

from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import structlog
from msgspec import UNSET, UnsetType

from app.clock import SECOND_US
from app.db.pool import Connection, Pool
from app.durations import parse_duration
from app.errors import ConflictError, InvalidRequestError
from app.hints import did_you_mean
from app.model import MetricName, SensorName, Tags
from app.names import (
    SENSOR_NAME_LIMIT,
    explain_tags,
    explain_units,
    is_sensor_name,
    is_short_text,
    is_storable,
    show,
)
from app.sensors.listing import no_such_sensor
from app.sensors.sql import SQL

NOTES_LENGTH_LIMIT = 2_000
LONGEST_INTERVAL = timedelta(days=366)
_READ_ONLY = frozenset(("gateway", "last_seen", "received_at", "state", "level", "latest", "old_names"))
log = structlog.get_logger()


class SensorChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change of a sensor; a field that is left out stays as it is, and null takes back what was set.

    The other fields of a sensor may be sent along, as they were read, and are ignored.
    """

    #: The new name. The old one stays an alias for uploads and queries.
    name: str | UnsetType = UNSET
    display_name: str | UnsetType | None = UNSET
    #: By metric. Null: the next upload that brings a unit sets it.
    units: dict[MetricName, str | None] | UnsetType = UNSET
    #: Time between two readings: seconds, or a text such as "10m".
    expected_interval: float | str | UnsetType | None = UNSET
    #: All tags. Uploads do not change them any more. Null: those of the uploads count again.
    tags: Tags | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    #: True: out of use until it reports again. Its alerts end, and lists leave it out.
    retired: bool | UnsetType = UNSET

    gateway: Any = UNSET
    last_seen: Any = UNSET
    received_at: Any = UNSET
    state: Any = UNSET
    level: Any = UNSET
    latest: Any = UNSET
    old_names: Any = UNSET


async def change_sensor(pool: Pool, name: SensorName, change: SensorChange) -> SensorName:
    """Change a sensor in one transaction, and return its name afterwards; `name` may be an old one.

    Raise InvalidRequestError, NotFoundError, or ConflictError for a new name that is taken.
    """
    interval = _check(change)
    async with pool.acquire() as connection, connection.transaction():
        sensor = await _lock_sensor(connection, name)
        if change.name is not UNSET and change.name != sensor["name"]:
            await _rename(connection, sensor["id"], sensor["name"], change.name)
        units = {} if change.units is UNSET else change.units
        await _set_units(connection, sensor["id"], units)
        await connection.execute(
            SQL["set_sensor_fields"],
            sensor["id"],
            *_given(change.display_name),
            *_given(change.notes),
            change.expected_interval is not UNSET,
            interval,
            *_given(change.tags),
            _given(change.retired)[1],
        )
        await connection.execute(SQL["evaluate_again"], sensor["id"])
        if change.name is not UNSET or change.retired is not UNSET or None in units.values():
            await connection.execute(SQL["count_version"])
    renamed = sensor["name"] if change.name is UNSET else change.name
    log.info("sensor_changed", sensor=sensor["name"], name=renamed, fields=sorted(_fields(change)))
    return renamed


async def delete_sensor(pool: Pool, name: SensorName) -> None:
    """Hide a sensor from now on; its readings are removed in the background. Raise NotFoundError.

    Its alerts end, its names are free, and an upload under one of them makes a new sensor.
    """
    async with pool.acquire() as connection, connection.transaction():
        sensor = await _lock_sensor(connection, name)
        await connection.execute(SQL["evaluate_again"], sensor["id"])
        await connection.execute(SQL["mark_deleted"], sensor["id"])
        await connection.execute(SQL["count_version"])
    log.info("sensor_deleted", sensor=sensor["name"])


async def _lock_sensor(connection: Connection, name: SensorName) -> asyncpg.Record:
    """Find a sensor while no other change can happen; raise NotFoundError."""
    await connection.execute(SQL["lock_changes"])
    sensor = await connection.fetchrow(SQL["find_sensor"], name)
    if sensor is None:
        raise no_such_sensor(name)
    return sensor


async def _rename(connection: Connection, sensor_id: int, old: SensorName, new: SensorName) -> None:
    taken = await connection.fetchrow(SQL["find_sensor"], new)
    if taken is not None and taken["id"] != sensor_id:
        whose = "There is a sensor" if taken["name"] == new else f"Sensor {taken['name']!r} has the old name"
        raise ConflictError(f"{whose} {new!r}; choose another name, or delete that sensor first")
    try:
        await connection.execute(SQL["rename_sensor"], sensor_id, new)
    except asyncpg.UniqueViolationError:  # an upload has just registered it
        raise ConflictError(f"There is a sensor {new!r}; choose another name, or delete that sensor first") from None
    await connection.execute(SQL["rename_in_silences"], old, new)


async def _set_units(connection: Connection, sensor_id: int, units: dict[MetricName, str | None]) -> None:
    metrics = [row["metric"] for row in await connection.fetch(SQL["list_metrics"], sensor_id)] if units else []
    for metric in units:
        if metric not in metrics:
            raise InvalidRequestError(
                f"units has {show(metric)}, which the sensor has never sent{did_you_mean(metric, metrics) or '.'} "
                f"Its metrics are {', '.join(metrics) or 'none yet'}"
            )
    if units:
        await connection.execute(SQL["set_units"], sensor_id, list(units), list(units.values()))


def _fields(change: SensorChange) -> set[str]:
    """Return the names of the fields that a change gives."""
    return {name for name in change.__struct_fields__ if getattr(change, name) is not UNSET} - _READ_ONLY


def _given(value: Any) -> tuple[bool, Any]:
    """Return whether a field is given, and its value."""
    return (False, None) if value is UNSET else (True, value)


def _check(change: SensorChange) -> timedelta | None:
    """Raise InvalidRequestError for a value that cannot be stored; return the expected interval."""
    if change.name is not UNSET and not is_sensor_name(change.name):
        raise InvalidRequestError(
            f"name is {show(change.name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable characters"
        )
    if isinstance(change.display_name, str) and not is_short_text(change.display_name, SENSOR_NAME_LIMIT):
        raise InvalidRequestError(
            f"display_name is {show(change.display_name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable "
            "characters, or null for none"
        )
    if isinstance(change.notes, str) and not (len(change.notes) <= NOTES_LENGTH_LIMIT and is_storable(change.notes)):
        raise InvalidRequestError(
            f"notes has {len(change.notes):,} characters; send at most {NOTES_LENGTH_LIMIT:,}, without NUL"
        )
    for reason in (
        None if change.units is UNSET else explain_units(change.units),
        explain_tags(change.tags) if isinstance(change.tags, dict) else None,
    ):
        if reason is not None:
            raise InvalidRequestError(reason)
    return _parse_interval(change.expected_interval)


def _parse_interval(given: float | str | UnsetType | None) -> timedelta | None:
    """Return seconds, or a duration as in rule files, as an interval; raise InvalidRequestError."""
    if given is None or given is UNSET:
        return None
    try:
        us = parse_duration(given) if isinstance(given, str) else round(given * SECOND_US)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(f"expected_interval: {error}; send seconds, or a text such as 10m") from None
    if not 0 < us <= LONGEST_INTERVAL / timedelta(microseconds=1):
        raise InvalidRequestError(
            f"expected_interval is {show(given)}; send seconds, or a text such as 10m, at most {LONGEST_INTERVAL.days}d"
        )
    return timedelta(microseconds=us)
