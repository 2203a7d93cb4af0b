"""From (sensor, metric) to the small integer that a reading is stored under, and what is known of sensors."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.clock import HOUR_US
from app.db.pool import Connection
from app.ingest.sql import SQL
from app.ingest.upload import Upload
from app.model import MetricName, Reading, SensorName, SeriesId, Tags

#: New sensors that one API key may bring in all, unless its own limits say otherwise.
SENSORS_PER_KEY = 100_000

_NEVER = -(2**62)
_NOTHING = (_NEVER, "")
#: Event time and text of the newest reading that said something of its sensor; at one time the greater text.
Descriptions = dict[SensorName, tuple[int, str]]


class Said(msgspec.Struct):
    """Something that readings say of their sensor; of two, the one with the newer reading counts."""

    text: str | None = None
    #: Event time of the newest reading that said so, and the time that the database knows.
    seen_us: int = _NEVER
    stored_us: int = _NEVER

    def hear(self, us: int, text: str) -> bool:
        """Take note of what the newest reading of a flush says; tell whether the database should hear of it, too.

        It should of another text, and of the same after long; of two texts of one time the greater counts.
        """
        if (us, text) < (self.seen_us, self.text or ""):
            return False
        if text == self.text and us - self.stored_us <= HOUR_US:
            self.seen_us = us
            return False
        return True

    def learn(self, us: int | None, text: str | None) -> None:
        """Take over what the database holds by now: what other readings say may have won over ours."""
        if us is not None and text is not None and (us, text) > (self.stored_us, self.text or ""):
            self.text, self.stored_us = text, us
            self.seen_us = max(self.seen_us, us)


class Sensor(msgspec.Struct):
    """What this process knows of a sensor."""

    series: dict[MetricName, SeriesId]
    tags: Said
    gateway: Said


class SeriesRegistry:
    """Every sensor and series seen so far by this process; unknown ones are looked up, then registered.

    Registration is a transaction of its own before the flush: a sensor without readings does no harm, and a flush
    that is rolled back need not forget anything.
    """

    def __init__(self) -> None:
        self.sensors: dict[SensorName, Sensor] = {}
        #: The same series as in `sensors`, for the one look-up that every reading needs.
        self.series_of: dict[SensorName, dict[MetricName, SeriesId]] = {}
        self.names: dict[SeriesId, tuple[SensorName, MetricName]] = {}
        self._lock = asyncio.Lock()

    async def register(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Make every series of the uploads known; move readings over a key's cap to its rejections."""
        async with self._lock:
            await self._register(connection, uploads)

    def _unknown(self, uploads: Iterable[Upload]) -> dict[SensorName, set[MetricName]]:
        """Collect the metrics of each sensor that have no series yet, as far as this process knows."""
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
                sensor = Sensor({}, _said(row["tags"], row["tags_us"]), _said(row["gateway"], row["gateway_us"]))
                self.sensors[row["name"]] = sensor
                self.series_of[row["name"]] = sensor.series
            if row["id"] is not None:
                sensor.series[row["metric"]] = row["id"]
                self.names[row["id"]] = (row["name"], row["metric"])

    async def _insert_sensors(self, connection: Connection, uploads: Sequence[Upload], new: set[SensorName]) -> None:
        """Insert new sensors, each under the key that brought it, as far as the key's cap allows."""
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
        """Store the tags and the gateway that the newest reading of each sensor brought, where they are news."""
        tags, gateways = self._collect_news(uploads)
        if not tags and not gateways:
            return
        names = sorted(tags.keys() | gateways.keys())
        async with connection.transaction():
            await connection.execute(SQL["lock_sensors"], names)
            for query, news in (("update_sensor_tags", tags), ("update_sensor_gateway", gateways)):
                if news:
                    times, texts = zip(*news.values(), strict=True)
                    await connection.execute(SQL[query], list(news), texts, times)
            rows = await connection.fetch(SQL["list_descriptions"], names)
        for row in rows:
            self.sensors[row["name"]].tags.learn(row["tags_us"], row["tags"])
            self.sensors[row["name"]].gateway.learn(row["gateway_us"], row["gateway"])

    def _collect_news(self, uploads: Sequence[Upload]) -> tuple[Descriptions, Descriptions]:
        """Collect what the uploads say of tags and of gateways that the database does not know yet."""
        tags: Descriptions = {}
        gateways: Descriptions = {}
        for upload in uploads:
            for reading in upload.readings if upload.gateway is not None else ():
                _note(gateways, reading, str(upload.gateway))
            for reading in upload.readings if upload.has_tags else ():
                if reading.tags is not None:
                    _note(tags, reading, _as_jsonb_text(reading.tags))
        return (
            {name: said for name, said in tags.items() if self.sensors[name].tags.hear(*said)},
            {name: said for name, said in gateways.items() if self.sensors[name].gateway.hear(*said)},
        )


def _note(news: Descriptions, reading: Reading, text: str) -> None:
    """Keep what the newest reading says."""
    said = (reading.time_us, text)
    if said > news.get(reading.sensor, _NOTHING):
        news[reading.sensor] = said


def _said(text: str | None, us: int | None) -> Said:
    return Said() if us is None else Said(text, us, us)


def _as_jsonb_text(tags: Tags) -> str:
    """Write tags exactly as PostgreSQL writes jsonb, so that both order texts alike."""
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
