"""Tags and gateways of sensors, and units of series: which reading decides, and what is stored of it."""

import asyncio
import json
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from app.clock import HOUR_US
from app.db.pool import Connection
from app.ingest.gateways.owners import may_describe
from app.ingest.series.parts import in_turns, parts
from app.ingest.sql import SQL
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.upload import Upload
from app.model import MetricName, SensorName, SeriesId, Tags

#: Interval between two writes of times of tags and gateways that only this process knows.
SEEN_EVERY_S = 15.0
#: Number of readings with tags or units in one turn of the event loop, which are encoded one by one.
_DESCRIBED_AT_ONCE = 200
_NEVER = -(2**62)
_NOTHING = (_NEVER, "")
_LAST = (2**63, "")
#: Sensor id -> time and text of the newest reading that brought tags (or a gateway); the greater text, if two readings
#: have the same time.
Descriptions = dict[int, tuple[int, str]]
#: Series id -> time and text of the oldest reading that brought a unit; the smaller text, if two have the same time.
Units = dict[SeriesId, tuple[int, str]]


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

    @classmethod
    def stored(cls, text: str | None, us: int | None) -> "Description":
        """Return what the database has of a description."""
        return cls() if us is None else cls(text, us, us)


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


class DescriptionStore:
    """The tags, gateways and units of the sensors of a registry.

    Tags and gateway are those of a sensor's newest reading that brings some; tags count only from the gateway that
    registered it. The unit is that of a series' oldest reading that brings one, so a unit that is set stays. What an
    operator has set wins over both.
    """

    def __init__(self, sensors: Mapping[SensorName, Sensor], by_id: Mapping[int, Sensor]) -> None:
        self._sensors = sensors
        self._by_id = by_id
        #: Time of the reading that brought each stored unit.
        self.units_us: dict[SeriesId, int] = {}

    async def store(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Store tags, gateways and units from the uploads where the database needs an update."""
        tags, gateways = await self._collect_updates(uploads)
        units = await self._collect_units(uploads)
        await self._store_parts(connection, tags, gateways, units)

    async def store_seen(self, connection: Connection) -> None:
        """Store the times of the newest tags and gateways that only this process knows.

        Until then, another process would let an older reading with other tags win. This runs every SEEN_EVERY_S, at the
        end, and before a new registry replaces this one.
        """
        async for sensors in in_turns([*self._by_id.values()]):
            tags = {sensor.id: seen for sensor in sensors if (seen := sensor.tags.unstored) is not None}
            gateways = {sensor.id: seen for sensor in sensors if (seen := sensor.gateway.unstored) is not None}
            await self._store_parts(connection, tags, gateways, {})

    async def _store_parts(
        self, connection: Connection, tags: Descriptions, gateways: Descriptions, units: Units
    ) -> None:
        """Store descriptions in transactions of ROWS_AT_ONCE rows: another flush that describes one of them waits."""
        for ids in parts(sorted(tags.keys() | gateways.keys())):
            some_tags, some_gateways = ({i: each[i] for i in ids if i in each} for each in (tags, gateways))
            await self._store(connection, some_tags, some_gateways, {})
        for series_ids in parts(sorted(units)):
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
        self.units_us.update({series_id: us for series_id, (us, _) in units.items()})

    async def _collect_updates(self, uploads: Sequence[Upload]) -> tuple[Descriptions, Descriptions]:
        """Return the tags and the gateways in the uploads that the database needs."""
        tags: Descriptions = {}
        gateways: Descriptions = {}
        for upload in uploads:
            if upload.gateway is not None:
                newest = [*zip(upload.readings.series, _newest_us(upload.readings), strict=True)]
                async for some in in_turns(newest):
                    for (sensor, _), newest_us in some:
                        _keep_newest(gateways, self._sensors[sensor].id, newest_us, upload.gateway)
            for number, reading in enumerate(upload.readings.described, 1):
                if reading.tags is not None and may_describe(self._sensors[reading.sensor], upload):
                    text = _as_jsonb_text(reading.tags)
                    _keep_newest(tags, self._sensors[reading.sensor].id, reading.time_us, text)
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
                    series_id, oldest = self._sensors[reading.sensor].series[metric], (reading.time_us, unit)
                    stored_us = self.units_us.get(series_id)
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


def _keep_newest(descriptions: Descriptions, sensor_id: int, us: int, text: str) -> None:
    """Put the text into `descriptions` if its reading is newer than the one there."""
    newest = (us, text)
    if newest > descriptions.get(sensor_id, _NOTHING):
        descriptions[sensor_id] = newest


async def _keep_noted(newest: Descriptions, known: Mapping[int, Description]) -> Descriptions:
    """Note each text in the description of its sensor, and return those that the database needs."""
    needed: Descriptions = {}
    async for ids in in_turns([*newest]):
        needed.update({number: newest[number] for number in ids if known[number].note(*newest[number])})
    return needed


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
