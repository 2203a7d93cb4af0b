"""Message templates of rules: texts with `{placeholders}` for fields of the alert and tags of the sensor."""

import re
from collections.abc import Mapping
from typing import Any

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


def rule_text(
    template: str,
    *,
    rule: str,
    level: str,
    sensor: str,
    metric: str,
    tags: Mapping[str, str],
    unit: str,
    value: float | None,
    threshold: str,
    since: str,
) -> str:
    """Return a rule's message about one alert; a value that is not known becomes a dash."""
    facts = {
        **tags,
        "sensor": sensor,
        "metric": metric,
        "rule": rule,
        "level": level,
        "value": MISSING if value is None else format_value(value),
        "unit": unit,
        "threshold": threshold,
        "since": since,
    }
    return render_template(template, facts)


def fill_in_message(alert: dict[str, Any]) -> dict[str, Any]:
    """Return an alert of alert_view with `message`, the text that its rule has for it, in place of the template.

    The message is None if the rule has none.
    """
    facts = dict(alert)
    template: str | None = facts.pop("message_template")
    if template is None:
        return {**facts, "message": None}
    message = rule_text(
        template,
        rule=alert["rule"],
        level=alert["level"],
        sensor=alert["sensor"] or "",
        metric=alert["metric"] or "",
        tags=alert["tags"] or {},
        unit=alert["unit"] or "",
        value=alert["value"],
        threshold=format_threshold(alert["threshold"]),
        since=f"{alert['started_at']:%Y-%m-%d %H:%M} UTC",
    )
    return {**facts, "message": message}


def render_template(text: str, facts: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced; an unknown one becomes MISSING. Any text can be rendered."""
    return _PIECE.sub(lambda piece: _replacement(piece, facts), text)


def _replacement(piece: re.Match[str], facts: Mapping[str, str]) -> str:
    name = piece[1]
    return piece[0][0] if name is None else facts.get(name, MISSING)


def format_value(value: float) -> str:
    """Return a value as people read it: with up to three decimals, or more digits if it would look like 0."""
    if 0 < abs(value) < 0.001 or abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def format_threshold(threshold: Any) -> str:
    """Return a stored threshold as text: `8`, `2 to 8.5`, or an empty text for None."""
    if threshold is None:
        return ""
    numbers = threshold if isinstance(threshold, list) else [threshold]
    return " to ".join(format_value(float(number)) for number in numbers)
