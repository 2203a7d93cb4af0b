"""Parts of error messages: the given text in quotes, the list of accepted words, and the nearest accepted word."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

#: With more words than this, the nearest one is not searched, because that would take seconds.
_MOST_COMPARED: Final = 1_000
#: Largest number of words that are listed; further ones are only counted.
_MOST_LISTED: Final = 50


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest accepted word, or "" when none is near."""
    by_lower = {one.lower(): one for one in accepted}
    if len(by_lower) > _MOST_COMPARED:
        return ""
    nearest = get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower[nearest[0]]}"?' if nearest else ""


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
