"""Rules as the API lists them: with their conditions, how many alerts are open, and why a rule may not work."""

from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from app.alerting.listing.alerts import end_of_mute
from app.alerting.listing.sql import SQL
from app.alerting.rules.in_force import AlertingStatus, LastEvaluation, read_status
from app.alerting.rules.model import NoData, Rule, RuleSet, Terms, When, condition_text
from app.db.pool import Pool
from app.durations import format_duration


class RuleItem(msgspec.Struct, frozen=True):
    """A rule in force with its current state."""

    name: str
    kind: Literal["threshold", "gateway_offline"]
    sensors: dict[str, Any]
    value: str
    #: Whether a value counts until the next one.
    holds: bool
    levels: dict[str, str]
    #: How long a condition must hold, of the levels and of `clear` if they say so.
    lasting: dict[str, str]
    #: When an alert ends; null: as soon as its lowest level does not hold any more.
    clear: str | None
    #: Second metrics, all of which must fit, such as "door equals 0, same room".
    when: list[str]
    #: How long a sensor may be silent and what happens then, such as "alert after 30m"; null: nothing.
    no_data: str | None
    #: The end of the mute window that holds now.
    muted_until: datetime | None
    notify: list[str]
    series: int
    firing: dict[str, int]
    evaluated_to: datetime | None
    #: Problems that keep the rule from working as intended.
    warnings: list[str]


class RulesState(msgspec.Struct, frozen=True):
    """The rules in force; `problems` are those of the current rule files."""

    items: list[RuleItem]
    next: None
    problems: list[str]
    last_evaluation: LastEvaluation | None


async def load_rules_state(pool: Pool, rules: RuleSet) -> RulesState:
    """Return the rules with their state, and the problems of the rule files."""
    firing: dict[str, dict[str, int]] = {}
    for row in await pool.fetch(SQL["count_open_by_rule"]):
        firing.setdefault(row["rule"], {})[row["level"]] = row["n"]
    states = {row["rule"]: row for row in await pool.fetch(SQL["count_series_by_rule"])}
    status = await read_status(pool)
    items = [_rule(rule, states.get(rule.name), firing.get(rule.name, {}), status) for rule in rules.rules]
    return RulesState(items, None, status.problems, status.last_evaluation)


def _rule(rule: Rule, state: asyncpg.Record | None, firing: dict[str, int], status: AlertingStatus) -> RuleItem:
    terms = rule.terms
    unusable = [name for name in _channels(rule) if name not in status.channels]
    return RuleItem(
        rule.name,
        "threshold" if rule.offline is None else "gateway_offline",
        {"gateway": rule.offline.gateways}
        if rule.offline is not None
        else {name: value for name, value in msgspec.to_builtins(rule.sensors).items() if value},
        _value(terms),
        terms.holds,
        _levels(rule),
        _lasting(rule),
        None if terms.clear.condition is None else condition_text(terms.clear.condition),
        [_when(one) for one in terms.when],
        _no_data(terms.no_data),
        end_of_mute(terms.mute),
        _channels(rule),
        0 if state is None else state["n"],
        firing,
        None if state is None else state["evaluated_to"],
        _warnings(rule.name, unusable, status),
    )


def _channels(rule: Rule) -> list[str]:
    """Return the channels that a rule notifies, those of routes by tag and of its escalation included."""
    return list(dict.fromkeys((*rule.terms.all_channels, *(rule.escalate.notify if rule.escalate else ()))))


def _levels(rule: Rule) -> dict[str, str]:
    """Return the condition of each level of a rule."""
    if rule.offline is not None:
        after = rule.offline.after_us
        return {rule.offline.level: f"offline for {format_duration(after)}" if after else "offline"}
    return {level.name: condition_text(level.condition) for level in rule.terms.levels}


def _lasting(rule: Rule) -> dict[str, str]:
    """Return the durations of the levels of a rule, and of its end, that have one."""
    durations = {level.name: level.for_us for level in rule.terms.levels} | {"clear": rule.terms.clear.for_us}
    return {name: format_duration(us) for name, us in durations.items() if us}


def _when(when: When) -> str:
    same = f", same {', '.join(when.same)}" if when.same else ""
    return f"{when.metric} {condition_text(when.condition)}{same}"


def _no_data(no_data: NoData | None) -> str | None:
    if no_data is None or no_data.then == "keep":
        return None
    return no_data.then if no_data.after_us is None else f"{no_data.then} after {format_duration(no_data.after_us)}"


def _warnings(rule: str, unusable: list[str], status: AlertingStatus) -> list[str]:
    warnings = [f"channel {name} cannot be used; the worker's log says why" for name in unusable]
    return [*warnings, *status.rule_warnings.get(rule, ())]


def _value(terms: Terms) -> str:
    """Return the `value:` of a rule as it is written in a rule file."""
    window_us = terms.value.window_us
    return f"{terms.value.kind} {format_duration(window_us)}" if window_us else terms.value.kind
