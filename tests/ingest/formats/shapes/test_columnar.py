"""One series as columns."""

import pytest

from app.errors import InvalidRequestError
from tests.ingest.formats.shapes.shape_bodies import NOW_MS, parse

BODY = {
    "sensor": "cellar",
    "metric": "temperature",
    "times": [NOW_MS - 2_000, "2026-01-31T07:59:59Z", "noon", NOW_MS],
    "values": [1, 2.5, 3, None],
    "unit": "°C",
    "tags": {"site": "harbour"},
}


def test_each_time_is_a_reading_with_the_value_at_its_place() -> None:
    result = parse(BODY)
    assert result.values == [("cellar", "temperature", 2_000_000, 1.0), ("cellar", "temperature", 1_000_000, 2.5)]
    assert [(reading.units, reading.tags) for reading in result.readings] == [
        ({"temperature": "°C"}, {"site": "harbour"})
    ] * 2
    assert [(index, code) for index, code, _ in result.refusals] == [(2, "time_invalid"), (3, "value_not_a_number")]


def test_sensor_is_that_of_the_key_when_there_is_none() -> None:
    body = {name: value for name, value in BODY.items() if name != "sensor"}
    assert {row[0] for row in parse(body).values} == {"key"}
    assert {row[0] for row in parse(body, asked="roof").values} == {"roof"}


def test_gateway_is_noted() -> None:
    assert parse({**BODY, "gateway": " harbour-1 "}).gateway == "harbour-1"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": [NOW_MS]}, "times has 1 items, and the other list more; send a value for each time"),
        ({"values": []}, "values has 0 items, and the other list more; send a value for each time"),
        ({"metric": None}, 'metric is null; send the name of the metric, such as "temperature"'),
    ],
)
def test_columns_that_belong_to_nothing_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse({**BODY, **changed})
    assert str(refused.value) == message


def test_misspelt_field_is_refused_and_an_unknown_one_counted() -> None:
    body = {name: value for name, value in BODY.items() if name != "tags"}
    with pytest.raises(
        InvalidRequestError, match=r"The body has the field 'Tags', which is unknown; did you mean tags\?"
    ):
        parse({**body, "Tags": {}})
    assert parse({**body, "firmware": 5}).unknown_fields == {"'firmware'": 1}
