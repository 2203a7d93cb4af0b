"""The readings of an upload as columns."""

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import count

import msgspec
import numpy as np

from app.model import MetricName, Reading, SensorName

Series = tuple[SensorName, MetricName]
EncodedSeries = tuple[list[Series], "array[int]"]
#: From this number of times on, NumPy finds the oldest and the newest faster.
_MANY = 200


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

    def time_range_us(self) -> tuple[int, int]:
        """Return the oldest and the newest time; there is at least one value."""
        if len(self.times_us) < _MANY:
            return min(self.times_us), max(self.times_us)
        times_us = np.frombuffer(self.times_us, np.int64)
        return int(times_us.min()), int(times_us.max())

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
    if len(sensors) == 1:  # the most frequent upload has one reading
        return [(sensor, metric) for sensor in sensors for metric in values[0]], array("q", range(len(values[0])))
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
