"""Alerts about whole gateways: the rules that they stand for, and the channels of these rules.

The built-in rules for gateways are in no rule file. Their alerts stand for those that rules with `no_data` would have
about each series of the gateway, so they go to the channels of these rules.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import GATEWAY_CLOCK, Rule, RuleSet, Selector, Terms
from app.alerting.rules.mutes import is_muted
from app.alerting.telling.untold import GatewaySeries, Silence, UntoldEpisode

_NO_RULE = Rule("", Selector(), Terms(levels=()))
#: Labels that a whole gateway does not have.
_OF_SERIES = ("sensor", "metric")


class GatewayRules:
    """The built-in rules for gateways at one moment, derived from the rules that they stand for."""

    def __init__(
        self, rules: RuleSet, gateway_series: Iterable[GatewaySeries], silences: Sequence[Silence], now_us: int
    ) -> None:
        self._rules = rules.rules
        self._silences = silences
        self._now_us = now_us
        self._series: dict[str, list[GatewaySeries]] = {}
        for series in gateway_series:
            self._series.setdefault(series.gateway, []).append(series)
        self._built_in: dict[str | None, Rule] = {}

    def rule(self, episode: UntoldEpisode) -> Rule:
        """Return the built-in rule of an episode, with the durations of the first rule that it stands for."""
        found = self._built_in.get(episode.gateway)
        if found is None:
            first = next((rule for rule, _, _ in self._stood_for(episode.gateway)), _NO_RULE)
            found = self._built_in[episode.gateway] = msgspec.structs.replace(
                first,
                sensors=Selector(),
                terms=Terms(levels=()),
                overrides=(),
                inhibited_by=(),
                group_by=tuple(name for name in first.group_by if name not in _OF_SERIES),
                remind_every_us=_most_often(rule.remind_every_us for rule, _, _ in self._stood_for(episode.gateway)),
            )
        return msgspec.structs.replace(found, name=episode.rule)

    def channels(self, episode: UntoldEpisode) -> tuple[str, ...]:
        """Return the channels of the rules for which the alert of a gateway stands, unless they are held back now."""
        if episode.rule == GATEWAY_CLOCK and not self._series.get(episode.gateway or ""):
            return self._channels_of_new_gateway(episode)
        by_series = [names for names, is_quiet in self._notified(episode) if not is_quiet]
        return tuple(dict.fromkeys(name for names in by_series for name in names))

    def is_quiet(self, episode: UntoldEpisode, channel: str) -> bool:
        """Return whether the rules that the alert stands for, and that notify the channel, are all held back now."""
        own = [is_quiet for names, is_quiet in self._notified(episode) if channel in names]
        return bool(own) and all(own)

    def count_sensors(self, gateway: str | None) -> int:
        """Return how many sensors in use a gateway has."""
        return len({each.sensor for each in self._series.get(gateway or "", ())})

    def _notified(self, episode: UntoldEpisode) -> Iterator[tuple[tuple[str, ...], bool]]:
        """Yield the channels of each series for which the alert of a gateway stands, and whether they are held back."""
        for rule, terms, each in self._stood_for(episode.gateway):
            level = terms.levels[0].name
            alert = msgspec.structs.replace(
                episode, rule=rule.name, sensor=each.sensor, metric=each.metric, tags=each.tags, level=level
            )
            muted = bool(terms.mute) and is_muted(terms.mute, self._now_us)
            is_quiet = muted or any(silence.covers(alert) for silence in self._silences)
            yield terms.notified_at(level, each.tags), is_quiet

    def _channels_of_new_gateway(self, episode: UntoldEpisode) -> tuple[str, ...]:
        """Return the channels of the rules that may alert on missing data of a gateway of which nothing is stored."""
        names: dict[str, None] = {}
        for rule in self._rules:
            no_data = rule.terms.no_data
            if no_data is not None and no_data.then == "alert" and rule.sensors.gateway in (None, episode.gateway):
                names |= dict.fromkeys(rule.terms.notified_at(rule.terms.levels[0].name, {}))
        return tuple(names)

    def _stood_for(self, gateway: str | None) -> Iterator[tuple[Rule, Terms, GatewaySeries]]:
        """Yield the rules that alert on missing data of a series of a gateway: a built-in alert stands for theirs."""
        for rule in self._rules:
            for each in self._series.get(gateway or "", ()):
                terms = terms_for(rule, each.sensor, each.metric, each.tags, gateway)
                if terms is not None and terms.no_data is not None and terms.no_data.then == "alert":
                    yield rule, terms, each


def _most_often(intervals: Iterable[int | None]) -> int | None:
    """Return the shortest of the intervals between reminders; None if there are none."""
    return min((each for each in intervals if each is not None), default=None)
