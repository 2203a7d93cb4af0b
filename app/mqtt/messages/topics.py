"""Patterns of topics: levels of text, `+` for any level, `{name}` for any level that gets a name, `#` for the rest."""

import re
from collections.abc import Iterable

import msgspec

#: Limit of the protocol for a topic.
LONGEST_BYTES = 65_535
_NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Pattern(msgspec.Struct, frozen=True):
    """A pattern, taken apart at its slashes."""

    text: str
    levels: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its levels, in their order."""
        return tuple(match[1] for level in self.levels if (match := _NAMED.fullmatch(level)))

    @property
    def filter(self) -> str:
        """Return the filter of the subscription."""
        return "/".join("+" if _NAMED.fullmatch(level) else level for level in self.levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what the named levels of a topic are, or None if the topic does not match."""
        given = topic.split("/")
        is_open = self.levels[-1] == "#"
        wanted = self.levels[:-1] if is_open else self.levels
        if len(given) < len(wanted) or (len(given) > len(wanted) and not is_open):
            return None
        # By the protocol, topics about the broker itself match no wildcard.
        if topic.startswith("$") and self.filter[:1] in ("+", "#"):
            return None
        names: dict[str, str] = {}
        for level, text in zip(wanted, given, strict=False):
            if named := _NAMED.fullmatch(level):
                names[named[1]] = text
            elif level not in ("+", text):
                return None
        return names


def parse_pattern(text: str) -> Pattern:
    """Take a pattern apart; raise ValueError that says what is wrong with it."""
    levels = tuple(text.split("/"))
    for number, level in enumerate(levels, 1):
        _check_level(level, is_last=number == len(levels))
    pattern = Pattern(text, levels)
    if "\0" in text or len(text.encode()) > LONGEST_BYTES:
        raise ValueError(f"a topic has at most {LONGEST_BYTES:,} bytes, and no NUL")
    if repeated := [name for name in pattern.names if pattern.names.count(name) > 1]:
        raise ValueError(f'two levels are named "{repeated[0]}"; give each a name of its own')
    return pattern


def _check_level(level: str, is_last: bool) -> None:
    if level == "#" and not is_last:
        raise ValueError('"#" stands for the rest of a topic and must be its last level')
    if level in ("+", "#") or _NAMED.fullmatch(level):
        return
    if wildcard := re.search("[+#]", level):
        raise ValueError(f'"{wildcard[0]}" must be a level by itself, as in "a/{wildcard[0]}"; got "{level}"')
    if re.search("[{}]", level):
        raise ValueError(
            f'"{level}" is no level; a name is a level by itself, in braces, of letters, digits and underscores: '
            '"tele/{sensor}/SENSOR"'
        )


def covers(wide: str, narrow: str) -> bool:
    """Return whether a filter matches every topic that another filter matches."""
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for number, level in enumerate(wide_levels):
        if level == "#":
            return True
        if number >= len(narrow_levels) or narrow_levels[number] == "#":
            return False
        if level not in ("+", narrow_levels[number]):
            return False
    return len(wide_levels) == len(narrow_levels)


def overlap(one: str, other: str) -> bool:
    """Return whether a topic can match both filters."""
    levels, others = one.split("/"), other.split("/")
    for level, against in zip(levels, others, strict=False):
        if "#" in (level, against):
            return True
        if "+" not in (level, against) and level != against:
            return False
    if len(levels) == len(others):
        return True
    # "a/#" matches "a", too.
    longer, length = (levels, len(others)) if len(levels) > len(others) else (others, len(levels))
    return len(longer) == length + 1 and longer[-1] == "#"


def widest(filters: Iterable[str]) -> tuple[str, ...]:
    """Return the filters that no other one covers: a broker may deliver a message once for each that matches it."""
    distinct = tuple(dict.fromkeys(filters))
    return tuple(one for one in distinct if not any(other != one and covers(other, one) for other in distinct))


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names in braces in a template."""
    return tuple(_PLACEHOLDER.findall(template))


def fill_in(template: str, names: dict[str, str]) -> str:
    """Return a template with each name in braces replaced by that level of the topic."""
    return _PLACEHOLDER.sub(lambda match: names[match[1]], template)
