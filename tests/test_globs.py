"""Patterns for names, also with characters that have a special meaning in other pattern languages."""

import pytest

from app.globs import compile_glob


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("cellar", "cellar", True),
        ("cellar", "cellar-2", False),
        ("cellar", "Cellar", False),
        ("freezer-*", "freezer-", True),
        ("freezer-*", "freezer-12", True),
        ("freezer-*", "old freezer-12", False),
        ("*", "", True),
        ("*", "two\nlines", True),
        ("room-?", "room-1", True),
        ("room-?", "room-12", False),
        ("pi[1]", "pi[1]", True),
        ("pi[1]*", "pi[1],cpu=cpu0", True),
        ("pi[1]*", "pi1", False),
        ("a.c*", "abc", False),
        ("a+*", "a+b", True),
    ],
)
def test_glob_matches_whole_names(pattern: str, name: str, matches: bool) -> None:
    assert compile_glob(pattern)(name) is matches
