"""Owners of sensors: the gateway that registered a sensor sets its tags, and keys of others may not write to it."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from app.auth.keys import IMPORT_LABEL
from app.clock import MINUTE_US
from app.db.pool import Connection
from app.ingest.checks import Refusal
from app.ingest.sql import SQL
from app.ingest.uploads.upload import Upload
from app.model import SensorName

#: Sensors of other gateways that are noted between two writes, and time after which one is noted again.
_NOTED_AT_ONCE: Final = 1_000
_NOTED_AGAIN_US: Final = 10 * MINUTE_US
#: Sensors of other gateways that a process remembers to have noted.
_REMEMBERED: Final = 20_000


class Owned(Protocol):
    """What is known of a sensor's origin."""

    id: int
    #: Label of the API key that registered it.
    created_by: str
    #: The gateway that registered it, if one was named, or the one that an operator has set.
    owner: str | None


def may_describe(sensor: Owned, upload: Upload) -> bool:
    """Return whether the upload's tags count: it is of the key or the gateway that registered the sensor, or an import.

    All gateways of a key that is not bound count as one: only the body says which of them has sent it.
    """
    if upload.is_import or (upload.api_key.binding is None and upload.api_key.label == sensor.created_by):
        return True
    return _is_own(sensor, upload.gateway, upload.api_key.label)


class OwnNames:
    """Remembers the names of each gateway's own sensors, because a check of every sensor takes too long."""

    def __init__(self) -> None:
        #: By gateway, or None, and label of the key.
        self._own: dict[tuple[str | None, str], set[SensorName]] = {}

    def find_foreign(self, upload: Upload, sensors: Mapping[SensorName, Owned]) -> list[tuple[SensorName, Owned]]:
        """Return the known sensors in the upload, by the name as sent, that another gateway has registered."""
        gateway, label = upload.gateway, upload.api_key.label
        own = self._own.setdefault((gateway, label), set())
        unsure = {name for name, _ in upload.readings.series if name not in own}
        foreign = []
        for name in unsure:
            sensor = sensors.get(name)
            if sensor is None:
                continue
            if _is_own(sensor, gateway, label):
                own.add(name)
            else:
                foreign.append((name, sensor))
        return foreign


def _is_own(sensor: Owned, gateway: str | None, label: str) -> bool:
    """Return whether the gateway has registered the sensor.

    A gateway without a name goes by the label of its key. Sensors that were imported are nobody's.
    """
    if sensor.owner is not None:
        return gateway == sensor.owner or (gateway is None and label == sensor.created_by)
    return sensor.created_by in (label, gateway, IMPORT_LABEL)


def list_claims(upload: Upload, foreign: Iterable[tuple[SensorName, Owned]]) -> list[int]:
    """Return the ids of the sensors without an owner, which the gateway of the bound key takes over.

    The key must say itself which sensors are its own, by a pattern or a prefix.
    """
    binding = upload.api_key.binding
    if binding is None or not (binding.sensors or binding.prefix):
        return []
    return sorted({sensor.id for _, sensor in foreign if sensor.owner is None})


def refuse_foreign(name: SensorName, sensor: Owned, upload: Upload) -> Refusal:
    """Return the refusal of a sensor that another gateway has registered."""
    whose = f"the gateway {sensor.owner!r}" if sensor.owner else f"the key {sensor.created_by!r}"
    return "sensor_of_other_gateway", (
        f"sensor {name!r} was registered by {whose}, not by the gateway {upload.gateway!r} of this key; give the key a "
        "--prefix, or set the sensor's owner"
    )


class ForeignSensors:
    """Notes which gateways send readings of sensors that others have registered, for a warning to operators."""

    def __init__(self) -> None:
        #: (sensor id, gateway) -> time of the last upload, not written yet.
        self._noted: dict[tuple[int, str], int] = {}
        #: The same, as last written.
        self._written: dict[tuple[int, str], int] = {}

    def note(self, upload: Upload, foreign: Iterable[tuple[SensorName, Owned]]) -> None:
        """Note the foreign sensors of an upload, unless they were noted minutes ago or too many are."""
        gateway = upload.gateway or upload.api_key.label
        for _, sensor in foreign:
            pair = (sensor.id, gateway)
            if upload.received_us - self._written.get(pair, 0) < _NOTED_AGAIN_US:
                continue
            if pair in self._noted or len(self._noted) < _NOTED_AT_ONCE:
                self._noted[pair] = upload.received_us

    async def write(self, connection: Connection) -> None:
        """Write what was noted, and remove what is a day old."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        if len(self._written) > _REMEMBERED:
            self._written.clear()
        pairs = sorted(noted)
        ids, gateways = zip(*pairs, strict=True)
        await connection.execute(SQL["upsert_foreign_sensors"], ids, gateways, [noted[pair] for pair in pairs])
        self._written.update(noted)


async def claim(connection: Connection, ids: list[int], gateway: str) -> list[tuple[int, str | None]]:
    """Make the gateway the owner of sensors that have none; return each id with the owner that it has now."""
    async with connection.transaction():
        await connection.execute(SQL["lock_sensors"], ids)
        await connection.execute(SQL["claim_sensors"], ids, gateway)
        return [(row["id"], row["owner"]) for row in await connection.fetch(SQL["list_owners"], ids)]
