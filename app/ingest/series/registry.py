"""Registration of sensors and series, the tags and gateway of each sensor, and the unit of each series.

A series id is a small integer that stands for a pair of sensor and metric in stored readings.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import asyncpg
import msgspec
import numpy as np

from app.clock import HOUR_US
from app.db.pool import Connection
from app.errors import OverloadedError
from app.ingest.checks import Refusal
from app.ingest.gateways.binding import reject_sensors
from app.ingest.gateways.owners import ForeignSensors, OwnNames, claim, list_claims, may_describe, refuse_foreign
from app.ingest.sql import SQL
from app.ingest.uploads.readings import Readings, Series
from app.ingest.uploads.upload import Upload
from app.model import MetricName, SensorName, SeriesId, Tags
from app.tasks import run_off_loop

#: Number of sensors that one API key may register in all, unless the key has its own limit.
SENSORS_PER_KEY = 100_000

#: Number of metrics that one sensor may have, and of series that the sensors of one API key may have in all.
METRICS_PER_SENSOR = 1_000
SERIES_PER_KEY = 1_000_000

#: Interval between two writes of times of tags and gateways that only this process knows.
SEEN_EVERY_S = 15.0
#: Number of sensors or series in one turn of the event loop, and of rows in one statement.
_AT_ONCE = 1_000
#: The same for readings with tags or units, which are encoded one by one.
_DESCRIBED_AT_ONCE = 200
_NEVER = -(2**62)
_NOTHING = (_NEVER, "")
_LAST = (2**63, "")
#: Sensor id -> time and text of the newest reading that brought tags (or a gateway); the greater text, if two readings
#: have the same time.
Descriptions = dict[int, tuple[int, str]]
#: Series id -> time and text of the oldest reading that brought a unit; the smaller text, if two have the same time.
Units = dict[SeriesId, tuple[int, str]]
T = TypeVar("T")


class SensorsChangedError(OverloadedError):
    """An operator has changed sensors since this process loaded them, so they must be loaded again."""

    def __init__(self) -> None:
        super().__init__("Sensors were being changed. Keep the data and send them again.")


class Description(msgspec.Struct, gc=False):
    """The tags or the gateway of a sensor, as text; the newest reading that brings them decides.

    A newer time of the same text is stored later (`SeriesRegistry.store_seen`). Otherwise each flush would rewrite the
    sensor.
    """

    text: str | None = None
    #: Time of the newest reading seen with this text, and the time stored in the database.
    seen_us: int = _NEVER
    stored_us: int = _NEVER

    def note(self, us: int, text: str) -> bool:
        """Note the text of a flush's newest reading, and return whether the database needs an update.

        It needs one for a newer text that differs, and for the same text if the stored time is over an hour older. If
        two readings have the same time, the greater text counts as newer.
        """
        if (us, text) < (self.seen_us, self.text or ""):
            return False
        if text == self.text and us - self.stored_us <= HOUR_US:
            self.seen_us = us
            return False
        return True

    @property
    def unstored(self) -> tuple[int, str] | None:
        """The time and the text of the newest reading, if the database does not have that time yet."""
        return (self.seen_us, self.text) if self.text is not None and self.seen_us > self.stored_us else None

    def update_from_database(self, us: int | None, text: str | None) -> None:
        """Take over what the database holds if it is newer, because other processes store descriptions too."""
        if us is not None and text is not None and (us, text) > (self.stored_us, self.text or ""):
            self.text, self.stored_us = text, us
            self.seen_us = max(self.seen_us, us)


class Sensor(msgspec.Struct, gc=False):
    """A sensor as this process knows it."""

    id: int
    name: SensorName
    #: Label of the API key that registered it; its series count as those of this key.
    created_by: str
    owner: str | None
    series: dict[MetricName, SeriesId]
    tags: Description
    gateway: Description


class SeriesRegistry:
    """The sensors and series that this process has seen; unknown ones are looked up, then registered.

    Registration is a separate transaction before the flush. So a flush that is rolled back does not affect the
    registry; a registered sensor without readings does no harm.

    A registry is as of one version: when an operator renames, retires or deletes a sensor, `sensor_version` grows. A
    flush that finds a newer version raises SensorsChangedError, and a new registry must take the place of this one.
    """

    def __init__(self) -> None:
        #: Read before any sensor; None: nothing is registered yet.
        self.version: int | None = None
        #: By the name in uploads, which may be an old one.
        self.sensors: dict[SensorName, Sensor] = {}
        #: The same series as in `sensors`, in the form in which they are looked up for each reading.
        self.series_of: dict[SensorName, dict[MetricName, SeriesId]] = {}
        #: The sensor's present name, and the metric.
        self.names: dict[SeriesId, tuple[SensorName, MetricName]] = {}
        #: Series of retired sensors -> sensor id.
        self.retired: dict[SeriesId, int] = {}
        self._by_id: dict[int, Sensor] = {}
        self._series_of_key: dict[str, int] = {}
        #: Time of the reading that brought each stored unit.
        self._units_us: dict[SeriesId, int] = {}
        self._own_names = OwnNames()
        self._foreign = ForeignSensors()
        self._lock = asyncio.Lock()

    async def register(self, connection: Connection, uploads: Sequence[Upload]) -> list[Upload]:
        """Register all series of the uploads; return the uploads, with sensors beyond the cap of a key rejected.

        Raise SensorsChangedError if the loaded sensors are not all of one version.
        """
        async with self._lock:
            if self.version is None:
                self.version = await connection.fetchval(SQL["get_sensor_version"])
            kept = await self._register(connection, uploads)
            if self.version != await connection.fetchval(SQL["get_sensor_version"]):
                raise SensorsChangedError
            return kept

    async def preview(self, connection: Connection, upload: Upload) -> Upload:
        """Return an upload as `register` would, and give its new sensors and series ids that nothing stored has."""
        await self._load(connection, list({name for name, _ in upload.readings.series}))
        if upload.api_key.binding is not None:
            (upload,) = await self.refuse_foreign(connection, [upload], claims=False)
        new = sorted(self._unknown([upload]).keys() - self.sensors.keys())
        room = await self._room(connection, upload, {}) if new else 0
        upload = await run_off_loop(upload.value_count, _reject_sensors, upload, set(new[room:]))
        for number, name in enumerate(new[:room], 1):
            sensor = Sensor(-number, name, upload.api_key.label, upload.gateway, {}, Description(), Description())
            self.sensors[name], self.series_of[name] = sensor, sensor.series
        refused = await self._find_too_many(connection, self._unknown([upload]))
        upload = await run_off_loop(upload.value_count, _reject, upload, refused)
        unknown = [(name, metric) for name, metrics in self._unknown([upload]).items() for metric in sorted(metrics)]
        for number, (name, metric) in enumerate(unknown, 1):
            self.sensors[name].series[metric] = SeriesId(-number)
        return upload

    def _unknown(self, uploads: Iterable[Upload]) -> dict[SensorName, set[MetricName]]:
        """Return, for each sensor, the metrics of which this process knows no series."""
        unknown: dict[SensorName, set[MetricName]] = {}
        for upload in uploads:
            for name, metric in upload.readings.series:
                sensor = self.sensors.get(name)
                if sensor is None or metric not in sensor.series:
                    unknown.setdefault(name, set()).add(metric)
        return unknown

    async def _register(self, connection: Connection, uploads: Sequence[Upload]) -> list[Upload]:
        value_count = sum(upload.value_count for upload in uploads)
        await self._load(connection, list(await run_off_loop(value_count, self._unknown, uploads)))
        unknown = await run_off_loop(value_count, self._unknown, uploads)
        new = unknown.keys() - self.sensors.keys()
        uploads = await self._insert_sensors(connection, uploads, new) if new else [*uploads]
        unknown = await run_off_loop(value_count, self._unknown, uploads)
        if not self.sensors.keys() >= unknown.keys():
            raise SensorsChangedError  # it was just deleted
        if any(upload.api_key.binding for upload in uploads):
            uploads = await self.refuse_foreign(connection, uploads)
            unknown = await run_off_loop(value_count, self._unknown, uploads)
        if refused := await self._find_too_many(connection, unknown):
            uploads = [await run_off_loop(upload.value_count, _reject, upload, refused) for upload in uploads]
            unknown = await run_off_loop(value_count, self._unknown, uploads)
        for names in _parts(sorted(unknown)):
            missing = [(self.sensors[name].id, metric) for name in names for metric in unknown[name]]
            await connection.execute(SQL["insert_series"], *map(list, zip(*missing, strict=True)))
        await self._load(connection, sorted(unknown))
        return uploads

    async def refuse_foreign(
        self, connection: Connection, uploads: Sequence[Upload], *, claims: bool = True
    ) -> list[Upload]:
        """Return the uploads, in which those of bound keys bring no known sensors of other gateways.

        Sensors that no gateway was named for become those of a bound key that says that they are its own. Without
        `claims`, they are taken as such, and nothing is stored.
        """
        kept = []
        for upload in uploads:
            binding = upload.api_key.binding
            foreign = [] if binding is None else self._own_names.find_foreign(upload, self.sensors)
            if binding is not None and (claimed := list_claims(upload, foreign)):
                if claims:
                    owners = await claim(connection, claimed, binding.gateway)
                else:
                    owners = [(sensor_id, binding.gateway) for sensor_id in claimed]
                for sensor_id, owner in owners:
                    self._by_id[sensor_id].owner = owner
                foreign = self._own_names.find_foreign(upload, self.sensors)
            self._foreign.note(upload, foreign)
            refused = {name: refuse_foreign(name, sensor, upload) for name, sensor in foreign}
            kept.append(reject_sensors(upload, refused))
        return kept

    async def _load(self, connection: Connection, names: Sequence[SensorName]) -> None:
        for some in _parts(names):
            self._add(await connection.fetch(SQL["find_series"], some))

    def _add(self, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            sensor = self.sensors.get(row["given_name"]) or self._add_sensor(row)
            if (series_id := row["series_id"]) is not None:
                sensor.series[row["metric"]] = series_id
                self.names[series_id] = (sensor.name, row["metric"])
                if row["unit_us"] is not None:
                    self._units_us[series_id] = row["unit_us"]
                if row["is_retired"]:
                    self.retired[series_id] = sensor.id

    def _add_sensor(self, row: asyncpg.Record) -> Sensor:
        """Add a sensor under the name that was looked up, and under its present one; both lead to the same object."""
        sensor = self.sensors.get(row["name"]) or Sensor(
            row["id"],
            row["name"],
            row["created_by"],
            row["owner"],
            {},
            _description(row["tags"], row["tags_us"]),
            _description(row["gateway"], row["gateway_us"]),
        )
        self._by_id[sensor.id] = sensor
        for name in (row["name"], row["given_name"]):
            self.sensors[name] = sensor
            self.series_of[name] = sensor.series
        return sensor

    async def _insert_sensors(
        self, connection: Connection, uploads: Sequence[Upload], new: set[SensorName]
    ) -> list[Upload]:
        """Insert new sensors up to the cap of the key that brought them first; reject the others."""
        owner: dict[SensorName, Upload] = {}
        over_cap: list[set[SensorName]] = []
        for upload in uploads:
            wanted = await run_off_loop(upload.value_count, _find_wanted, upload, new, owner)
            room = await self._room(connection, upload, owner) if wanted else 0
            owner.update(dict.fromkeys(wanted[:room], upload))
            over_cap.append(set(wanted[room:]))
        for some in _parts(sorted(owner)):
            labels, gateways = [owner[name].api_key.label for name in some], [owner[name].gateway for name in some]
            await connection.execute(SQL["insert_sensors"], some, labels, gateways)
        await self._load(connection, list(owner))
        nobodys = new - owner.keys()
        return [
            await run_off_loop(upload.value_count, _reject_sensors, upload, own | nobodys)
            for upload, own in zip(uploads, over_cap, strict=True)
        ]

    async def _find_too_many(
        self, connection: Connection, unknown: Mapping[SensorName, set[MetricName]]
    ) -> dict[Series, Refusal]:
        """Return the new series that exceed the limit of their sensor, or of the key that registered the sensor."""
        refused: dict[Series, Refusal] = {}
        of_sensor: Counter[int] = Counter()
        of_key: Counter[str] = Counter()
        for number, name in enumerate(sorted(unknown), 1):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            sensor = self.sensors[name]
            stored = await self._count_series(connection, sensor.created_by)
            for metric in sorted(unknown[name]):
                if len(sensor.series) + of_sensor[sensor.id] >= METRICS_PER_SENSOR:
                    refused[name, metric] = _too_many_metrics(name)
                elif stored + of_key[sensor.created_by] >= SERIES_PER_KEY:
                    refused[name, metric] = _too_many_series(sensor.created_by)
                else:
                    of_sensor[sensor.id] += 1
                    of_key[sensor.created_by] += 1
        for label, count in of_key.items():
            self._series_of_key[label] += count
        return refused

    async def _count_series(self, connection: Connection, label: str) -> int:
        """Return how many series the key's sensors have; counted once, because deletions make a new registry."""
        if label not in self._series_of_key:
            self._series_of_key[label] = await connection.fetchval(SQL["count_series_of_key"], label)
        return self._series_of_key[label]

    async def _room(self, connection: Connection, upload: Upload, owner: Mapping[SensorName, Upload]) -> int:
        cap = upload.api_key.limits.sensors
        label = upload.api_key.label
        used: int = await connection.fetchval(SQL["count_sensors_of_key"], label)
        planned = sum(1 for other in owner.values() if other.api_key.label == label)
        return max((SENSORS_PER_KEY if cap is None else cap) - used - planned, 0)

    async def describe(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Store tags, gateways and units from the uploads where the database needs an update.

        Tags and gateway are those of a sensor's newest reading that brings some; tags count only from the gateway that
        registered it. The unit is that of a series' oldest reading that brings one, so a unit that is set stays. What
        an operator has set wins over both.
        """
        for upload in uploads:
            if not upload.is_import and (foreign := self._own_names.find_foreign(upload, self.sensors)):
                self._foreign.note(upload, foreign)
        tags, gateways = await self._collect_updates(uploads)
        units = await self._collect_units(uploads)
        await self._store_parts(connection, tags, gateways, units)

    async def store_seen(self, connection: Connection) -> None:
        """Store the times of the newest tags and gateways that only this process knows.

        Until then, another process would let an older reading with other tags win. This runs every SEEN_EVERY_S, at the
        end, and before a new registry replaces this one.
        """
        async for sensors in _in_turns([*self._by_id.values()]):
            tags = {sensor.id: seen for sensor in sensors if (seen := sensor.tags.unstored) is not None}
            gateways = {sensor.id: seen for sensor in sensors if (seen := sensor.gateway.unstored) is not None}
            await self._store_parts(connection, tags, gateways, {})
        await self._foreign.write(connection)

    async def _store_parts(
        self, connection: Connection, tags: Descriptions, gateways: Descriptions, units: Units
    ) -> None:
        """Store descriptions, _AT_ONCE rows a transaction: another flush that describes one of them waits for it."""
        for ids in _parts(sorted(tags.keys() | gateways.keys())):
            some_tags, some_gateways = ({i: each[i] for i in ids if i in each} for each in (tags, gateways))
            await self._store(connection, some_tags, some_gateways, {})
        for series_ids in _parts(sorted(units)):
            await self._store(connection, {}, {}, {series_id: units[series_id] for series_id in series_ids})

    async def _store(self, connection: Connection, tags: Descriptions, gateways: Descriptions, units: Units) -> None:
        ids = sorted(tags.keys() | gateways.keys())
        async with connection.transaction():
            await _update(
                connection, "lock_sensors", ids, {"update_sensor_tags": tags, "update_sensor_gateway": gateways}
            )
            await _update(connection, "lock_series", sorted(units), {"update_series_unit": units})
            rows = await connection.fetch(SQL["list_descriptions"], ids)
        for row in rows:
            self._by_id[row["id"]].tags.update_from_database(row["tags_us"], row["tags"])
            self._by_id[row["id"]].gateway.update_from_database(row["gateway_us"], row["gateway"])
        self._units_us.update({series_id: us for series_id, (us, _) in units.items()})

    async def _collect_updates(self, uploads: Sequence[Upload]) -> tuple[Descriptions, Descriptions]:
        """Return the tags and the gateways in the uploads that the database needs."""
        tags: Descriptions = {}
        gateways: Descriptions = {}
        for upload in uploads:
            if upload.gateway is not None:
                newest = [*zip(upload.readings.series, _newest_us(upload.readings), strict=True)]
                async for some in _in_turns(newest):
                    for (sensor, _), newest_us in some:
                        _keep_newest(gateways, self.sensors[sensor].id, newest_us, upload.gateway)
            for number, reading in enumerate(upload.readings.described, 1):
                if reading.tags is not None and may_describe(self.sensors[reading.sensor], upload):
                    text = _as_jsonb_text(reading.tags)
                    _keep_newest(tags, self.sensors[reading.sensor].id, reading.time_us, text)
                if not number % _DESCRIBED_AT_ONCE:
                    await asyncio.sleep(0)
        return (
            await _keep_noted(tags, {number: self._by_id[number].tags for number in tags}),
            await _keep_noted(gateways, {number: self._by_id[number].gateway for number in gateways}),
        )

    async def _collect_units(self, uploads: Sequence[Upload]) -> Units:
        """Return the units in the uploads of series that have none, or one of a later reading."""
        units: Units = {}
        for upload in uploads:
            for number, reading in enumerate(upload.readings.described, 1):
                if not number % _DESCRIBED_AT_ONCE:
                    await asyncio.sleep(0)
                for metric, unit in (reading.units or {}).items():
                    series_id, oldest = self.series_of[reading.sensor][metric], (reading.time_us, unit)
                    stored_us = self._units_us.get(series_id)
                    if (stored_us is None or reading.time_us <= stored_us) and oldest < units.get(series_id, _LAST):
                        units[series_id] = oldest
        return units


async def _update(
    connection: Connection, lock: str, ids: Sequence[int], updates: Mapping[str, Descriptions | Units]
) -> None:
    """Lock rows by id in ascending order, then run the updates that are not empty."""
    if ids:
        await connection.execute(SQL[lock], ids)
    for query, rows in updates.items():
        if rows:
            times, texts = zip(*rows.values(), strict=True)
            await connection.execute(SQL[query], list(rows), texts, times)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items in parts, because asyncpg encodes the arguments of a statement in one step."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


async def _in_turns(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Yield items in parts, and let the event loop have its turn between two of them."""
    for number, part in enumerate(_parts(items)):
        if number:
            await asyncio.sleep(0)
        yield part


def _keep_newest(descriptions: Descriptions, sensor_id: int, us: int, text: str) -> None:
    """Put the text into `descriptions` if its reading is newer than the one there."""
    newest = (us, text)
    if newest > descriptions.get(sensor_id, _NOTHING):
        descriptions[sensor_id] = newest


async def _keep_noted(newest: Descriptions, known: Mapping[int, Description]) -> Descriptions:
    """Note each text in the description of its sensor, and return those that the database needs."""
    needed: Descriptions = {}
    async for ids in _in_turns([*newest]):
        needed.update({number: newest[number] for number in ids if known[number].note(*newest[number])})
    return needed


def _description(text: str | None, us: int | None) -> Description:
    return Description() if us is None else Description(text, us, us)


def _as_jsonb_text(tags: Tags) -> str:
    """Return tags exactly as PostgreSQL writes jsonb, so that both compare texts alike."""
    ordered = sorted(tags, key=lambda name: (len(name.encode()), name.encode()))
    return json.dumps({name: tags[name] for name in ordered}, ensure_ascii=False)


def _newest_us(readings: Readings) -> list[int]:
    """Return the newest time of each series of an upload."""
    newest = np.full(len(readings.series), _NEVER)
    np.maximum.at(newest, np.frombuffer(readings.codes, np.int64), np.frombuffer(readings.times_us, np.int64))
    times_us: list[int] = newest.tolist()
    return times_us


def _find_wanted(upload: Upload, new: set[SensorName], owner: Mapping[SensorName, str]) -> list[SensorName]:
    """Return the new sensors that this upload is the first to bring, in order."""
    return sorted({sensor for sensor, _ in upload.readings.series} & new - owner.keys())


def _too_many_metrics(name: SensorName) -> Refusal:
    return "too_many_metrics", (
        f"sensor {name!r} has {METRICS_PER_SENSOR:,} metrics already; remove what makes ever new names, or spread the "
        "metrics over several sensors"
    )


def _too_many_series(label: str) -> Refusal:
    return "too_many_series", (
        f"the sensors of the key {label!r} have {SERIES_PER_KEY:,} series already; remove what makes ever new names, "
        "or use another key for some of the sensors"
    )


def _reject(upload: Upload, refused: Mapping[Series, Refusal]) -> Upload:
    """Return the upload without the values of the refused series, which it rejects one by one."""
    readings = upload.readings
    codes = {code: series for code, series in enumerate(readings.series) if series in refused}
    if not codes:
        return upload
    rejected = upload.rejected.copy()
    for index, code in zip(readings.indexes, readings.codes, strict=True):
        if code in codes:
            rejected.add(index, *refused[codes[code]], metric=codes[code][1])
    return msgspec.structs.replace(upload, readings=readings.without({*codes.values()}), rejected=rejected)


def _reject_sensors(upload: Upload, names: set[SensorName]) -> Upload:
    """Return the upload without the readings of these sensors, which are too many for its key."""
    return reject_sensors(upload, {name: _too_many_sensors(name, upload.api_key.label) for name in names})


def _too_many_sensors(name: SensorName, label: str) -> Refusal:
    return "too_many_sensors", (
        f"sensor {name!r} is new, and the key {label!r} has brought as many sensors as it may; raise its limit, or "
        "remove what makes ever new names"
    )
