"""Message templates of rules: texts with `{placeholders}` for fields of the alert and tags of the sensor."""

import re
from collections.abc import Mapping

#: Text in place of a value or tag that does not exist.
MISSING = "–"

_PIECE = re.compile(r"\{\{|\}\}|\{([^\s{}:!]+)\}")


def template_fault(text: str) -> str | None:
    """Return what is wrong with a template, or None if its braces are correct."""
    rest = _PIECE.sub(" ", text)
    if "{}" in rest:
        return 'the placeholder "{}" has no name; write one such as {sensor}, or {{ and }} for braces'
    if odd := re.search(r"\{([^{}]+)\}", rest):
        return f'the placeholder "{{{odd[1]}}}" is not a plain name such as {{value}} or {{site}}'
    if "{" in rest:
        return 'a "{" is never closed; write {name}, or {{ for a brace'
    if "}" in rest:
        return 'a "}" has no "{" before it; write {name}, or }} for a brace'
    return None


def render_template(text: str, facts: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced; an unknown one becomes MISSING. Any text can be rendered."""
    return _PIECE.sub(lambda piece: _replacement(piece, facts), text)


def _replacement(piece: re.Match[str], facts: Mapping[str, str]) -> str:
    name = piece[1]
    return piece[0][0] if name is None else facts.get(name, MISSING)
