"""Changes of sensors by operators: description, units, name, retirement, deletion.

The transaction of a change holds the row of `sensor_version`, so changes happen one after another. Each lets the
evaluation look at the sensor's newest readings again, because rules select sensors by name and tags.
"""

from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from app.clock import SECOND_US
from app.db.pool import Connection, Pool
from app.durations import parse_duration
from app.errors import ConflictError, InvalidRequestError, NoSuchSensorError
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
    tidy_name,
)
from app.sensors.sql import SQL

NOTES_LENGTH_LIMIT = 2_000
LONGEST_INTERVAL = timedelta(days=366)


class _ReadOnly(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that only the server sets. A client may send them back as it read them; they are ignored."""

    gateway: Any = UNSET
    last_seen: Any = UNSET
    received_at: Any = UNSET
    state: Any = UNSET
    level: Any = UNSET
    latest: Any = UNSET


class SensorChange(_ReadOnly, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Changes of a sensor. A missing field stays as it is, and null removes the value that an operator had set.

    A client may send back the fields that only the server sets; they are ignored.
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
    #: The gateway whose uploads set the tags and whose key may write to it. Null: none.
    owner: str | UnsetType | None = UNSET
    #: True: out of use until it reports again. Its alerts end, and lists leave it out.
    retired: bool | UnsetType = UNSET
    #: The old names to keep; other sensors may take the others.
    old_names: list[SensorName] | UnsetType = UNSET


def list_fields(change: SensorChange) -> list[str]:
    """Return the names of the fields that a change gives."""
    given = {name for name in change.__struct_fields__ if getattr(change, name) is not UNSET}
    return sorted(given - set(_ReadOnly.__struct_fields__))


async def change_sensor(pool: Pool, name: SensorName, change: SensorChange) -> SensorName:
    """Change a sensor in one transaction, and return its name afterwards; `name` may be an old one.

    Raise InvalidRequestError, NoSuchSensorError, or ConflictError for a new name that is taken.
    """
    interval = _check(change)
    change = _tidy(change)
    async with pool.acquire() as connection, connection.transaction():
        sensor = await _lock_sensor(connection, name)
        renamed = sensor["name"] if change.name is UNSET else change.name
        forgot = change.old_names is not UNSET and await _keep_old_names(connection, sensor["id"], change.old_names)
        if renamed != sensor["name"]:
            await _rename(connection, sensor["id"], sensor["name"], renamed)
        units = {} if change.units is UNSET else change.units
        await _set_units(connection, sensor["id"], units)
        await connection.execute(
            SQL["set_sensor_fields"],
            sensor["id"],
            *_given(change.display_name),
            *_given(change.notes or None if change.notes is not UNSET else UNSET),
            change.expected_interval is not UNSET,
            interval,
            *_given(change.tags),
            _given(change.retired)[1],
            *_given(change.owner),
        )
        await connection.execute(SQL["evaluate_again"], sensor["id"])
        if (
            renamed != sensor["name"]
            or change.retired not in (UNSET, sensor["is_retired"])
            or forgot
            or change.owner not in (UNSET, sensor["owner"])
            or None in units.values()
        ):
            await connection.execute(SQL["count_version"])
    return renamed


async def delete_sensor(pool: Pool, name: SensorName) -> None:
    """Delete a sensor; its readings are removed in the background. Raise NoSuchSensorError.

    Its alerts end, its names become free, and an upload with one of them registers a new sensor.
    """
    async with pool.acquire() as connection, connection.transaction():
        sensor = await _lock_sensor(connection, name)
        await connection.execute(SQL["evaluate_again"], sensor["id"])
        await connection.execute(SQL["mark_deleted"], sensor["id"])
        await connection.execute(SQL["count_version"])


async def _lock_sensor(connection: Connection, name: SensorName) -> asyncpg.Record:
    """Find a sensor while no other change can happen; raise NoSuchSensorError.

    Lock its row, then those of its series, in the same order as uploads that describe sensors.
    """
    await connection.execute(SQL["lock_changes"])
    sensor = await connection.fetchrow(SQL["look_up_sensor"], name)
    if sensor is None:
        raise NoSuchSensorError(name)
    await connection.execute(SQL["lock_sensor"], sensor["id"])
    await connection.execute(SQL["lock_series_of_sensor"], sensor["id"])
    return sensor


async def _keep_old_names(connection: Connection, sensor_id: int, names: list[SensorName]) -> bool:
    """Forget the old names that are not among these, and return whether there were any.

    Raise InvalidRequestError for a name that the sensor never had.
    """
    had = [row["name"] for row in await connection.fetch(SQL["list_old_names"], sensor_id)]
    names = [name if name in had else tidy_name(name) for name in names]
    for name in names:
        if name not in had:
            raise InvalidRequestError(
                f"old_names has {show(name)}, which is not one of its old names: {', '.join(had) or 'none'}. "
                "They come from renaming; leave one out to forget it"
            )
    await connection.execute(SQL["forget_old_names"], sensor_id, names)
    return not set(had) <= set(names)


async def _rename(connection: Connection, sensor_id: int, old: SensorName, new: SensorName) -> None:
    taken = await connection.fetchrow(SQL["look_up_sensor"], new)
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


def _given(value: Any) -> tuple[bool, Any]:
    """Return whether a field is given, and its value."""
    return (False, None) if value is UNSET else (True, value)


def _tidy(change: SensorChange) -> SensorChange:
    """Return a change with names as they are stored."""
    return msgspec.structs.replace(
        change,
        name=UNSET if change.name is UNSET else tidy_name(change.name),
        owner=tidy_name(change.owner) if isinstance(change.owner, str) else change.owner,
        units=UNSET if change.units is UNSET else {tidy_name(metric): unit for metric, unit in change.units.items()},
    )


def _check(change: SensorChange) -> timedelta | None:
    """Raise InvalidRequestError for a value that cannot be stored; return the expected interval."""
    if change.name is not UNSET and not is_sensor_name(tidy_name(change.name)):
        raise InvalidRequestError(
            f"name is {show(change.name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable characters"
        )
    if isinstance(change.display_name, str) and not is_short_text(change.display_name, SENSOR_NAME_LIMIT):
        raise InvalidRequestError(
            f"display_name is {show(change.display_name)}; send a text of 1 to {SENSOR_NAME_LIMIT} printable "
            "characters, or null for none"
        )
    if isinstance(change.owner, str) and not is_sensor_name(tidy_name(change.owner)):
        raise InvalidRequestError(
            f"owner is {show(change.owner)}; send a gateway's name, of 1 to {SENSOR_NAME_LIMIT} printable characters, "
            "or null for none"
        )
    if isinstance(change.notes, str) and not (len(change.notes) <= NOTES_LENGTH_LIMIT and is_storable(change.notes)):
        raise InvalidRequestError(
            f"notes has {len(change.notes):,} characters; send at most {NOTES_LENGTH_LIMIT:,}, without NUL"
        )
    if change.units is not UNSET and (reason := explain_units(change.units)) is not None:
        raise InvalidRequestError(reason)
    if isinstance(change.tags, dict) and (reason := explain_tags(change.tags)) is not None:
        raise InvalidRequestError(reason)
    return _parse_interval(change.expected_interval)


def _parse_interval(given: float | str | UnsetType | None) -> timedelta | None:
    """Return seconds, or a duration as in rule files, as an interval; raise InvalidRequestError."""
    if given is None or given is UNSET:
        return None
    longest_s = LONGEST_INTERVAL.total_seconds()
    try:
        us = parse_duration(given) if isinstance(given, str) else round(max(0.0, min(given, longest_s + 1)) * SECOND_US)
    except ValueError as error:
        raise InvalidRequestError(f"expected_interval: {error}; send seconds, or a text such as 10m") from None
    if not 0 < us <= longest_s * SECOND_US:
        raise InvalidRequestError(
            f"expected_interval is {show(given)}; send seconds, or a text such as 10m, at most {LONGEST_INTERVAL.days}d"
        )
    return timedelta(microseconds=us)
