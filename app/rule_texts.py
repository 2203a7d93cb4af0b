"""Message templates of rules: texts with `{placeholders}` for fields of the alert and tags of the sensor."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import floor, log10
from typing import Any, Final

from app.clock import SECOND_US
from app.hints import listed
from app.local_times import format_span

#: Text in place of a value or tag that does not exist.
MISSING = "–"

#: Placeholders that every rule can use. `{tags.NAME}` is a tag of the sensor; so is `{NAME}` for all other names.
PLACEHOLDERS: Final = (
    "rule",
    "level",
    "sensor",
    "metric",
    "gateway",
    "value",
    "unit",
    "threshold",
    "peak",
    "since",
    "duration",
)
_TAG_PREFIX: Final = "tags."
#: How much a name resembles a placeholder that is taken for a misspelling of it; "site" resembles "since" by 0.67.
_NEAR: Final = 0.7
# A value has up to three decimals, or four significant digits below 1, and more where it would read like the limit.
_DECIMALS: Final = 3
_SIGNIFICANT: Final = 10
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-6, 1e15

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


def placeholder_faults(text: str, tags: Iterable[str]) -> list[str]:
    """Return what is wrong with the names of a template's placeholders; `tags` are those that its rule names.

    Any other name may be a tag, too, unless it resembles a placeholder.
    """
    known = {*PLACEHOLDERS, *tags}
    names = dict.fromkeys(piece[1] for piece in _PIECE.finditer(text) if piece[1] is not None)
    faults: list[str] = []
    for name in names:
        nearest = get_close_matches(name.lower(), PLACEHOLDERS, n=1, cutoff=_NEAR)
        is_tag = name.startswith(_TAG_PREFIX) and name != _TAG_PREFIX
        if name not in known and not is_tag and (nearest or "." in name):
            meant = f'; did you mean "{{{nearest[0]}}}"?' if nearest else ""
            faults.append(
                f'there is no placeholder "{{{name}}}"{meant} (accepted: {listed(PLACEHOLDERS)}; '
                f'write "{{{_TAG_PREFIX}{name.removeprefix("tag.")}}}" for a tag of the sensor)'
            )
    return faults


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
    threshold: Any,
    since: str,
    peak: float | None = None,
    duration: str = MISSING,
    gateway: str | None = None,
) -> str:
    """Return a rule's message about one alert; a value that is not known becomes a dash.

    `threshold` is a number, [low, high] or None.
    """
    limits = _numbers(threshold)
    facts = {
        **tags,
        **{f"{_TAG_PREFIX}{name}": text for name, text in tags.items()},
        "sensor": sensor,
        "metric": metric,
        "rule": rule,
        "level": level,
        "gateway": gateway or MISSING,
        "value": MISSING if value is None else format_value(value, limits),
        "peak": MISSING if peak is None else format_value(peak, limits),
        "unit": unit,
        "threshold": format_threshold(threshold),
        "since": since,
        "duration": duration,
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
        threshold=alert["threshold"],
        since=f"{alert['started_at']:%Y-%m-%d %H:%M} UTC",
        peak=alert.get("peak"),
        duration=_duration(alert),
        gateway=alert["gateway"],
    )
    return {**facts, "message": message}


def render_template(text: str, facts: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced; an unknown one becomes MISSING. Any text can be rendered."""
    return _PIECE.sub(lambda piece: _replacement(piece, facts), text)


def _replacement(piece: re.Match[str], facts: Mapping[str, str]) -> str:
    name = piece[1]
    return piece[0][0] if name is None else facts.get(name, MISSING)


def format_value(value: float, apart_from: Iterable[float] = ()) -> str:
    """Return a value as people read it: plain digits, and as many as tell it from the limits that it is compared with.

    It has up to three decimals, below 1 up to four significant digits, and at most ten significant digits unless it
    would read like a limit that it is not.
    """
    size = abs(value)
    if not size:
        return "0"
    if not _SMALLEST_PLAIN <= size < _LARGEST_PLAIN:
        return _scientific(value)
    magnitude = floor(log10(size))
    most = _SIGNIFICANT - 1 - magnitude
    limits = [limit for limit in apart_from if limit != value]
    for decimals in range(min(_DECIMALS if magnitude >= 0 else _DECIMALS - magnitude, most), most + 1):
        text = _rounded(value, decimals)
        if all((value > limit) == (float(text) > limit) and float(text) != limit for limit in limits):
            return text
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def format_threshold(threshold: Any) -> str:
    """Return a stored threshold as text, with all digits that were written: `8`, `2 to 8.5`, or "" for None."""
    return " to ".join(map(format_limit, _numbers(threshold)))


def format_limit(number: float) -> str:
    """Return the number of a condition with up to ten significant digits."""
    size = abs(number)
    if not size:
        return "0"
    if not _SMALLEST_PLAIN <= size < _LARGEST_PLAIN:
        return _scientific(number)
    return _rounded(number, _SIGNIFICANT - 1 - floor(log10(size)))


def _rounded(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}" if decimals > 0 else f"{round(value, decimals):.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.{_SIGNIFICANT - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _numbers(threshold: Any) -> tuple[float, ...]:
    if threshold is None:
        return ()
    return tuple(map(float, threshold if isinstance(threshold, list | tuple) else [threshold]))


def _duration(alert: Mapping[str, Any]) -> str:
    """Return how long an alert has lasted, or lasted, as text; a dash while that is not known."""
    end = alert.get("resolved_at")
    if end is None:
        return MISSING
    return format_span(round((end - alert["started_at"]).total_seconds() * SECOND_US))
