"""The message of a rule about one episode, with its placeholders replaced."""

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
    """Return the rule's message, or an empty text if it has none.

    `unit` is the unit of the series, `value` the sample that the rule compares.
    """
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
