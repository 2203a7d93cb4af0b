"""A rule's own wording: text with `{placeholders}` that stand for the alert's facts and the sensor's tags."""

import re
from collections.abc import Mapping

#: Placeholders that every alert fills; any other name is looked up among the sensor's tags.
PLACEHOLDERS = ("sensor", "site", "value", "unit", "threshold", "level", "rule", "metric", "since")
#: Stands for a tag that the sensor does not have.
MISSING = "–"

_PIECE = re.compile(r"\{\{|\}\}|\{([^\s{}:!]+)\}")


def template_fault(text: str) -> str | None:
    """Say what is wrong with a template, or None when it can be rendered as meant."""
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
    """Fill in the placeholders; an unknown one becomes a dash, and nothing ever raises."""
    return _PIECE.sub(lambda piece: _filled(piece, facts), text)


def _filled(piece: re.Match[str], facts: Mapping[str, str]) -> str:
    name = piece[1]
    return piece[0][0] if name is None else facts.get(name, MISSING)
