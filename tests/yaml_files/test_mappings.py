"""Mappings with fixed keys, with names of the user's choice, and with keys that depend on a word."""

from typing import Any

from app.yaml_files.kinds import Kind, read_logged
from app.yaml_files.leaves import FLAG, NUMBER, one_of
from app.yaml_files.mappings import ByKey, Field, Fields, Given, MapOf, ScalarOr
from app.yaml_files.nodes import compose
from app.yaml_files.problems import ProblemLog

PLACE = Fields("place", "{x: 1}", {"x": Field(NUMBER, "east", required=True), "y": Field(NUMBER, "north")})


def read(kind: Kind, text: str) -> tuple[Any, list[str]]:
    log = ProblemLog()
    value = read_logged(kind, compose(text, "f"), "this", log)
    return value, [f"{each.line}:{each.column} {each.message}" for each in log.problems]


def test_mapping_knows_its_values_and_all_its_mistakes() -> None:
    given, problems = read(PLACE, "y: north\nz: 3\n")
    assert isinstance(given, Given)
    assert given.values == {}
    assert problems == [
        '1:4 "y" takes a number, such as 8.0; got the text "north"',
        '2:1 unknown key "z" (accepted: x or y)',
        '1:1 "x" is missing: east',
    ]


def test_missing_key_may_be_misspelt() -> None:
    levels = Fields("levels", "{warning: 1}", {"warning": Field(NUMBER, "w"), "critical": Field(NUMBER, "c")})
    given, _ = read(levels, "waring: 1\n")
    assert not given.lacks("warning")
    assert given.lacks("critical")


def test_place_of_the_first_key_that_is_present_else_of_the_mapping() -> None:
    given, _ = read(PLACE, "\nx: 1\ny: 2\n")
    assert (given.place_of("y", "x").line, given.place_of("z").line) == (3, 2)


def test_repeated_key_is_a_problem_and_the_first_counts() -> None:
    given, problems = read(PLACE, "x: 1\nx: 2\n")
    assert given.values == {"x": 1.0}
    assert problems == ['2:1 "x" is here twice, first at f:1:1; keep one']


def test_names_of_a_map_must_match_its_pattern() -> None:
    given, problems = read(MapOf(NUMBER, "a mapping", name_pattern="^[a-z]+$", name_rule="has a-z"), "ok: 1\nNo: 2\n")
    assert given.values == {"ok": 1.0}
    assert problems == ['2:1 the name "No" has a-z']


def test_value_or_mapping_is_read_by_what_it_is() -> None:
    assert read(ScalarOr(FLAG, PLACE), "true") == (True, [])
    given, problems = read(ScalarOr(FLAG, PLACE), "{x: 1}")
    assert (given.values, problems) == ({"x": 1.0}, [])


def test_word_under_a_key_decides_which_other_keys_there_are() -> None:
    kind = Field(one_of(("point", "flag")), "the kind")
    kinds = {
        "point": Fields("point", "{x: 1}", {"kind": kind, "x": Field(NUMBER, "east")}),
        "flag": Fields("flag", "{on: true}", {"kind": kind, "on": Field(FLAG, "whether")}),
    }
    assert read(ByKey("kind", kinds), "{kind: flag, on: true}")[0].values == {"kind": "flag", "on": True}
    assert read(ByKey("kind", kinds), "{x: 2}")[0].values == {"x": 2.0}
    assert read(ByKey("kind", kinds), "{kind: flag, x: 2}")[1] == ['1:14 unknown key "x" (accepted: kind or on)']
