"""The message of a rule about one episode, with its placeholders replaced."""

from typing import Any

from app.alerting.rules.model import Terms
from app.model import Tags
from app.rule_texts import rule_text


def rule_message(
    terms: Terms,
    *,
    rule: str,
    level: str,
    sensor: str,
    metric: str,
    tags: Tags,
    unit: str | None,
    value: float | None,
    threshold: Any,
    since: str,
    peak: float | None,
    duration: str,
    gateway: str | None,
) -> str:
    """Return the rule's message, or an empty text if it has none.

    `unit` is the unit of the series, `value` the sample that the rule compares, `threshold` the numbers of the level.
    """
    if terms.message is None:
        return ""
    return rule_text(
        terms.message,
        rule=rule,
        level=level,
        sensor=sensor,
        metric=metric,
        tags=tags,
        unit=terms.unit or unit or "",
        value=value,
        threshold=threshold,
        since=since,
        peak=peak,
        duration=duration,
        gateway=gateway,
    )
