from app.ingest.uploads.readings import Readings
from app.model import Reading
from tests.ingest.uploads import SECOND, T0, as_objects

TWO = [
    Reading("a", T0, {"x": 1.0, "y": 2.0}, {"room": "cold"}, 0),
    Reading("b", T0 + SECOND, {"x": 3.0}, None, 1, {"x": "°C"}),
]


def rows(readings: Readings) -> list[tuple[str, str, int, float, int]]:
    names = [readings.series[code] for code in readings.codes]
    return [
        (*name, time, value, index)
        for name, time, value, index in zip(names, readings.times_us, readings.values, readings.indexes, strict=True)
    ]


def test_columns_have_a_row_for_each_value_in_the_order_of_the_body() -> None:
    readings = Readings.of(TWO)
    assert rows(readings) == [
        ("a", "x", T0, 1.0, 0),
        ("a", "y", T0, 2.0, 0),
        ("b", "x", T0 + SECOND, 3.0, 1),
    ]
    assert [each.sensor for each in readings.described] == ["a", "b"]


def test_columns_of_one_reading_are_those_it_has_beside_others() -> None:
    one = Reading("a", T0, {"y": 2.0, "x": 1.5, "z": -1.0})
    alone = Readings.of([one])
    assert rows(alone) == rows(Readings.of([one, Reading("b", T0, {"x": 1.0}, index=1)]))[:3]
    assert sorted(alone.series) == [("a", "x"), ("a", "y"), ("a", "z")]


def test_range_of_times_is_that_of_all_values() -> None:
    for count in (1, 2, 199, 200, 5_000):
        times = [T0 + (number * 7_919) % 10_007 for number in range(count)]
        readings = Readings.of([Reading("a", time, {"x": 1.0}) for time in times])
        assert readings.time_range_us() == (min(times), max(times))


def test_joined_readings_share_the_series_that_several_parts_have() -> None:
    parts = [Readings.of(TWO[:1]), Readings.of(TWO[1:]), Readings.of(TWO[:1])]
    joined = Readings.join(parts)
    assert sorted(joined.series) == [("a", "x"), ("a", "y"), ("b", "x")]
    assert rows(joined) == [*rows(parts[0]), *rows(parts[1]), *rows(parts[2])]


def test_join_of_nothing_has_no_rows() -> None:
    assert rows(Readings.join([])) == []


def test_readings_without_a_series_lose_its_values_and_units() -> None:
    left = Readings.of([*TWO, Reading("b", T0, {"x": 4.0, "z": 5.0}, None, 2, {"x": "°C", "z": "%"})])
    left = left.without({("b", "x")})
    assert rows(left) == [("a", "x", T0, 1.0, 0), ("a", "y", T0, 2.0, 0), ("b", "z", T0, 5.0, 2)]
    assert [(each.sensor, each.units) for each in left.described] == [("a", None), ("b", {"z": "%"})]
    assert {each.sensor for each in as_objects(left)} == {"a", "b"}
