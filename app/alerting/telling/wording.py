"""A rule's own message about one episode, with the facts filled in."""

from app.alerting.rules.message_templates import MISSING, render_template
from app.alerting.rules.model import Terms
from app.model import Tags
from app.notify.message import format_value


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
    threshold: str,
    since: str,
) -> str:
    """Write the rule's message, or nothing when it has none; `unit` is the series' own, `value` the rule's sample."""
    if terms.message is None:
        return ""
    facts = {
        **tags,
        "sensor": sensor,
        "metric": metric,
        "rule": rule,
        "level": level,
        "value": MISSING if value is None else format_value(value),
        "unit": terms.unit or unit or "",
        "threshold": threshold,
        "since": since,
    }
    return render_template(terms.message, facts)
