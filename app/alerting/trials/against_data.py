"""The fit of rules to the stored readings: series that they select, past alerts, durations that fit badly."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from app.alerting.evaluation.watching.no_data_check import spacing_misfit
from app.alerting.rules.companions import CompanionIndex, CompanionSeries
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.rules.model import Override, Rule, RuleSet
from app.alerting.trials.backtest import run_backtest
from app.alerting.trials.sql import SQL
from app.clock import DAY_US, SECOND_US
from app.db.pool import Connection
from app.durations import format_duration
from app.model import ReportProgress, SeriesId, Tags

#: The time over which episodes are counted.
DAYS = 7
#: A warning names this many sensors.
_NAMED = 3


class RuleFit(msgspec.Struct, frozen=True):
    """How one rule fits the stored readings."""

    rule: str
    #: Number of series that it selects.
    series: int
    #: Number of episodes that it makes of the last DAYS days.
    episodes: int
    #: What fits badly.
    warnings: tuple[str, ...]


class _StoredSeries(msgspec.Struct, frozen=True):
    """A series with readings, and the usual time between them and between uploads of its gateway, in seconds."""

    id: SeriesId
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    spacing_s: float | None
    upload_s: float | None


async def fit_rules(
    connection: Connection, rule_set: RuleSet, now_us: int, progress: ReportProgress = lambda done, total: None
) -> list[RuleFit]:
    """Return how each rule fits; raise NotMigratedError or DatabaseUnavailableError."""
    since_us = now_us - DAYS * DAY_US
    backtest = await run_backtest(connection, RuleBook(rule_set), since_us, now_us, progress)
    fired = Counter(found.rule for found in backtest.episodes)
    rows = await connection.fetch(SQL["list_series_with_spacing"], since_us, now_us)
    series = [_StoredSeries(**row) for row in rows]
    return [_fit(rule, series, fired[rule.name]) for rule in rule_set.rules]


def _fit(rule: Rule, series: list[_StoredSeries], episodes: int) -> RuleFit:
    book = RuleBook(RuleSet((rule,)))
    selected = [
        (each, match) for each in series for match in book.matches(each.sensor, each.metric, each.tags, each.gateway)
    ]
    warnings = ["no stored series matches its sensors"] if not selected else []
    warnings += [
        f"its override for {_selector(override)} matches none of its series"
        for override in rule.overrides
        if selected and not any(match.terms == override.terms for _, match in selected)
    ]
    found: defaultdict[str, list[str]] = defaultdict(list)
    index = CompanionIndex([CompanionSeries(each.id, each.sensor, each.metric, each.tags) for each in series])
    for each, match in selected:
        for text in _misfits(each, match, index):
            found[text].append(each.sensor)
    warnings += [f"{text} ({_listed(sensors)})" for text, sensors in found.items()]
    return RuleFit(rule.name, len(selected), episodes, tuple(warnings))


def _misfits(series: _StoredSeries, match: Match, index: CompanionIndex) -> list[str]:
    texts: list[str] = []
    if series.spacing_s is not None:
        spacing = spacing_misfit(match, max(1, round(series.spacing_s)) * SECOND_US)
        texts += [f"readings come every {spacing}"] if spacing else []
    no_data = match.terms.no_data
    after_us = None if no_data is None or no_data.then == "keep" else no_data.after_us
    usual_us = round(max(series.upload_s or 0.0, series.spacing_s or 0.0)) * SECOND_US
    if after_us is not None and after_us < 2 * usual_us:
        after, usual = format_duration(after_us), format_duration(usual_us)
        texts.append(f"no_data after {after} is under twice the usual {usual} between uploads")
    companions = index.companions(series.sensor, series.tags, match.series_rule, texts)
    lacking = {second.metric for second in match.series_rule.when} - {each.metric for each in companions}
    texts += [f"when: there is no series of {metric}" for metric in sorted(lacking)]
    return texts


def _listed(sensors: list[str]) -> str:
    more = len(sensors) - _NAMED
    return ", ".join(sensors[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _selector(override: Override) -> str:
    fields: Mapping[str, Any] = msgspec.to_builtins(override.sensors)
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value)
