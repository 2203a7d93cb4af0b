"""Parts of error messages: the given text in quotes, the list of accepted words, and the nearest accepted word."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

#: With more words than this, the nearest one is not searched, because that would take seconds.
_MOST_COMPARED: Final = 1_000
#: Largest number of words that are listed; further ones are only counted.
_MOST_LISTED: Final = 50
#: What people append to the name of a field: its unit, or its kind.
_SUFFIX: Final = re.compile(r"(?:ms|us|ns|s|sec|secs|seconds|millis|utc|iso|at|id|name|value|list|array|\d+)$")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")
#: What is left of a name without its suffix has at least so many letters.
_SHORTEST_NAME: Final = 2
#: Longer texts are no misspelt names.
_LONGEST_NAME: Final = 40


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest accepted word, or "" when none is near."""
    by_lower = {one.lower(): one for one in accepted}
    if len(by_lower) > _MOST_COMPARED:
        return ""
    nearest = get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower[nearest[0]]}"?' if nearest else ""


def find_meant(word: object, accepted: Collection[str], other_names: Mapping[str, str] = {}) -> str | None:
    """Return the accepted name that a field's or a parameter's name certainly stands for, or None.

    It is the same but for case, separators, a suffix such as `_ms`, or one wrong letter (two of eight), or is one of
    `other_names`, which are written in lower case without separators. A name that only resembles one is not meant, and
    neither is one that is no text, as MessagePack may have it.
    """
    if not isinstance(word, str) or len(word) > _LONGEST_NAME:
        return None
    plain = _plain(word)
    by_plain = {_plain(name): name for name in accepted}
    for form in (plain, *(short for short in (_SUFFIX.sub("", plain),) if len(short) >= _SHORTEST_NAME)):
        if form in by_plain:
            return by_plain[form]
        if other_names.get(form) in accepted:
            return other_names[form]
    return next((name for form, name in by_plain.items() if _is_misspelt(plain, form)), None)


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())


def _is_misspelt(word: str, right: str) -> bool:
    """Return whether one letter was left out, added, changed or swapped with the next; two in a long word."""
    allowed = 0 if len(right) < 4 else 1 if len(right) < 8 else 2
    return abs(len(word) - len(right)) <= allowed and _distance(word, right) <= allowed


def _distance(a: str, b: str) -> int:
    """Return the number of letters to add, leave out, change or swap with the next, to get from one word to the other.

    https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance, the optimal string alignment.
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def shown(text: str) -> str:
    """Return a user's text in quotes, on one line and cut to 40 characters."""
    one_line = " ".join(text.split())
    return f'"{one_line[:40]}…"' if len(one_line) > 40 else f'"{one_line}"'


def listed(words: Iterable[str]) -> str:
    """Join accepted words for a message: `a, b or c`."""
    *most, last = words
    if len(most) >= _MOST_LISTED:
        return f"{', '.join(most[:_MOST_LISTED])} or {len(most) + 1 - _MOST_LISTED} others"
    return f"{', '.join(most)} or {last}" if most else last
