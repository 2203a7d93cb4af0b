"""Registration of sensors and series: a series id for each pair of sensor and metric."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from app.db.pool import Connection
from app.errors import OverloadedError
from app.ingest.checks import Refusal
from app.ingest.gateways.binding import reject_sensors
from app.ingest.gateways.owners import ForeignSensors, OwnNames, claim, list_claims, refuse_foreign
from app.ingest.series.descriptions import Description, DescriptionStore, Sensor
from app.ingest.series.limits import SENSORS_PER_KEY, refuse_series, reject_new_sensors, reject_series
from app.ingest.series.parts import ROWS_AT_ONCE, parts
from app.ingest.sql import SQL
from app.ingest.uploads.readings import Series
from app.ingest.uploads.upload import Upload
from app.model import MetricName, SensorName, SeriesId
from app.tasks import run_off_loop


class SensorsChangedError(OverloadedError):
    """An operator has changed sensors since this process loaded them, so they must be loaded again."""

    def __init__(self) -> None:
        super().__init__("Sensors were being changed. Keep the data and send them again.")


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
        self._descriptions = DescriptionStore(self.sensors, self._by_id)
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
        """Return an upload as `register` would, without storing anything; new sensors and series get negative ids."""
        await self._load(connection, list({name for name, _ in upload.readings.series}))
        if upload.api_key.binding is not None:
            (upload,) = await self.refuse_foreign(connection, [upload], claims=False)
        new = sorted(self._unknown([upload]).keys() - self.sensors.keys())
        room = await self._room(connection, upload, {}) if new else 0
        upload = await run_off_loop(upload.value_count, reject_new_sensors, upload, set(new[room:]))
        for number, name in enumerate(new[:room], 1):
            sensor = Sensor(-number, name, upload.api_key.label, upload.gateway, {}, Description(), Description())
            self.sensors[name], self.series_of[name] = sensor, sensor.series
        refused = await self._find_too_many(connection, self._unknown([upload]))
        upload = await run_off_loop(upload.value_count, reject_series, upload, refused)
        unknown = [(name, metric) for name, metrics in self._unknown([upload]).items() for metric in sorted(metrics)]
        for number, (name, metric) in enumerate(unknown, 1):
            self.sensors[name].series[metric] = SeriesId(-number)
        return upload

    async def refuse_foreign(
        self, connection: Connection, uploads: Sequence[Upload], *, claims: bool = True
    ) -> list[Upload]:
        """Return the uploads; those of bound keys without the readings of other gateways' sensors, which are rejected.

        A bound key with a pattern or a prefix takes over the sensors that have no owner. Without `claims`, the upload
        is treated as if it had, and nothing is stored.
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

    async def describe(self, connection: Connection, uploads: Sequence[Upload]) -> None:
        """Store tags, gateways and units from the uploads where the database needs an update; see DescriptionStore."""
        for upload in uploads:
            if not upload.is_import and (foreign := self._own_names.find_foreign(upload, self.sensors)):
                self._foreign.note(upload, foreign)
        await self._descriptions.store(connection, uploads)

    async def store_seen(self, connection: Connection) -> None:
        """Store what only this process knows: times of the newest tags and gateways, and uploads of foreign sensors."""
        await self._descriptions.store_seen(connection)
        await self._foreign.write(connection)

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
            uploads = [await run_off_loop(upload.value_count, reject_series, upload, refused) for upload in uploads]
            unknown = await run_off_loop(value_count, self._unknown, uploads)
        for names in parts(sorted(unknown)):
            missing = [(self.sensors[name].id, metric) for name in names for metric in unknown[name]]
            await connection.execute(SQL["insert_series"], *map(list, zip(*missing, strict=True)))
        await self._load(connection, sorted(unknown))
        return uploads

    async def _load(self, connection: Connection, names: Sequence[SensorName]) -> None:
        for some in parts(names):
            self._add(await connection.fetch(SQL["find_series"], some))

    def _add(self, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            sensor = self.sensors.get(row["given_name"]) or self._add_sensor(row)
            if (series_id := row["series_id"]) is not None:
                sensor.series[row["metric"]] = series_id
                self.names[series_id] = (sensor.name, row["metric"])
                if row["unit_us"] is not None:
                    self._descriptions.units_us[series_id] = row["unit_us"]
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
            Description.stored(row["tags"], row["tags_us"]),
            Description.stored(row["gateway"], row["gateway_us"]),
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
        for some in parts(sorted(owner)):
            labels, gateways = [owner[name].api_key.label for name in some], [owner[name].gateway for name in some]
            await connection.execute(SQL["insert_sensors"], some, labels, gateways)
        await self._load(connection, list(owner))
        nobodys = new - owner.keys()
        return [
            await run_off_loop(upload.value_count, reject_new_sensors, upload, own | nobodys)
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
            if not number % ROWS_AT_ONCE:
                await asyncio.sleep(0)
            sensor = self.sensors[name]
            stored = await self._count_series(connection, sensor.created_by)
            for metric in sorted(unknown[name]):
                metrics, series = len(sensor.series) + of_sensor[sensor.id], stored + of_key[sensor.created_by]
                if (refusal := refuse_series(name, metrics, sensor.created_by, series)) is not None:
                    refused[name, metric] = refusal
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


def _find_wanted(upload: Upload, new: set[SensorName], owner: Mapping[SensorName, str]) -> list[SensorName]:
    """Return the new sensors that this upload is the first to bring, in order."""
    return sorted({sensor for sensor, _ in upload.readings.series} & new - owner.keys())
