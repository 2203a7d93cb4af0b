"""Tags, gateways and old names of sensors, for the filters of clients."""

from collections.abc import Iterable

from app.db.pool import Connection, Pool
from app.live.frames import Frame
from app.live.protocol import Filter, Labelled
from app.live.sql import SQL
from app.model import SensorName

#: When this many names were seen, all are forgotten, and each is looked up again when it appears.
NAMES_LIMIT = 200_000


class Labels:
    """Keeps the filters of all open sessions up to date with tags, gateways and old names."""

    def __init__(self) -> None:
        self._filters: set[Filter] = set()
        #: Names that were seen in frames. Any other name may be that of a new or renamed sensor.
        self._seen: set[SensorName] = set()

    async def add(self, wanted: Filter, pool: Pool) -> None:
        """Keep a filter up to date until `remove`; do nothing for one that takes all sensors."""
        if wanted.needs_labels:
            self._filters.add(wanted)
            await self.read(pool)

    def remove(self, wanted: Filter) -> None:
        """Stop keeping a filter up to date."""
        self._filters.discard(wanted)

    async def read(self, pool: Connection | Pool) -> None:
        """Read old names, and the tags and gateways of all sensors if a filter asks for them."""
        if not self._filters:
            return
        renamed = await pool.fetch(SQL["list_old_names"])
        wants_labels = any(wanted.wants_labels for wanted in self._filters)
        labels = await pool.fetch(SQL["list_sensor_labels"]) if wants_labels else []
        # Equal filters share one object, so that comparing two of them does not compare thousands of names.
        selected: dict[object, Labelled] = {}
        for wanted in self._filters:
            if wanted.label_key not in selected:
                selected[wanted.label_key] = wanted.select_labelled(labels, renamed)
            wanted.labelled = selected[wanted.label_key]

    async def read_if_unknown(self, pool: Connection | Pool, frames: Iterable[Frame]) -> None:
        """Read again if one of the frames, not offered yet, has a sensor that was not seen before."""
        if not self._filters:
            return
        names = {reading.sensor for frame in frames if frame.kind == "readings" for reading in frame.readings}
        if not names <= self._seen:
            await self.read(pool)
            if len(self._seen) > NAMES_LIMIT:
                self._seen.clear()
            self._seen |= names
