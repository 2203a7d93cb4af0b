"""Matching of series with rules: the rules that apply to a series, and their terms with the first matching override."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from app.alerting.episodes.machine import Level, SecondMetric, SeriesRule
from app.alerting.episodes.samples import ValueOf
from app.alerting.episodes.shortcut import Shortcut
from app.alerting.rules.model import Rule, RuleSet, Selector, Terms
from app.globs import compile_glob

#: Largest number of (metric, tags, gateway) in the cache of a RuleBook. When it is full, it is emptied.
CACHE_SIZE = 50_000


class Match(msgspec.Struct, frozen=True, eq=False):
    """A rule that applies to a series, with its terms for that series."""

    rule: Rule
    terms: Terms
    series_rule: SeriesRule
    #: Hash of value, levels, clear, max_gap, holds and when. When it changes, a new era begins.
    rule_hash: str
    shortcut: Shortcut
    is_timed: bool = False


class RuleBook:
    """The rules of a set, indexed for fast matching with many series. Each rule and override is compiled once."""

    def __init__(self, rule_set: RuleSet) -> None:
        self._by_metric: defaultdict[str | None, list[_CompiledRule]] = defaultdict(list)
        #: The rules of the kind `gateway_offline`, in order.
        self.offline_rules = [rule for rule in rule_set.rules if rule.offline is not None]
        for number, rule in enumerate(rule_set.rules):
            if rule.offline is not None:
                continue
            self._by_metric[rule.sensors.metric].append(_compile(number, rule))
        self._cache: dict[_Labels, tuple[_Candidate, ...]] = {}
        self._rules = {rule.name: rule for rule in rule_set.rules}
        timed = [(rule, terms) for rule in rule_set.rules for terms in _all_terms(rule) if terms.holds or terms.when]
        #: Whether a rule holds values or looks at a second metric.
        self.has_timed = bool(timed)
        metrics = {rule.sensors.metric for rule, _ in timed}
        #: The metrics that such rules select; None: every metric.
        self.timed_metrics = None if None in metrics else frozenset(each for each in metrics if each is not None)
        self.second_metrics = frozenset(when.metric for _, terms in timed for when in terms.when)

    def hashes(self) -> list[tuple[str, str]]:
        """Return the hash of each rule and of each of its overrides, with the rule's name; at least one."""
        found = [
            (choice.match.rule.name, choice.match.rule_hash)
            for rules in self._by_metric.values()
            for rule in rules
            for choice in rule.choices
        ]
        return found or [("", "")]

    def matches(self, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> tuple[Match, ...]:
        """Return the matches of a series in the order of the rules, at most one for each rule."""
        return tuple(
            next(choice.match for choice in candidate.choices if choice.matches_name(sensor))
            for candidate in self._candidates(metric, tags, gateway)
            if candidate.matches_name(sensor)
        )

    def selects(self, rule: str, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> bool:
        """Return whether the rule of this name applies to a series."""
        return any(match.rule.name == rule for match in self.matches(sensor, metric, tags, gateway))

    def offline_rule(self, gateway: str) -> Rule | None:
        """Return the first rule of the kind `gateway_offline` for a gateway; None: the built-in one covers it."""
        return next((rule for rule in self.offline_rules if _watches(rule, gateway)), None)

    def value_of(
        self, rule: str, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None
    ) -> ValueOf | None:
        """Return what the rule of this name compares for a series; None if it does not apply to it."""
        found = self._rules.get(rule)
        terms = None if found is None else terms_for(found, sensor, metric, tags, gateway)
        return None if terms is None else terms.value

    def _candidates(self, metric: str, tags: Mapping[str, str], gateway: str | None) -> "tuple[_Candidate, ...]":
        """Return the rules and overrides that match these labels, which many sensors share, so that they are cached."""
        labels = (metric, gateway, frozenset(tags.items()))
        if labels not in self._cache:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            rules = sorted(
                [*self._by_metric.get(metric, ()), *self._by_metric.get(None, ())], key=lambda rule: rule.number
            )
            self._cache[labels] = tuple(
                _Candidate(
                    rule.matches_name,
                    tuple(choice for choice in rule.choices if _labels_match(choice.sensors, labels)),
                )
                for rule in rules
                if _labels_match(rule.sensors, labels)
            )
        return self._cache[labels]


def _all_terms(rule: Rule) -> list[Terms]:
    return [rule.terms, *(override.terms for override in rule.overrides)]


def _watches(rule: Rule, gateway: str) -> bool:
    return rule.offline is not None and compile_glob(rule.offline.gateways)(gateway)


def compile_rule(
    rule: Rule, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None
) -> SeriesRule | None:
    """Return the compiled terms of a rule for a series, or None if the rule does not select the series."""
    terms = terms_for(rule, sensor, metric, tags, gateway)
    return None if terms is None else compile_terms(terms)


def terms_for(rule: Rule, sensor: str, metric: str, tags: Mapping[str, str], gateway: str | None) -> Terms | None:
    """Return the terms of a rule for a series, or None if the rule does not select it.

    They are the terms of the first override that matches the series, or else the rule's own.
    """
    labels = (metric, gateway, frozenset(tags.items()))
    if rule.offline is not None or not _selects(rule.sensors, sensor, labels):
        return None
    overrides = (one.terms for one in rule.overrides if _selects(one.sensors, sensor, labels))
    return next(overrides, rule.terms)


def compile_terms(terms: Terms) -> SeriesRule:
    """Return the part of the terms that decides the episodes."""
    return SeriesRule(
        value=terms.value,
        levels=tuple(Level(level.name, level.condition, level.for_us) for level in terms.levels),
        clear=terms.clear.condition,
        clear_for_us=terms.clear.for_us,
        max_gap_us=terms.max_gap_us,
        holds=terms.holds,
        when=tuple(SecondMetric(each.metric, each.condition, each.max_age_us, each.same) for each in terms.when),
    )


_Labels = tuple[str, str | None, frozenset[tuple[str, str]]]
_NameTest = Callable[[str], bool]


class _Choice(msgspec.Struct, frozen=True, eq=False):
    """An override of a rule, or the rule's own terms. The own terms come last and match every series of the rule."""

    sensors: Selector
    matches_name: _NameTest
    match: Match


class _Candidate(msgspec.Struct, frozen=True, eq=False):
    """A rule that matches all labels but the sensor's name, with those of its choices that do so too."""

    matches_name: _NameTest
    choices: tuple[_Choice, ...]


class _CompiledRule(msgspec.Struct, frozen=True, eq=False):
    """A rule with all its choices. `number` is its place in the rule set."""

    number: int
    sensors: Selector
    matches_name: _NameTest
    choices: tuple[_Choice, ...]


def _compile(number: int, rule: Rule) -> _CompiledRule:
    overrides = [(override.sensors, override.terms) for override in rule.overrides]
    choices = tuple(
        _Choice(sensors, _name_test(sensors.id), _match(rule, terms))
        for sensors, terms in (*overrides, (Selector(), rule.terms))
    )
    return _CompiledRule(number, rule.sensors, _name_test(rule.sensors.id), choices)


def _match(rule: Rule, terms: Terms) -> Match:
    series_rule = compile_terms(terms)
    return Match(rule, terms, series_rule, series_rule.digest(), Shortcut(series_rule), series_rule.is_timed)


def _selects(selector: Selector, sensor: str, labels: _Labels) -> bool:
    return _name_test(selector.id)(sensor) and _labels_match(selector, labels)


def _labels_match(selector: Selector, labels: _Labels) -> bool:
    metric, gateway, tags = labels
    return (
        selector.metric in (None, metric)
        and selector.gateway in (None, gateway)
        and tags.issuperset(selector.tags.items())
    )


def _name_test(glob: str | None) -> _NameTest:
    return (lambda name: True) if glob is None else compile_glob(glob)
