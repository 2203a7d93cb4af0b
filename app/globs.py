"""Patterns for names: `*` stands for any text, `?` for one character, everything else for itself."""

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=1_024)
def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern into a test of whole names; letters match in their own case only."""
    if not re.search(r"[*?]", pattern):
        return pattern.__eq__
    # fnmatch also knows [sets], whose brackets may stand in names; its expressions never backtrack for long.
    matches = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
    return lambda name: matches(name) is not None
