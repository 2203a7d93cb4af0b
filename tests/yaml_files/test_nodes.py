import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.yaml_files.nodes import Extent, MappingNode, ScalarNode, SequenceNode, compose
from app.yaml_files.problems import FileErrors, FileProblem, Place
from tests.alerting.rule_texts import SYNTAX


def problem(text: str) -> str:
    with pytest.raises(FileErrors) as raised:
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
    assert problem("[" * 5000) == "x.yml:1:25: this is nested too deeply"


def test_nesting_is_refused_when_aliases_make_it_too_deep() -> None:
    deep = f"a: &a {'[' * 12}{']' * 12}"
    assert compose(f"{deep}\nb: {'[' * 11}*a{']' * 11}\n", "x.yml")
    said = "x.yml:2:16: this is nested too deeply"
    assert problem(f"{deep}\nb: {'[' * 12}*a{']' * 12}\n") == said
    # An alias of an alias counts as deep as what it stands for in the end.
    assert problem(f"a: &a {'[' * 12}{']' * 12}\nb: &b [*a]\nc: {'[' * 11}*b") == (
        "x.yml:3:15: this is nested too deeply"
    )


TOO_MUCH = (
    "here the files have more than 200,000 values or 5,000,000 characters, where each alias (*name) counts as all that "
    "it stands for; write less"
)


def laughing(levels: int) -> str:
    """Return a text whose last line stands for 10 to the power of `levels` values."""
    lines = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(2, levels + 1)]
    return "\n".join(["a1: &a1 [0,1,2,3,4,5,6,7,8,9]", *lines])


def test_aliases_of_aliases_count_as_all_that_they_stand_for() -> None:
    assert compose(laughing(5), "x.yml")  # 111,110 numbers in 11,111 lists, and names
    assert problem(laughing(6)).endswith(TOO_MUCH)


def test_file_is_refused_before_its_billions_of_values_are_made() -> None:
    tracemalloc.start()
    try:
        assert problem(laughing(20)).endswith(TOO_MUCH)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("count", "fits"), [(199_999, True), (200_000, False)])
def test_file_has_at_most_200000_values(count: int, fits: bool) -> None:
    before = Extent(values=count - 10)
    text = "[0,1,2,3,4,5,6,7,8,9]"
    if fits:
        compose(text, "x.yml", before)
        assert before.values == 200_000
    else:
        with pytest.raises(FileErrors, match=r"x\.yml:1:20: here the files have more than 200,000 values"):
            compose(text, "x.yml", before)


def test_text_of_an_alias_counts_each_time() -> None:
    text = f"a: &a {'x' * 100_000}\n"
    aliases = "\n".join(f"b{n}: *a" for n in range(60))
    assert compose(f"{text}{aliases[: aliases.index('b45')]}", "x.yml")
    assert problem(f"{text}{aliases}").endswith(TOO_MUCH)


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


def faults(text: str) -> tuple[FileProblem, ...]:
    try:
        compose(text, "x.yml")
    except FileErrors as errors:
        return errors.problems
    return ()
