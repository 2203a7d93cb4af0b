"""Tags, gateways and old names of all sensors, for the filters of clients."""

from collections.abc import Iterable

from app.db.pool import Connection, Pool
from app.live.frames import Frame
from app.live.protocol import Filter, Labelled
from app.live.sql import SQL
from app.model import SensorName


class Labels:
    """Keeps the filters by tag and gateway of all open sessions up to date."""

    def __init__(self) -> None:
        self._filters: set[Filter] = set()
        self._known: set[SensorName] = set()

    async def add(self, wanted: Filter, pool: Pool) -> None:
        """Keep a filter up to date until `remove`; do nothing for one that takes all sensors."""
        if wanted.needs_labels:
            self._filters.add(wanted)
            await self.read(pool)

    def remove(self, wanted: Filter) -> None:
        """Stop keeping a filter up to date."""
        self._filters.discard(wanted)

    async def read(self, pool: Connection | Pool) -> None:
        """Read the tags, gateways and old names of all sensors."""
        if not self._filters:
            return
        rows = await pool.fetch(SQL["list_sensor_labels"])
        # Equal filters share one object, so that comparing two of them does not compare thousands of names.
        selected: dict[object, Labelled] = {}
        for wanted in self._filters:
            if wanted.label_key not in selected:
                selected[wanted.label_key] = wanted.select_labelled(rows)
            wanted.labelled = selected[wanted.label_key]
        # A sensor is inserted before its tags are, and both before its first reading.
        self._known = {row["name"] for row in rows if row["has_readings"]}

    async def read_if_unknown(self, pool: Connection | Pool, frames: Iterable[Frame]) -> None:
        """Read again if one of the frames, not offered yet, has a sensor whose tags are not known."""
        if not self._filters:
            return
        readings = (reading for frame in frames if frame.kind == "readings" for reading in frame.readings)
        if any(reading.sensor not in self._known for reading in readings):
            await self.read(pool)
