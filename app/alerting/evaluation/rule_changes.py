"""Ends of alerts when the rules change."""

from app.alerting.episodes.reasons import RULE_REMOVED, UNSELECTED
from app.alerting.evaluation.sql import SQL
from app.alerting.evaluation.writing.alert_feed import end_alerts
from app.alerting.evaluation.writing.stored_episodes import Pair, mark_unselected
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.db.pool import Connection


async def end_alerts_without_rule(connection: Connection, rules: RuleSet) -> int:
    """End the open alerts whose rule was removed or no longer selects their series; return their number.

    Also delete the evaluation states of removed rules. Must run in the transaction that accepts the rules.
    """
    names = {rule.name for rule in rules.rules}
    book = RuleBook(rules)
    ended: dict[int, str | None] = {}
    unselected: list[Pair] = []
    for row in await connection.fetch(SQL["list_open_alerts"]):
        if row["rule"] not in names:
            ended[row["id"]] = RULE_REMOVED
        elif not book.selects(row["rule"], row["sensor"], row["metric"], row["tags"], row["gateway"]):
            ended[row["id"]] = UNSELECTED
            unselected.append((row["rule"], row["series_id"]))
    await end_alerts(connection, ended)
    # Otherwise the clocks would run on, and the alert that ended would count as open, if the series is selected again.
    await mark_unselected(connection, unselected)
    await connection.execute(SQL["delete_states_of_removed_rules"], list(names))
    return len(ended)
