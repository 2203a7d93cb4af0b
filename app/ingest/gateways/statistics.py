"""Statistics of gateways: counted in memory, and written every few seconds in a transaction of their own.

Updating a gateway's row in each flush would make that row a bottleneck.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from app.auth.keys import ApiKey
from app.clock import SECOND_US
from app.db.pool import Pool
from app.errors import AppError, UnprocessableError
from app.ingest.gateways.refusals import Refusals, RefusedUpload
from app.ingest.sql import SQL
from app.ingest.uploads.receipt import FIELDS_LISTED, Outcome
from app.ingest.uploads.upload import Sent, Upload

WRITE_EVERY_S = 5.0
#: Intervals between uploads, and skews of uploads, that are kept of each gateway.
_KEPT = 20
_ARRAYS = ("intervals_s", "latenesses_s", "skews_s", "skews_us")
#: Number of gateways that one API key may upload for.
GATEWAYS_PER_KEY = 1_000


class _GatewayCounts(msgspec.Struct):
    """The counts of one gateway since the last write; times are microseconds since 1970."""

    first_us: int
    last_us: int
    uploads: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    by_code: Counter[str] = msgspec.field(default_factory=Counter)
    skew_s: float | None = None
    lateness_s: float | None = None
    #: When something was last taken: stored, or known already.
    taken_us: int | None = None
    #: Of the last upload, if nothing was taken.
    refused_for: str | None = None
    intervals_s: list[float] = msgspec.field(default_factory=list)
    #: Seconds from the oldest reading to its receipt, of uploads that brought only new readings.
    latenesses_s: list[float] = msgspec.field(default_factory=list)
    skews_s: list[float] = msgspec.field(default_factory=list)
    skews_us: list[int] = msgspec.field(default_factory=list)
    #: How often fields that no format has were left out, and when last.
    unknown_fields: Counter[str] = msgspec.field(default_factory=Counter)
    unknown_us: int | None = None

    def note_upload(self, received_us: int) -> None:
        """Count an upload."""
        if self.uploads:
            self.intervals_s.append(max(received_us - self.last_us, 0) / SECOND_US)
            del self.intervals_s[:-_KEPT]
        self.last_us = max(self.last_us, received_us)
        self.uploads += 1

    def note_skew(self, received_us: int, newest_us: int) -> None:
        """Note how far an upload's newest time is behind that of its receipt."""
        self.skew_s = (received_us - newest_us) / SECOND_US
        self.skews_s.append(self.skew_s)
        self.skews_us.append(received_us)
        del self.skews_s[:-_KEPT], self.skews_us[:-_KEPT]


class GatewayLog:
    """Counts uploads for each (API key, gateway); a gateway without a name has its key's label as name."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _GatewayCounts] = {}
        self.refusals = Refusals()
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

    def note(self, upload: Upload, outcome: Outcome) -> None:
        """Count one answered upload."""
        receipt, label = outcome.receipt, upload.api_key.label
        counts = self._counts_of(label, upload.gateway or label, upload.received_us)
        counts.accepted += receipt.accepted
        counts.duplicates += receipt.duplicates
        counts.conflicts += outcome.conflicts
        taken = receipt.accepted or receipt.duplicates
        if taken:
            counts.taken_us, counts.refused_for = upload.received_us, None
        if receipt.rejected_count:
            counts.rejected += receipt.rejected_count
            counts.by_code.update(outcome.rejected_by_code)
            if not taken:
                counts.refused_for = max(outcome.rejected_by_code, key=lambda code: outcome.rejected_by_code[code])
            self.refusals.add(RefusedUpload.of(upload, outcome))
        if upload.rejected.unknown_fields:
            counts.unknown_fields.update({name.strip("'"): n for name, n in upload.rejected.unknown_fields.items()})
            counts.unknown_us = upload.received_us
        if upload.value_count:
            oldest_us, newest_us = upload.readings.time_range_us()
            counts.lateness_s = (upload.received_us - oldest_us) / SECOND_US
            counts.note_skew(upload.received_us, newest_us)
            if receipt.accepted and not receipt.duplicates and not upload.is_import:
                counts.latenesses_s = [*counts.latenesses_s, counts.lateness_s][-_KEPT:]
        elif upload.newest_refused_us is not None:
            counts.note_skew(upload.received_us, upload.newest_refused_us)

    def note_refused(self, api_key: ApiKey, received_us: int, sent: Sent, error: AppError) -> None:
        """Count an upload that was refused as a whole. Its gateway is known only if the key is bound."""
        gateway = api_key.label if api_key.binding is None else api_key.binding.gateway
        self._counts_of(api_key.label, gateway, received_us).refused_for = error.code
        self.refusals.add(RefusedUpload(gateway, api_key.label, received_us, sent, error=str(error)))

    def _counts_of(self, label: str, gateway: str, received_us: int) -> _GatewayCounts:
        """Return the counts of a gateway, in which an upload is counted."""
        counts = self._counts.get((label, gateway))
        if counts is None:
            counts = self._counts[label, gateway] = _GatewayCounts(received_us, received_us)
        counts.note_upload(received_us)
        return counts

    async def write(self, pool: Pool) -> None:
        """Add the counts to the table `gateway`; if that fails, keep them for the next write and raise the error."""
        await self.refusals.write(pool)
        counts, self._counts = self._counts, {}
        if not counts:
            return
        rows = [(*key, *_as_fields(counts[key])) for key in sorted(counts)]
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
        earlier.conflicts + later.conflicts,
        earlier.rejected + later.rejected,
        earlier.by_code + later.by_code,
        earlier.skew_s if later.skew_s is None else later.skew_s,
        earlier.lateness_s if later.lateness_s is None else later.lateness_s,
        earlier.taken_us if later.taken_us is None else later.taken_us,
        later.refused_for,
        [*earlier.intervals_s, between_s, *later.intervals_s][-_KEPT:],
        [*earlier.latenesses_s, *later.latenesses_s][-_KEPT:],
        [*earlier.skews_s, *later.skews_s][-_KEPT:],
        [*earlier.skews_us, *later.skews_us][-_KEPT:],
        earlier.unknown_fields + later.unknown_fields,
        earlier.unknown_us if later.unknown_us is None else later.unknown_us,
    )


def _as_fields(counts: _GatewayCounts) -> Sequence[object]:
    """Return the counts as the statement takes them: arrays as texts, because unnest would flatten arrays of arrays."""
    fields: Mapping[str, object] = msgspec.structs.asdict(counts)
    texts = {name: _as_array(getattr(counts, name)) for name in _ARRAYS}
    unknown = dict(counts.unknown_fields.most_common(FIELDS_LISTED))
    return list({**fields, "by_code": dict(counts.by_code), **texts, "unknown_fields": unknown}.values())


def _as_array(numbers: Sequence[float]) -> str:
    """Return numbers as the text of a PostgreSQL array."""
    return "{" + ",".join(map(repr, numbers)) + "}"
