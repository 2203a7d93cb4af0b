"""From (sensor, metric) to the small integer that a reading is stored under, and what is known of sensors."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from app.clock import HOUR_US
from app.db.pool import Connection
from app.db.queries import load_queries
from app.ingest.upload import Upload
from app.model import MetricName, Reading, SensorName, SeriesId, Tags

#: New sensors that one API key may bring in all, unless its own limits say otherwise.
SENSORS_PER_KEY = 100_000

SQL = load_queries(Path(__file__).with_name("queries.sql"))
_NEVER = -(2**62)
#: Event time and text of the newest reading that said something of its sensor.
News = dict[SensorName, tuple[int, str]]


class Said(msgspec.Struct):
    """Something that readings say of their sensor; of two, the one with the newer reading counts."""

    text: str | None = None
    #: Event time of the newest reading that said so, and the time that the database knows.
    seen_us: int = _NEVER
    stored_us: int = _NEVER

    def is_news(self, us: int, text: str) -> bool:
        """Tell whether the database should hear of it: another text, or the same after long."""
        if us < self.seen_us:
            return False
        return text != self.text or us - self.stored_us > HOUR_US


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
        async with connection.transaction():
            await connection.execute(SQL["lock_sensors"], sorted(tags.keys() | gateways.keys()))
            for query, news in (("update_sensor_tags", tags), ("update_sensor_gateway", gateways)):
                if news:
                    times, texts = zip(*news.values(), strict=True)
                    await connection.execute(SQL[query], list(news), texts, times)
        for name, (us, text) in tags.items():
            self.sensors[name].tags = Said(text, us, us)
        for name, (us, text) in gateways.items():
            self.sensors[name].gateway = Said(text, us, us)

    def _collect_news(self, uploads: Sequence[Upload]) -> tuple[News, News]:
        """Collect what the uploads say of tags and of gateways that the database does not know yet."""
        tags: News = {}
        gateways: News = {}
        for upload in uploads:
            for reading in upload.readings if upload.gateway is not None else ():
                _note(gateways, self.sensors[reading.sensor].gateway, reading, str(upload.gateway))
            for reading in upload.readings if upload.has_tags else ():
                if reading.tags is not None:
                    _note(tags, self.sensors[reading.sensor].tags, reading, _as_jsonb_text(reading.tags))
        return tags, gateways


def _said(text: str | None, us: int | None) -> Said:
    return Said() if us is None else Said(text, us, us)


def _note(news: News, said: Said, reading: Reading, text: str) -> None:
    """Keep what a reading says when it is news; at the same time the greater text wins, as in the database."""
    if said.is_news(reading.time_us, text):
        news[reading.sensor] = max(news.get(reading.sensor, (_NEVER, "")), (reading.time_us, text))
    elif text == said.text:
        said.seen_us = max(said.seen_us, reading.time_us)


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
