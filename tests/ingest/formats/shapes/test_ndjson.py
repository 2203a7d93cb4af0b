"""A JSON value a line."""

import pytest

from tests.ingest.formats.shapes.shape_bodies import NOW_MS, NOW_US, parse

TYPE = "application/x-ndjson"
LINES = [
    f'{{"sensor": "a", "time": {NOW_MS - 1_000}, "values": {{"t": 1}}}}',
    "",
    f'{{"ts": {NOW_MS - 2_000}, "values": {{"t": 2}}}}\r',
    f'{{"name": "cpu", "fields": {{"idle": 3}}, "tags": {{"host": "b"}}, "timestamp": {NOW_US // 1_000_000 - 3}}}',
]
VALUES = [("a", "t", 1_000_000, 1.0), ("key", "t", 2_000_000, 2.0), ("b", "cpu_idle", 3_000_000, 3.0)]


@pytest.mark.parametrize("ending", ["", "\n", "\n\0\0"])
@pytest.mark.parametrize("media_type", [TYPE, "application/json", ""])
def test_each_line_is_a_body(media_type: str, ending: str) -> None:
    result = parse("\n".join(LINES) + ending, media_type)
    assert (result.values, result.rejected) == (VALUES, [])
    assert [reading.index for reading in result.readings] == [0, 2, 3]


def test_bad_line_is_refused_alone() -> None:
    bad = [
        "{",
        "5",
        '{"sensor": "a", "sensor": "b", "values": {"t": 1}}',
        '{"sensor": "a", "values": {"t": nan}}',
        "\xff",
    ]
    result = parse("\n".join(LINES[:1] + bad + LINES[2:]), TYPE)
    assert result.values == VALUES
    assert [(index, code) for index, code, _ in result.refusals] == [
        (1, "reading_invalid"),
        (2, "reading_invalid"),
        (3, "key_repeated"),
        (4, "value_out_of_range"),
        (5, "reading_invalid"),
    ]
    assert result.refusals[0][2].startswith("the line is not valid JSON: ")


def test_units_of_a_line_are_its_own() -> None:
    lines = (
        '{"units": {"t": "K"}, "readings": [{"sensor": "a", "values": {"t": 1}}]}\n{"sensor": "b", "values": {"t": 1}}'
    )
    assert [reading.units for reading in parse(lines, TYPE).readings] == [{"t": "K"}, None]
