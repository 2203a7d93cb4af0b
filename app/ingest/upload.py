"""An upload of one request with its readings as columns, and the receipt that answers it."""

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Literal

import msgspec
import numpy as np

from app.auth.keys import ApiKey
from app.clock import rfc3339
from app.model import MetricName, Reading, SensorName

#: About how many bytes of memory a value takes, and a reading with tags or units beside its values (measured).
VALUE_BYTES, DESCRIBED_BYTES = 40, 800
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


def make_receipt(upload: "Upload", accepted: int, seq: int | None = None) -> Receipt:
    """Return the answer to an upload; `accepted` of its values were new."""
    rejected = upload.rejected
    return Receipt(
        seq,
        accepted,
        upload.value_count - accepted,
        rejected.listed,
        rejected.count,
        rejected.warnings(),
        rfc3339(upload.received_us),
    )


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


Series = tuple[SensorName, MetricName]
EncodedSeries = tuple[list[Series], "array[int]"]


class Readings(msgspec.Struct, frozen=True, eq=False):
    """The readings of an upload as columns with a row for each value, in the order of the body.

    As objects, each later step would have to loop over thousands of readings of a large batch.
    """

    #: Each series once.
    series: list[Series]
    #: Position in `series` of each value.
    codes: "array[int]"
    #: Microseconds since 1970.
    times_us: "array[int]"
    values: "array[float]"
    #: Position in the body of the reading that each value belongs to.
    indexes: Sequence[int]
    #: The readings that bring tags or units, as objects.
    described: Sequence[Reading] = ()

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> "Readings":
        """Return readings as columns."""
        values = [reading.values for reading in readings]
        return collect_readings(
            encode_series([reading.sensor for reading in readings], values),
            [reading.time_us for reading in readings],
            values,
            [reading.index for reading in readings],
            [reading for reading in readings if reading.tags is not None or reading.units is not None],
        )

    @classmethod
    def join(cls, parts: Sequence["Readings"]) -> "Readings":
        """Return the readings of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        # The loop below turns an empty list into columns without rows.
        places: dict[Series, int] = {}
        codes = array("q")
        for part in parts:
            of_part = np.array([places.setdefault(series, len(places)) for series in part.series], np.int64)
            codes.frombytes(of_part[np.frombuffer(part.codes, np.int64)].tobytes() if part.series else b"")
        return cls(
            [*places],
            codes,
            array("q", b"".join([part.times_us for part in parts])),
            array("d", b"".join([part.values for part in parts])),
            [index for part in parts for index in part.indexes],
            [reading for part in parts for reading in part.described],
        )

    def without(self, refused: Collection[Series]) -> "Readings":
        """Return the values of all other series."""
        kept = [code for code, series in enumerate(self.series) if series not in refused]
        codes = {code: place for place, code in enumerate(kept)}
        sensors = {self.series[code][0] for code in kept}
        rows = [row for row, code in enumerate(self.codes) if code in codes]
        return Readings(
            [self.series[code] for code in kept],
            array("q", [codes[self.codes[row]] for row in rows]),
            array("q", [self.times_us[row] for row in rows]),
            array("d", [self.values[row] for row in rows]),
            [self.indexes[row] for row in rows],
            [
                left
                for reading in self.described
                if reading.sensor in sensors and (left := _without(reading, refused)) is not None
            ],
        )


def _without(reading: Reading, refused: Collection[Series]) -> Reading | None:
    """Return a reading without its values and units of these series; None if no value is left."""
    values = {metric: value for metric, value in reading.values.items() if (reading.sensor, metric) not in refused}
    if len(values) == len(reading.values):  # this includes a reading that only describes its sensor
        return reading
    units = {metric: unit for metric, unit in (reading.units or {}).items() if metric in values}
    return msgspec.structs.replace(reading, values=values, units=units or None) if values else None


def encode_series(sensors: Sequence[SensorName], values: Sequence[Mapping[MetricName, float]]) -> EncodedSeries:
    """Return each series of some readings once, and for each value the position of its series.

    Each pass over the readings of a large batch takes a tenth of the time of decoding them. So there are few passes,
    and each one is a comprehension.
    """
    sensor_codes = defaultdict[SensorName, int](count().__next__)
    of_sensors = [sensor_codes[sensor] for sensor in sensors]
    metrics = sorted(set[MetricName]().union(*values))
    if len(metrics) == 1:
        return [(sensor, metrics[0]) for sensor in sensor_codes], array("q", of_sensors)
    metric_codes = {metric: code for code, metric in enumerate(metrics)}
    of_metrics = [metric_codes[metric] for of_reading in values for metric in of_reading]
    if len(sensor_codes) == 1:
        return [(sensor, metric) for sensor in sensor_codes for metric in metrics], array("q", of_metrics)
    pairs = np.array(_repeat(of_sensors, values), np.int64) * len(metrics) + np.array(of_metrics, np.int64)
    found, codes = np.unique(pairs, return_inverse=True)
    names = [*sensor_codes]
    series = [(names[pair // len(metrics)], metrics[pair % len(metrics)]) for pair in found.tolist()]
    return series, array("q", codes.astype(np.int64).tobytes())


def collect_readings(
    encoded: EncodedSeries,
    times_us: Sequence[int],
    values: Sequence[Mapping[MetricName, float]],
    indexes: Sequence[int],
    described: Sequence[Reading],
) -> Readings:
    """Return readings, whose times, values and indexes are given in lists of one length, with a row for each value."""
    series, codes = encoded
    if len(codes) > len(values):
        times_us, indexes = _repeat(times_us, values), _repeat(indexes, values)
    flat = [value for of_reading in values for value in of_reading.values()]
    return Readings(series, codes, array("q", times_us), array("d", flat), indexes, described)


def _repeat(column: Sequence[int], values: Sequence[Mapping[MetricName, float]]) -> Sequence[int]:
    """Repeat the item of each reading for each of its values."""
    return [item for item, of_reading in zip(column, values, strict=True) for _ in of_reading]


class Upload(msgspec.Struct, frozen=True):
    """One parsed request, on its way into the database."""

    readings: Readings
    rejected: Rejected
    #: Microseconds since 1970.
    received_us: int
    api_key: ApiKey
    gateway: str | None = None
    client_ip: str = ""
    idempotency: "Idempotency | None" = None
    #: Whether the answer needs the id of a record of the replaced sensor server.
    wants_legacy_id: bool = False
    #: Whether a reading has no time of its own, so that sending it again makes another reading.
    is_untimed: bool = False
    #: Whether an operator imports a file; see the statement `upsert_state_of_import`.
    is_import: bool = False
    #: Of the readings that were refused for their time, the newest time.
    newest_refused_us: int | None = None
    #: What the gateway's refusals show of the request.
    sent: "Sent | None" = None

    @property
    def value_count(self) -> int:
        """Number of values to store, one for each metric of each reading."""
        return len(self.readings.values)

    @property
    def byte_count(self) -> int:
        """About how many bytes it takes while it waits."""
        return self.value_count * VALUE_BYTES + len(self.readings.described) * DESCRIBED_BYTES


class Sent(msgspec.Struct, frozen=True):
    """What is kept of a request for the case that something of it is refused."""

    #: The address as a pattern, so that it holds no key.
    path: str
    #: The beginning of the body, decompressed if it could be.
    beginning: bytes
    #: The key that the request carried in a header. It is not shown.
    key: str | None = None


class Idempotency(msgspec.Struct, frozen=True):
    """The Idempotency-Key of a request, and the hash of its body, by which a retry is recognized."""

    key: str
    body_sha256: bytes
