"""The JSON of Telegraf's output http, as plugins/serializers/json writes it."""

import pytest

from tests.ingest.formats.shapes.shape_bodies import NOW_US, parse

METRIC = {
    "fields": {"usage_idle": 98.5, "value": 1, "up": True, "version": "1.2"},
    "name": "cpu",
    "tags": {"host": "pi1", "cpu": "cpu0"},
    "timestamp": NOW_US // 1_000_000 - 2,
}
VALUES = [
    ("pi1,cpu=cpu0", "cpu_usage_idle", 2_000_000, 98.5),
    ("pi1,cpu=cpu0", "cpu", 2_000_000, 1.0),
    ("pi1,cpu=cpu0", "cpu_up", 2_000_000, 1.0),
]


@pytest.mark.parametrize("body", [METRIC, [METRIC], {"metrics": [METRIC]}], ids=["one", "list", "batch"])
def test_metric_is_named_as_in_line_protocol(body: object) -> None:
    result = parse(body)
    assert (result.values, result.rejected_count) == (VALUES, 0)
    assert result.readings[0].tags == {"cpu": "cpu0"}


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_timestamp_is_taken_in_the_unit_that_its_size_tells(unit: int) -> None:
    given = (NOW_US // 1_000_000 - 1) * unit
    assert [row[2] for row in parse({**METRIC, "timestamp": given}).values] == [1_000_000] * 3


def test_metric_with_texts_alone_is_no_error() -> None:
    result = parse({"metrics": [{**METRIC, "fields": {"version": "1.2"}}, METRIC]})
    assert (result.values, result.rejected) == (VALUES, [])
    assert [reading.index for reading in result.readings] == [1]


def test_bad_metric_is_refused_alone() -> None:
    text = (
        '{"metrics": [5, {"name": "cpu", "fields": 5}, {"name": "cpu", "fields": {"a": nan}, "tags": {"host": "x"}},'
        ' {"name": "cpu", "fields": {"a": 1}, "tags": {"host": [5]}}, {"name": "b", "fields": {"a": 1, "a": 2}},'
        ' {"name": "cpu", "fields": {"a": 1}, "tags": {"host": "x"}, "timestamp": 1e400},'
        ' {"name": "cpu", "fields": {"a": 2}, "tags": {"host": "x"}}]}'
    )
    result = parse(text)
    assert result.values == [("x", "cpu_a", -1, 2.0)]  # the one without a value took the time before
    assert [(index, code) for index, code, _ in result.refusals] == [
        (0, "reading_invalid"),
        (1, "reading_invalid"),
        (2, "value_out_of_range"),
        (3, "reading_invalid"),
        (4, "key_repeated"),
        (5, "time_invalid"),
    ]
    assert result.refusals[2][2] == "cpu_a is nan; send a finite number within ±1e+100"
    assert result.refusals[4][2] == "an object has the key 'a' twice; send it once"


def test_scalar_tags_become_texts() -> None:
    body = {**METRIC, "fields": {"a": 1}, "tags": {"host": 5, "rack": None, "on": True}}
    assert [row[0] for row in parse(body).values] == ["5,on=true"]


def test_misspelt_field_of_a_metric_is_refused_with_the_right_name() -> None:
    """Without its time, the metric would be stored with the time of receipt."""
    late = {name: value for name, value in METRIC.items() if name != "timestamp"}
    result = parse({"metrics": [METRIC, {**late, "time": 1_769_846_399}, {**METRIC, "measurement": "cpu"}]})
    assert result.refusals == [(1, "field_unknown", "there is no field 'time'; did you mean timestamp?")]
    assert result.unknown_fields == {"'measurement'": 1}
