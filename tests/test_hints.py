"""Parts of error messages."""

import pytest

from app.hints import did_you_mean, listed, shown


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sensrs", '; did you mean "sensors"?'),
        ("SENSORS", '; did you mean "sensors"?'),
        ("zzz", ""),
        ("", ""),
        ("sensors" * 1_000_000, ""),
    ],
    ids=["typo", "case", "unlike", "empty", "endless"],
)
def test_nearest_accepted_word_is_proposed(word: str, hint: str) -> None:
    assert did_you_mean(word, ["sensors", "levels", "notify"]) == hint


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("warm", '"warm"'), ("a\n b\t", '"a b"'), ("x" * 40, f'"{"x" * 40}"'), ("x" * 41, f'"{"x" * 40}…"')],
)
def test_text_of_a_user_is_quoted_on_one_line_and_cut(text: str, quoted: str) -> None:
    assert shown(text) == quoted


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")], ids=len
)
def test_accepted_words_are_listed(words: list[str], text: str) -> None:
    assert listed(words) == text
