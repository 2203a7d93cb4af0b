"""The receipt that answers an upload, and what was refused of it."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from app.model import MetricName

#: Number of rejections listed in an answer at most; all are counted.
REJECTIONS_LISTED = 100
#: The same for fields that the format does not have.
FIELDS_LISTED = 20
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
    "value_not_exact",
    "tags_invalid",
    "unit_invalid",
    "reading_invalid",
    "field_unknown",
    "key_repeated",
    "too_many_sensors",
    "too_many_metrics",
    "too_many_series",
    "sensor_not_allowed",
    "sensor_of_other_gateway",
]


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The refusal of one value, of one reading or of one tag; `message` says what to send instead."""

    #: Position of the reading in the body, from 0.
    index: int
    code: RejectionCode
    message: str
    #: Absent when the whole reading was refused.
    metric: MetricName | None = None
    #: The name of a tag that was refused alone. Its reading is stored.
    tag: str | None = None


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to an upload; counts are values, one for each metric of each reading."""

    #: Highest sequence number of the feed rows that hold these readings; null if nothing was new.
    seq: int | None
    accepted: int
    duplicates: int
    rejected: list[Rejection]
    #: A value that was refused alone counts as one, and a reading that was refused as a whole.
    rejected_count: int
    #: What was left out of the upload, and perhaps should not have been; absent when there is nothing.
    warnings: list[str] = []
    #: When the upload came, RFC 3339, for devices without a clock.
    server_time: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """The result of an upload: its receipt, and details that the receipt does not show."""

    receipt: Receipt
    #: Number of rejected values by code.
    rejected_by_code: Mapping[RejectionCode, int] = {}
    #: Id of the record of the replaced sensor server; None if the upload brought no new one.
    legacy_id: int | None = None
    #: Number of duplicates whose value differs from the one that is stored.
    conflicts: int = 0


class Rejected:
    """The rejections of an upload: all are counted, the first REJECTIONS_LISTED are listed."""

    def __init__(self) -> None:
        self.listed: list[Rejection] = []
        self.count = 0
        self.by_code: dict[RejectionCode, int] = {}
        #: Field that the format does not have -> number of times it was left out, for at most FIELDS_LISTED fields.
        self.unknown_fields: dict[str, int] = {}

    def add(self, index: int, code: RejectionCode, message: str, *, metric: str | None = None, count: int = 1) -> None:
        """Add a rejection of a value or a reading, or of `count` readings."""
        self.count += count
        self.by_code[code] = self.by_code.get(code, 0) + count
        self._list(Rejection(index, code, message, metric))

    def add_tag(self, index: int, tag: str, message: str) -> None:
        """Add the rejection of a tag, which is not counted, because its reading is stored."""
        self._list(Rejection(index, "tags_invalid", message, tag=tag))

    def add_unit(self, index: int, message: str, metric: str | None) -> None:
        """Add the rejection of a unit, which is not counted either, because its value is stored."""
        self._list(Rejection(index, "unit_invalid", message, metric))

    def add_unknown_field(self, name: str) -> None:
        """Count a field that was left out; its name is one that messages can show."""
        if name in self.unknown_fields or len(self.unknown_fields) < FIELDS_LISTED:
            self.unknown_fields[name] = self.unknown_fields.get(name, 0) + 1

    def warnings(self) -> list[str]:
        """Return a sentence for each field that was left out."""
        return [
            f"{name} is no field of this format and was left out {count} times"
            for name, count in sorted(self.unknown_fields.items())
        ]

    def copy(self) -> "Rejected":
        """Return a copy, to which more can be added."""
        copied = Rejected()
        copied.listed, copied.count, copied.by_code = [*self.listed], self.count, {**self.by_code}
        copied.unknown_fields = self.unknown_fields
        return copied

    def _list(self, rejection: Rejection) -> None:
        if len(self.listed) < REJECTIONS_LISTED:
            self.listed.append(rejection)
