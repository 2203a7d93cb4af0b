"""Patterns for names: `*` stands for any text, `?` for one character, everything else for itself."""

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=1_024)
def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Return a function that tests whether a whole name matches the pattern; upper and lower case differ."""
    if not re.search(r"[*?]", pattern):
        return pattern.__eq__
    # fnmatch would read brackets, which names may contain, as [sets]. Its expressions do not backtrack exponentially.
    matches = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
    return lambda name: matches(name) is not None
