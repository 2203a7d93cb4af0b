"""Names: what may be stored, and what is kept of what may not."""

import pytest

from app import names
from app.names import are_metric_names, are_sensor_names, is_metric_name, is_sensor_name, show, tidy_name


@pytest.mark.parametrize(
    ("limit", "is_name", "are_names"),
    [(200, is_sensor_name, are_sensor_names), (100, is_metric_name, are_metric_names)],
)
def test_names_are_good_up_to_their_limit(limit: int, is_name: object, are_names: object) -> None:
    assert callable(is_name)
    assert callable(are_names)
    assert is_name("x" * limit)
    assert are_names({"a", "x" * limit})
    assert are_names(set())
    for bad in ("x" * (limit + 1), "", " ", "a\0", "\ud800", "a\n"):
        assert not is_name(bad)
        assert not are_names({"a", bad})


def test_nothing_is_kept_of_a_name_when_it_is_too_long() -> None:
    before = names._is_sensor_name.cache_info().currsize, names._is_metric_name.cache_info().currsize
    for number in range(3):
        name = f"{number}" * 2**20
        assert not is_sensor_name(name)
        assert not is_metric_name(name)
        assert not are_sensor_names({name})
        assert not are_metric_names({name})
    assert before == (names._is_sensor_name.cache_info().currsize, names._is_metric_name.cache_info().currsize)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ("a", "'a'"),
        ("\0", r"'\x00'"),
        ([1, {"a": None}], "[1, {'a': None}]"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        ("x" * 2**24, "'" + "x" * 56 + "..."),
        ([1] * 2**20, "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,..."),
        ({"k": "x" * 2**24}, "{'k': '" + "x" * 50 + "..."),
    ],
)
def test_value_is_shown_by_its_beginning(value: object, text: str) -> None:
    assert show(value) == text
    assert len(text) <= 60


def test_value_is_shown_when_it_has_hundreds_of_levels() -> None:
    value: object = 1
    for _ in range(900):
        value = [value]
    assert show(value) == "[" * 57 + "..."


@pytest.mark.parametrize(
    ("name", "tidy"),
    [
        (" a ", "a"),
        ("a\n", "a"),
        ("\u00a0a\u3000", "a"),
        ("u\u0308", "ü"),
        ("ü", "ü"),
        ("a  b", "a  b"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        (" " * 10_000, ""),
    ],
)
def test_name_has_one_form(name: str, tidy: str) -> None:
    assert tidy_name(name) == tidy
    assert is_sensor_name(tidy) == (tidy != "")
    assert is_sensor_name(name) == (name == tidy)


@pytest.mark.parametrize("name", ["👩\u200d🔬", "👩🏽\u200d🔬", "❤\ufe0f\u200d🔥", "👨\u200d👩\u200d👧"])
def test_joined_emoji_are_names(name: str) -> None:
    assert is_sensor_name(name)
    assert is_metric_name(name)


@pytest.mark.parametrize(
    "name", ["a\u200db", "\u200d", "👩\u200d", "\u200d👩", "👩\u200d\u200d🔬", "a\u200d👩", ".", ".."]
)
def test_joiners_that_nobody_sees_and_steps_of_a_path_are_no_names(name: str) -> None:
    assert not is_sensor_name(name)
    assert not is_metric_name(name)
