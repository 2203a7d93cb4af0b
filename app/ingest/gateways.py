"""Statistics of gateways: counted in memory, and written every few seconds in a transaction of their own.

Updating a gateway's row in each flush would make that row a bottleneck.
"""

import msgspec
import numpy as np

from app.clock import SECOND_US
from app.db.pool import Pool
from app.errors import UnprocessableError
from app.ingest.sql import SQL
from app.ingest.upload import Receipt, Upload

WRITE_EVERY_S = 5.0
_INTERVALS_KEPT = 20
#: Number of gateways that one API key may upload for.
GATEWAYS_PER_KEY = 1_000


class _GatewayCounts(msgspec.Struct):
    """The counts of one gateway since the last write; times are microseconds since 1970."""

    first_us: int
    last_us: int
    uploads: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    skew_s: float | None = None
    lateness_s: float | None = None
    intervals_s: list[float] = msgspec.field(default_factory=list)
    #: Seconds from the oldest reading to its receipt, of uploads that brought only new readings.
    latenesses_s: list[float] = msgspec.field(default_factory=list)


class GatewayLog:
    """Counts uploads for each (API key, gateway); a gateway without a name has its key's label as name."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _GatewayCounts] = {}
        #: Label of a key -> names of its gateways, at most GATEWAYS_PER_KEY.
        self._known: dict[str, set[str]] = {}

    async def admit(self, pool: Pool, label: str, name: str) -> None:
        """Raise UnprocessableError if the key has as many gateways already, and this is a new one."""
        known = self._known.setdefault(label, set())
        if name in known:
            return
        known |= {row["name"] for row in await pool.fetch(SQL["list_gateways_of_key"], label)}
        if name not in known and len(known) >= GATEWAYS_PER_KEY:
            raise UnprocessableError(
                f"gateway is {name!r}, which is new, and the key {label!r} has {GATEWAYS_PER_KEY:,} gateways already; "
                "give each gateway one name that stays, or use another key for some of them"
            )
        known.add(name)

    def note(self, upload: Upload, receipt: Receipt) -> None:
        """Count one answered upload."""
        label = upload.api_key.label
        name = (label, upload.gateway or label)
        counts = self._counts.get(name)
        if counts is None:
            counts = self._counts[name] = _GatewayCounts(upload.received_us, upload.received_us)
        if counts.uploads:
            counts.intervals_s.append(max(upload.received_us - counts.last_us, 0) / SECOND_US)
            del counts.intervals_s[:-_INTERVALS_KEPT]
        counts.last_us = max(counts.last_us, upload.received_us)
        counts.uploads += 1
        counts.accepted += receipt.accepted
        counts.duplicates += receipt.duplicates
        counts.rejected += receipt.rejected_count
        if upload.value_count:
            times_us = np.frombuffer(upload.readings.times_us, np.int64)
            counts.skew_s = (upload.received_us - int(times_us.max())) / SECOND_US
            counts.lateness_s = (upload.received_us - int(times_us.min())) / SECOND_US
            if receipt.accepted and not receipt.duplicates and not upload.is_import:
                counts.latenesses_s = [*counts.latenesses_s, counts.lateness_s][-_INTERVALS_KEPT:]

    async def write(self, pool: Pool) -> None:
        """Add the counts to the table `gateway`; if that fails, keep them for the next write and raise the error."""
        counts, self._counts = self._counts, {}
        if not counts:
            return
        rows = [(*key, *msgspec.structs.astuple(counts[key])[:-2], *_as_arrays(counts[key])) for key in sorted(counts)]
        try:
            await pool.execute(SQL["upsert_gateways"], *map(list, zip(*rows, strict=True)))
        except BaseException:
            for key, earlier in counts.items():
                later = self._counts.get(key)
                self._counts[key] = earlier if later is None else _join(earlier, later)
            raise


def _join(earlier: _GatewayCounts, later: _GatewayCounts) -> _GatewayCounts:
    """Return the sum of the counts from before a failed write and those from during it."""
    between_s = max(later.first_us - earlier.last_us, 0) / SECOND_US
    return _GatewayCounts(
        earlier.first_us,
        max(earlier.last_us, later.last_us),
        earlier.uploads + later.uploads,
        earlier.accepted + later.accepted,
        earlier.duplicates + later.duplicates,
        earlier.rejected + later.rejected,
        earlier.skew_s if later.skew_s is None else later.skew_s,
        earlier.lateness_s if later.lateness_s is None else later.lateness_s,
        [*earlier.intervals_s, between_s, *later.intervals_s][-_INTERVALS_KEPT:],
        [*earlier.latenesses_s, *later.latenesses_s][-_INTERVALS_KEPT:],
    )


def _as_arrays(counts: _GatewayCounts) -> list[str]:
    """Return the lists as texts of PostgreSQL arrays, because unnest would flatten an array of arrays."""
    return ["{" + ",".join(map(repr, numbers)) + "}" for numbers in (counts.intervals_s, counts.latenesses_s)]
