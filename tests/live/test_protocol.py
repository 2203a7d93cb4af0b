"""The protocol of /ws/live: messages, cursors and filters."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.live.protocol import (
    PATTERNS_LIMIT,
    Auth,
    Cursor,
    Filter,
    Snapshot,
    Subscribe,
    parse_message,
    readings_message,
    snapshot_message,
)
from app.model import FeedReading

EVERYTHING = Filter(["*"], ["*"])
EIGHT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def test_parse_message_reads_a_key() -> None:
    assert parse_message('{"type":"auth","key":"k"}') == Auth("k")


def test_parse_message_subscribes_to_everything_when_no_pattern_is_given() -> None:
    assert parse_message('{"type":"subscribe"}') == Subscribe(("*",), ("*",), "all", False, None)


def test_parse_message_ignores_fields_when_they_are_unknown() -> None:
    assert parse_message('{"type":"subscribe","sensors":["a"],"colour":"red"}') == Subscribe(("a",))
    assert parse_message('{"type":"auth","key":"k","client":"x"}') == Auth("k")


@pytest.mark.parametrize(
    ("field", "meant"),
    [("sensor", "sensors"), ("Sensors", "sensors"), ("metrcs", "metrics"), ("cursor", "resume"), ("alert", "alerts")],
)
def test_parse_message_refuses_a_misspelt_field_with_the_right_name(field: str, meant: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_message(f'{{"type":"subscribe","{field}":["a"]}}')
    assert str(refusal.value) == f'The message has the field "{field}"; did you mean {meant}?'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "truncated"),
        ('{"type":"subscribe","mode":"some"}', "some"),
        ('{"type":"other"}', "other"),
        ('{"type":"auth"}', "key"),
        (json.dumps({"type": "subscribe", "metrics": ["m"] * (PATTERNS_LIMIT + 1)}), "100 patterns"),
    ],
)
def test_parse_message_names_the_problem_when_a_message_is_invalid(text: str, part: str) -> None:
    with pytest.raises(InvalidRequestError, match=part):
        parse_message(text)


@pytest.mark.parametrize("cursor", [Cursor("0a1b2c", 0), Cursor("e", 10**18 - 1), Cursor("a.b", 3)])
def test_cursor_is_unchanged_when_written_and_parsed(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "e", "e.", "e.-1", "e.1.5x", "e. 1", "e.٣", "e.1_0", f"e.{10**18}"])
def test_cursor_is_none_when_the_text_is_not_a_cursor(text: str) -> None:
    assert Cursor.parse(text) is None


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        (["*"], "anything", True),
        ([], "anything", False),
        (["pi?"], "pi1", True),
        (["pi?"], "pi", False),
        (["pi?"], "pi12", False),
        (["a.b"], "axb", False),
        (["a[bc]"], "ab", False),
        (["a[bc]"], "a[bc]", True),
        (["a]"], "a]", True),
        (["a\\*"], "a\\x", True),
        (["*a*b*c*", "*x*y*z*"], "-x-y-z-", True),
        (["line"], "line\n", False),
        (["ø*"], "øst", True),
        (["(?i)A"], "a", False),
        (["*" + "a*" * 30], "a" * 200 + "b", True),
    ],
)
def test_filter_matches_globs(patterns: list[str], name: str, matches: bool) -> None:
    assert bool(Filter(patterns, ["*"]).select(name, {"m": 1})) is matches
    assert bool(Filter(["*"], patterns).select("s", {name: 1})) is matches


@pytest.mark.timeout(5)
def test_filter_answers_in_time_when_a_pattern_would_backtrack() -> None:
    assert not Filter(["*" + "a*" * 40 + "c"], ["*"]).select("a" * 200, {"m": 1})


def test_filter_selects_the_wanted_values_of_a_sensor() -> None:
    wanted = Filter(["s*"], ["in", "out"])
    assert wanted.select("s1", {"in": 1, "out": 2, "else": 3}) == {"in": 1, "out": 2}
    assert wanted.select("t1", {"in": 1}) == {}


def row(name: str, metric: str, last_time: datetime, value: float) -> dict[str, Any]:
    return {"name": name, "metric": metric, "last_time": last_time, "last_value": value}


def test_snapshot_message_joins_values_when_they_have_one_time() -> None:
    rows: Any = [
        row("a", "in", EIGHT, 1.0),
        row("a", "out", EIGHT, 2.0),
        row("a", "else", EIGHT + timedelta(microseconds=1), 3.0),
        row("b", "in", EIGHT, 4.0),
    ]
    assert json.loads(snapshot_message(Cursor("e", 4), Snapshot(rows, [], [], ["a.yml:1:1: odd"]), EVERYTHING)) == {
        "type": "snapshot",
        "cursor": "e.4",
        "readings": [
            {"sensor": "a", "time": "2026-11-21T08:00:00Z", "values": {"in": 1.0, "out": 2.0}},
            {"sensor": "a", "time": "2026-11-21T08:00:00.000001Z", "values": {"else": 3.0}},
            {"sensor": "b", "time": "2026-11-21T08:00:00Z", "values": {"in": 4.0}},
        ],
        "alerts": [],
        "sensors": [],
        "problems": ["a.yml:1:1: odd"],
    }


def test_readings_message_has_the_shape_of_a_frame() -> None:
    reading = FeedReading("a", "2026-11-21T08:00:00Z", {"in": 1.5})
    assert json.loads(readings_message(Cursor("e", 4), [reading])) == {
        "type": "readings",
        "cursor": "e.4",
        "readings": [{"sensor": "a", "time": "2026-11-21T08:00:00Z", "values": {"in": 1.5}}],
    }
