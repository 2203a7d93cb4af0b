"""Parts of error messages."""

import pytest

from app.hints import did_you_mean, find_meant, listed, shown


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


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("Time", "time"),
        ("TIME_MS", "time"),
        ("time_utc", "time"),
        ("tiem", "time"),
        ("tme", "time"),
        ("timee", "time"),
        ("ts", "time"),
        ("Time-Stamp", "time"),
        ("sensorId", "sensor"),
        ("sensors", "sensor"),
        ("vlaues", "values"),
        ("tim", "time"),
        ("tide", "time"),
        ("temp", None),
        ("to", None),
        ("rssi", None),
        ("battery", None),
        ("", None),
        ("time" * 1_000_000, None),
    ],
    ids=lambda text: str(text)[:20],
)
def test_name_is_found_that_another_certainly_stands_for(word: str, meant: str | None) -> None:
    assert find_meant(word, ("sensor", "time", "values"), {"ts": "time", "timestamp": "time"}) == meant
