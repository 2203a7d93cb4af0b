"""Which rules say something about a series, and what each says there: its terms, with the override that fits."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from app.alerting.episodes.machine import Level, SeriesRule
from app.alerting.rules.model import Rule, RuleSet, Selector, Terms
from app.globs import compile_glob

#: Answers kept for distinct (metric, tags, gateway); beyond, all are forgotten and found again.
KEPT_ANSWERS = 50_000


class Match(msgspec.Struct, frozen=True, eq=False):
    """A rule that applies to a series, and what it says there."""

    rule: Rule
    terms: Terms
    series_rule: SeriesRule
    #: Of value, levels, clear and max_gap only: when it changes, a new era begins.
    rule_hash: str


class RuleBook:
    """The rules of a set, prepared to be asked about many series; each rule and override is compiled once."""

    def __init__(self, rule_set: RuleSet) -> None:
        self._by_metric: defaultdict[str | None, list[_CompiledRule]] = defaultdict(list)
        for number, rule in enumerate(rule_set.rules):
            self._by_metric[rule.sensors.metric].append(_entry(number, rule))
        self._kept: dict[_Labels, tuple[_Candidate, ...]] = {}

    def matches(self, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> tuple[Match, ...]:
        """Give what applies to a series, at most one match a rule, in the order of the rules."""
        return tuple(
            next(choice.match for choice in candidate.choices if choice.names(sensor))
            for candidate in self._candidates(metric, tags, gateway)
            if candidate.names(sensor)
        )

    def selects(self, rule: str, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> bool:
        """Return whether a rule, by name, applies to a series."""
        return any(match.rule.name == rule for match in self.matches(sensor, metric, tags, gateway))

    def _candidates(self, metric: str, tags: Mapping[str, str], gateway: str | None) -> "tuple[_Candidate, ...]":
        """Narrow rules and overrides down by all but the sensor's name: many sensors share the rest."""
        labels = (metric, gateway, frozenset(tags.items()))
        if labels not in self._kept:
            if len(self._kept) >= KEPT_ANSWERS:
                self._kept.clear()
            entries = sorted(
                [*self._by_metric.get(metric, ()), *self._by_metric.get(None, ())], key=lambda entry: entry.number
            )
            self._kept[labels] = tuple(
                _Candidate(
                    entry.names, tuple(choice for choice in entry.choices if _labels_fit(choice.sensors, labels))
                )
                for entry in entries
                if _labels_fit(entry.sensors, labels)
            )
        return self._kept[labels]


def compile_rule(
    rule: Rule, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None
) -> SeriesRule | None:
    """Give what one rule says for one series, or None when the series is none of its."""
    terms = terms_for(rule, sensor, metric, tags, gateway)
    return None if terms is None else compile_terms(terms)


def terms_for(rule: Rule, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> Terms | None:
    """Find the terms of the first override that fits a series, else the rule's, or None when the rule does not fit."""
    labels = (metric, gateway, frozenset(tags.items()))
    if not _selects(rule.sensors, sensor, labels):
        return None
    overrides = (one.terms for one in rule.overrides if _selects(one.sensors, sensor, labels))
    return next(overrides, rule.terms)


def compile_terms(terms: Terms) -> SeriesRule:
    """Take from the terms what decides about episodes."""
    return SeriesRule(
        value=terms.value,
        levels=tuple(Level(level.name, level.condition, level.for_us) for level in terms.levels),
        clear=terms.clear.condition,
        clear_for_us=terms.clear.for_us,
        max_gap_us=terms.max_gap_us,
    )


_Labels = tuple[str, str | None, frozenset[tuple[str, str]]]
_NameTest = Callable[[str], bool]


class _Choice(msgspec.Struct, frozen=True, eq=False):
    """An override, or last the rule itself."""

    sensors: Selector
    names: _NameTest
    match: Match


class _Candidate(msgspec.Struct, frozen=True, eq=False):
    """A rule that fits by its labels, if the sensor's name fits too; the last choice always does."""

    names: _NameTest
    choices: tuple[_Choice, ...]


class _CompiledRule(msgspec.Struct, frozen=True, eq=False):
    """A rule and all it may say."""

    number: int
    sensors: Selector
    names: _NameTest
    choices: tuple[_Choice, ...]


def _entry(number: int, rule: Rule) -> _CompiledRule:
    overrides = [(override.sensors, override.terms) for override in rule.overrides]
    choices = tuple(
        _Choice(sensors, _name_test(sensors.id), _match(rule, terms))
        for sensors, terms in (*overrides, (Selector(), rule.terms))
    )
    return _CompiledRule(number, rule.sensors, _name_test(rule.sensors.id), choices)


def _match(rule: Rule, terms: Terms) -> Match:
    series_rule = compile_terms(terms)
    return Match(rule, terms, series_rule, series_rule.digest())


def _selects(selector: Selector, sensor: str, labels: _Labels) -> bool:
    return _name_test(selector.id)(sensor) and _labels_fit(selector, labels)


def _labels_fit(selector: Selector, labels: _Labels) -> bool:
    metric, gateway, tags = labels
    return (
        selector.metric in (None, metric)
        and selector.gateway in (None, gateway)
        and tags.issuperset(selector.tags.items())
    )


def _name_test(glob: str | None) -> _NameTest:
    return (lambda name: True) if glob is None else compile_glob(glob)
