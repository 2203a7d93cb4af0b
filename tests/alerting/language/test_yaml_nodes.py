import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.alerting.language.yaml_nodes import MappingNode, ScalarNode, SequenceNode, compose
from app.alerting.rules.problems import Place, RuleErrors, RuleProblem
from tests.alerting.rule_texts import SYNTAX


def problem(text: str) -> str:
    with pytest.raises(RuleErrors) as raised:
        compose(text, "x.yml")
    return str(raised.value)


def test_nodes_know_their_place_and_order() -> None:
    node = compose("a: 1\nlist:\n  - {b: x}\n  - 'y'\n", "x.yml")
    assert isinstance(node, MappingNode)
    (a, one), (_, items) = node.entries
    assert (a.place, one) == (Place("x.yml", 1, 1), ScalarNode(Place("x.yml", 1, 4), "1", "plain"))
    assert isinstance(items, SequenceNode)
    inner = items.items[0]
    assert isinstance(inner, MappingNode)
    assert inner.entries[0][1].place == Place("x.yml", 3, 9)
    assert items.items[1] == ScalarNode(Place("x.yml", 4, 5), "y", "quoted")


@pytest.mark.parametrize(
    ("written", "meaning"),
    [
        ("on", "text"),
        ("no", "text"),
        ("10:30", "text"),
        ("1_000", "text"),
        ("2026-01-01", "text"),
        ("8", "number"),
        ("-.5e3", "number"),
        ("0x10", "number"),
        (".inf", "number"),
        ("True", "boolean"),
        ("~", "nothing"),
        ("", "nothing"),
        ('"8"', "text"),
        ("'true'", "text"),
    ],
)
def test_plain_value_has_the_type_of_yaml_1_2(written: str, meaning: str) -> None:
    node = compose(f"a: {written}", "x.yml")
    assert isinstance(node, MappingNode)
    value = node.entries[0][1]
    assert isinstance(value, ScalarNode)
    assert value.meaning == meaning


def test_alias_stands_for_the_anchored_node_when_the_anchor_comes_first() -> None:
    node = compose("a: &x [1]\nb: *x\n", "x.yml")
    assert isinstance(node, MappingNode)
    assert node.entries[1][1] is node.entries[0][1]


def test_place_is_reported_when_a_character_is_not_allowed() -> None:
    assert problem("ab\ncd\x07e") == "x.yml:2:3: this character is not allowed in YAML; is the file text?"


def test_nesting_is_refused_when_it_is_too_deep() -> None:
    assert problem("[" * 5000) == "x.yml:1:25: this is nested too deeply for a rule file"


def test_empty_text_is_a_scalar_without_text() -> None:
    assert compose("# only a comment\n", "x.yml") == ScalarNode(Place("x.yml", 1, 1), "", "plain")


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', 'a: "\\U00110000"', 'a: "\\ud800"', "%YAML 9999999999.1\n--- a"])
def test_problem_is_reported_when_the_scanner_raises_an_error_of_its_own(text: str) -> None:
    assert problem(text).startswith("x.yml:1:")


@settings(deadline=None)
@given(st.one_of(SYNTAX, st.text(max_size=60)))
def test_any_text_is_nodes_or_a_problem(text: str) -> None:
    found = faults(text)
    assert len(found) <= 1
    assert all(one.line >= 1 and one.column >= 1 for one in found)


def faults(text: str) -> tuple[RuleProblem, ...]:
    try:
        compose(text, "x.yml")
    except RuleErrors as errors:
        return errors.problems
    return ()
