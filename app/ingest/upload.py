"""An upload of one request, and the receipt that answers it."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import force_setattr

from app.auth.keys import ApiKey
from app.model import MetricName, Reading

#: Number of rejections listed in an answer at most; all are counted.
REJECTIONS_LISTED = 100

RejectionCode = Literal[
    "sensor_invalid",
    "metric_invalid",
    "values_missing",
    "value_not_a_number",
    "value_out_of_range",
    "time_invalid",
    "time_without_zone",
    "time_in_future",
    "time_too_old",
    "tags_invalid",
    "unit_invalid",
    "reading_invalid",
    "too_many_sensors",
]


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The refusal of one value, or of all values of one reading; `message` says what to send instead."""

    #: Position of the reading in the body, from 0.
    index: int
    code: RejectionCode
    message: str
    #: Absent when the whole reading was refused.
    metric: MetricName | None = None


class Receipt(msgspec.Struct, frozen=True):
    """The answer to an upload; counts are values, one for each metric of each reading."""

    #: Highest sequence number of the feed rows that hold these readings; null if nothing was new.
    seq: int | None
    accepted: int
    duplicates: int
    rejected: list[Rejection]
    rejected_count: int


class Outcome(msgspec.Struct, frozen=True):
    """What became of an upload: its receipt, and what the receipt does not show."""

    receipt: Receipt
    #: Number of rejected values by code.
    rejected_by_code: Mapping[RejectionCode, int] = {}
    #: Id of the record of the replaced sensor server; None if the upload brought no new one.
    legacy_id: int | None = None


class Rejected:
    """The rejections of an upload: all are counted, the first REJECTIONS_LISTED are listed."""

    def __init__(self) -> None:
        self.listed: list[Rejection] = []
        self.count = 0
        self.by_code: dict[RejectionCode, int] = {}

    def add(self, index: int, code: RejectionCode, message: str, *, metric: str | None = None, values: int = 1) -> None:
        """Add a rejection that counts as `values` values, at least 1."""
        self.count += max(values, 1)
        self.by_code[code] = self.by_code.get(code, 0) + max(values, 1)
        if len(self.listed) < REJECTIONS_LISTED:
            self.listed.append(Rejection(index, code, message, metric))

    def copy(self) -> "Rejected":
        """Return a copy, to which more can be added."""
        copied = Rejected()
        copied.listed, copied.count, copied.by_code = [*self.listed], self.count, {**self.by_code}
        return copied


class Upload(msgspec.Struct, frozen=True):
    """One parsed request, on its way into the database."""

    readings: list[Reading]
    rejected: Rejected
    #: Microseconds since 1970.
    received_us: int
    api_key: ApiKey
    gateway: str | None = None
    client_ip: str = ""
    idempotency: "Idempotency | None" = None
    #: Whether the answer needs the id of a record of the replaced sensor server.
    wants_legacy_id: bool = False
    #: Whether an operator imports a file; see the statement `upsert_state_of_import`.
    is_import: bool = False

    #: Values to store, one for each metric of each reading. This and the next two follow from `readings`.
    value_count: int = 0
    #: Whether any reading has tags, and whether any has units.
    has_tags: bool = False
    has_units: bool = False

    def __post_init__(self) -> None:
        """Compute what follows from the readings, once."""
        force_setattr(self, "value_count", sum([len(reading.values) for reading in self.readings]))
        force_setattr(self, "has_tags", any(reading.tags is not None for reading in self.readings))
        force_setattr(self, "has_units", any(reading.units is not None for reading in self.readings))


class Idempotency(msgspec.Struct, frozen=True):
    """The Idempotency-Key of a request, and the hash of its body, by which a retry is recognized."""

    key: str
    body_sha256: bytes
