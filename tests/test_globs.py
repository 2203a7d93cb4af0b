"""Patterns for names, those with characters that other pattern languages take for more than themselves included."""

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
