"""Registration of sensors and series, and the tags and gateway of each sensor.

A series id is a small integer that stands for a pair of sensor and metric in stored readings.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.clock import HOUR_US
from app.db.pool import Connection
from app.ingest.sql import SQL
from app.ingest.upload import Upload
from app.model import MetricName, Reading, SensorName, SeriesId, Tags

#: Number of sensors that one API key may register in all, unless the key has its own limit.
SENSORS_PER_KEY = 100_000

_NEVER = -(2**62)
_NOTHING = (_NEVER, "")
#: For each sensor, the time and the text of its newest reading that brought tags (or a gateway); the greater text, if
#: two readings have the same time.
Descriptions = dict[SensorName, tuple[int, str]]


class Description(msgspec.Struct):
    """The tags or the gateway of a sensor, as text; the newest reading that brings them decides."""

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

    def update_from_database(self, us: int | None, text: str | None) -> None:
        """Take over what the database holds if it is newer, because other processes store descriptions too."""
        if us is not None and text is not None and (us, text) > (self.stored_us, self.text or ""):
            self.text, self.stored_us = text, us
            self.seen_us = max(self.seen_us, us)


class Sensor(msgspec.Struct):
    """A sensor as this process knows it."""

    series: dict[MetricName, SeriesId]
    tags: Description
    gateway: Description


class SeriesRegistry:
    """All sensors and series that this process has seen; unknown ones are looked up, then registered.

    Registration is a separate transaction before the flush. So a flush that is rolled back does not affect the
    registry; a registered sensor without readings does no harm.
    """

    def __init__(self) -> None:
        self.sensors: dict[SensorName, Sensor] = {}
        #: The same series as in `sensors`, in the form in which they are looked up for each reading.
        self.series_of: dict[SensorName, dict[MetricName, SeriesId]] = {}
        self.names: dict[SeriesId, tuple[SensorName, MetricName]] = {}
        self._lock = asyncio.Lock()

    async def register(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Register all series of the uploads; reject readings of sensors over a key's cap."""
        async with self._lock:
            await self._register(connection, uploads)

    def _unknown(self, uploads: Iterable[Upload]) -> dict[SensorName, set[MetricName]]:
        """Return, for each sensor, the metrics of which this process knows no series."""
        unknown: dict[SensorName, set[MetricName]] = {}
        for upload in uploads:
            for reading in upload.readings:
                sensor = self.sensors.get(reading.sensor)
                if sensor is None or not sensor.series.keys() >= reading.values.keys():
                    unknown.setdefault(reading.sensor, set()).update(reading.values)
        return unknown

    async def _register(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        await self._load(connection, list(self._unknown(uploads)))
        new = {name for name in self._unknown(uploads) if name not in self.sensors}
        if new:
            await self._insert_sensors(connection, uploads, new)
        missing = [(name, metric) for name, metrics in self._unknown(uploads).items() for metric in metrics]
        if missing:
            names, metrics = zip(*missing, strict=True)
            await connection.execute(SQL["insert_series"], names, metrics)
            await self._load(connection, sorted(set(names)))

    async def _load(self, connection: Connection, names: Sequence[SensorName]) -> None:
        for row in await connection.fetch(SQL["find_series"], names):
            sensor = self.sensors.get(row["name"])
            if sensor is None:
                sensor = Sensor(
                    {}, _description(row["tags"], row["tags_us"]), _description(row["gateway"], row["gateway_us"])
                )
                self.sensors[row["name"]] = sensor
                self.series_of[row["name"]] = sensor.series
            if row["id"] is not None:
                sensor.series[row["metric"]] = row["id"]
                self.names[row["id"]] = (row["name"], row["metric"])

    async def _insert_sensors(self, connection: Connection, uploads: Sequence[Upload], new: set[SensorName]) -> None:
        """Insert new sensors up to the cap of the key that brought them first; reject readings of the others."""
        owner: dict[SensorName, str] = {}
        for upload in uploads:
            wanted = sorted({reading.sensor for reading in upload.readings} & new - owner.keys())
            if wanted:
                room = await self._room(connection, upload, owner)
                owner.update(dict.fromkeys(wanted[:room], upload.api_key.label))
                _reject_over_cap(upload, set(wanted[room:]))
        await connection.execute(SQL["insert_sensors"], list(owner), list(owner.values()))
        await self._load(connection, list(owner))
        for upload in uploads:
            _reject_over_cap(upload, new - owner.keys())

    async def _room(self, connection: Connection, upload: Upload, owner: Mapping[SensorName, str]) -> int:
        cap = upload.api_key.limits.sensors
        label = upload.api_key.label
        used: int = await connection.fetchval(SQL["count_sensors_of_key"], label)
        planned = sum(1 for other in owner.values() if other == label)
        return max((SENSORS_PER_KEY if cap is None else cap) - used - planned, 0)

    async def describe(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Store the tags and the gateway from the newest reading of each sensor, where the database needs an update."""
        tags, gateways = self._collect_updates(uploads)
        if not tags and not gateways:
            return
        names = sorted(tags.keys() | gateways.keys())
        async with connection.transaction():
            await connection.execute(SQL["lock_sensors"], names)
            for query, updates in (("update_sensor_tags", tags), ("update_sensor_gateway", gateways)):
                if updates:
                    times, texts = zip(*updates.values(), strict=True)
                    await connection.execute(SQL[query], list(updates), texts, times)
            rows = await connection.fetch(SQL["list_descriptions"], names)
        for row in rows:
            self.sensors[row["name"]].tags.update_from_database(row["tags_us"], row["tags"])
            self.sensors[row["name"]].gateway.update_from_database(row["gateway_us"], row["gateway"])

    def _collect_updates(self, uploads: Sequence[Upload]) -> tuple[Descriptions, Descriptions]:
        """Return the tags and the gateways in the uploads that the database needs."""
        tags: Descriptions = {}
        gateways: Descriptions = {}
        for upload in uploads:
            for reading in upload.readings if upload.gateway is not None else ():
                _keep_newest(gateways, reading, str(upload.gateway))
            for reading in upload.readings if upload.has_tags else ():
                if reading.tags is not None:
                    _keep_newest(tags, reading, _as_jsonb_text(reading.tags))
        return (
            {name: newest for name, newest in tags.items() if self.sensors[name].tags.note(*newest)},
            {name: newest for name, newest in gateways.items() if self.sensors[name].gateway.note(*newest)},
        )


def _keep_newest(descriptions: Descriptions, reading: Reading, text: str) -> None:
    """Put the text into `descriptions` if the reading is newer than the one there."""
    newest = (reading.time_us, text)
    if newest > descriptions.get(reading.sensor, _NOTHING):
        descriptions[reading.sensor] = newest


def _description(text: str | None, us: int | None) -> Description:
    return Description() if us is None else Description(text, us, us)


def _as_jsonb_text(tags: Tags) -> str:
    """Return tags exactly as PostgreSQL writes jsonb, so that both compare texts alike."""
    ordered = sorted(tags, key=lambda name: (len(name.encode()), name.encode()))
    return json.dumps({name: tags[name] for name in ordered}, ensure_ascii=False)


def _reject_over_cap(upload: Upload, names: set[SensorName]) -> None:
    if not names:
        return
    kept = []
    for reading in upload.readings:
        if reading.sensor not in names:
            kept.append(reading)
            continue
        upload.rejected.add(
            reading.index,
            "too_many_sensors",
            f"sensor {reading.sensor!r} is new, and the key {upload.api_key.label!r} has brought as many sensors as "
            "it may; raise its limit, or remove what makes ever new names",
            values=len(reading.values),
        )
    upload.keep(kept)
