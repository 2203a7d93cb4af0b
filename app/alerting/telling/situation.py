"""The data for planning messages at one moment: unsettled episodes, what was told of them, silences and rules."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, RETRACTED
from app.alerting.episodes.revision import Told
from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import BUILT_IN_RULES, Rule, RuleSet, Selector, Terms
from app.alerting.rules.mutes import is_muted
from app.alerting.telling.sql import SQL
from app.clock import SECOND_US
from app.db.pool import Connection
from app.globs import compile_glob
from app.model import Tags

#: A series that catches up is held until this long after its last upload,
CATCH_UP_WAIT_US = 60 * SECOND_US
#: but at most until this long after its episode became known.
CATCH_UP_LIMIT_US = 600 * SECOND_US
_BUILT_IN = tuple(Rule(name, Selector(), Terms(levels=()), group_by=("gateway",)) for name in BUILT_IN_RULES)
#: (channel, group key)
Group = tuple[str, str]


class UntoldEpisode(msgspec.Struct, frozen=True):
    """An episode about which a message may still be needed; times in microseconds since 1970."""

    id: int
    rule: str
    series_id: int | None
    gateway: str | None
    kind: str
    started_us: int
    fired_us: int
    resolved_us: int | None
    level: str
    steps: Any
    threshold: Any
    reason: str | None
    merged_into: int | None
    first_known_us: int
    acked_by: str | None
    acked_level: str | None
    revision: int
    sensor: str | None
    tags: Tags | None
    metric: str | None
    unit: str | None
    last_us: int | None
    last_value: float | None
    received_us: int | None
    #: Only history of the series was imported.
    only_imported: bool
    #: A message about it is being sent. If it is refused, what it told is taken back.
    is_being_sent: bool
    #: Of missing data: why everything was refused that was uploaded since, and the skew of the gateway's last upload.
    refused_for: str | None = None
    skew_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the episode is neither resolved nor retracted."""
        return self.resolved_us is None and self.reason != RETRACTED

    def label(self, name: str) -> str:
        """Return a label by name: sensor, metric, gateway or a tag; empty if the episode has no such label."""
        own = {"sensor": self.sensor, "metric": self.metric, "gateway": self.gateway}
        return (own[name] if name in own else (self.tags or {}).get(name)) or ""


class Silence(msgspec.Struct, frozen=True):
    """A silence in force. The texts of its matchers may contain the wildcards * and ?."""

    id: int
    matchers: Mapping[str, Any]

    def covers(self, episode: UntoldEpisode) -> bool:
        """Return whether every matcher matches the episode."""
        return all(
            all(compile_glob(pattern)((episode.tags or {}).get(tag, "")) for tag, pattern in wanted.items())
            if name == "tags"
            else compile_glob(wanted)({"rule": episode.rule, "level": episode.level}.get(name) or episode.label(name))
            for name, wanted in self.matchers.items()
        )


class Situation:
    """All data for planning messages at one moment, with derived properties of episodes."""

    def __init__(
        self,
        now_us: int,
        rules: RuleSet,
        episodes: Iterable[UntoldEpisode],
        told: Mapping[int, Mapping[str, Told]],
        refs: Mapping[tuple[str, int], str],
        silences: Iterable[Silence],
        last_sent: Mapping[Group, int],
        last_refused: Mapping[Group, int],
    ) -> None:
        self.now_us = now_us
        self.episodes = list(episodes)
        self.told = told
        #: (channel, episode id) -> the service's reference of the message about the episode.
        self.refs = refs
        #: When the last message of each group was sent or claimed, in microseconds since 1970.
        self.last_sent = last_sent
        #: When the last dead letter of each group was given up, in microseconds since 1970.
        self.last_refused = last_refused
        self._rules: dict[str, Rule] = {rule.name: rule for rule in (*rules.rules, *_BUILT_IN)}
        self._silences = list(silences)
        self._channels = [channel.name for channel in rules.channels]
        self._terms: dict[tuple[str, int | None], Terms | None] = {}
        self._cleared = {
            (each.rule, each.series_id) for each in self.episodes if each.is_open and each.reason == NO_DATA_CLEAR
        }
        self._firing: dict[str, list[UntoldEpisode]] = {}
        for each in self.episodes:
            if each.is_open and each.reason != NO_DATA_CLEAR and not (self.is_cleared(each) or self.is_history(each)):
                self._firing.setdefault(each.rule, []).append(each)

    def rule(self, episode: UntoldEpisode) -> Rule | None:
        """Return the episode's rule, or None if it was removed."""
        return self._rules.get(episode.rule)

    def terms(self, episode: UntoldEpisode) -> Terms | None:
        """Return the terms of the rule for the episode's series.

        None if the rule was removed or does not select the series, or the episode has no series.
        """
        pair = (episode.rule, episode.series_id)
        if pair not in self._terms:
            rule = self.rule(episode)
            known = rule is not None and episode.sensor is not None and episode.metric is not None
            self._terms[pair] = (
                terms_for(rule, episode.sensor, episode.metric, episode.tags or {}, episode.gateway)  # type: ignore[arg-type]
                if known
                else None
            )
        return self._terms[pair]

    @cached_property
    def groups(self) -> dict[str, list[UntoldEpisode]]:
        """All episodes by group key."""
        groups: dict[str, list[UntoldEpisode]] = {}
        for episode in self.episodes:
            groups.setdefault(self.group_key(episode), []).append(episode)
        return groups

    def channels(self, episode: UntoldEpisode) -> tuple[str, ...]:
        """Return the configured channels that are notified of the episode at its level."""
        if episode.rule in BUILT_IN_RULES:
            return self.channels_of_gateway(episode.gateway)
        terms = self.terms(episode)
        return (
            () if terms is None else tuple(name for name in terms.notified_at(episode.level) if name in self._channels)
        )

    def channels_of_gateway(self, gateway: str | None) -> tuple[str, ...]:
        """Return the configured channels of rules that alert on missing data and may select series of the gateway.

        The alert of gateway-offline replaces the alerts of these rules, and a wrong clock leads to missing data.
        """
        names = (
            name
            for rule in self._rules.values()
            if rule.terms.no_data is not None
            and rule.terms.no_data.then == "alert"
            and rule.sensors.gateway in (None, gateway)
            for name in rule.terms.notify
        )
        return tuple(name for name in dict.fromkeys(names) if name in self._channels)

    def is_configured(self, channel: str) -> bool:
        """Return whether the rule files still define the channel."""
        return channel in self._channels

    def group_key(self, episode: UntoldEpisode) -> str:
        """Return the key of the episode's group: the rule's name and the values of its `group_by` labels, as JSON."""
        rule = self.rule(episode)
        values = [episode.label(name) for name in rule.group_by] if rule else []
        return msgspec.json.encode([episode.rule, values]).decode()

    def is_cleared(self, episode: UntoldEpisode) -> bool:
        """Return whether the alert counts as resolved because data are missing, although its episode is open."""
        return episode.kind == "threshold" and (episode.rule, episode.series_id) in self._cleared

    def has_data_back(self, episode: UntoldEpisode) -> bool:
        """Return whether the alert was cleared for missing data, and data are back."""
        return any(
            (each.rule, each.series_id, each.reason) == (episode.rule, episode.series_id, NO_DATA_CLEAR)
            for each in self.episodes
            if each.resolved_us is not None
        )

    def open_episode(self, no_data_alert: UntoldEpisode) -> UntoldEpisode | None:
        """Return the open threshold episode of the rule and series of an alert of missing data, or None."""
        return next((each for each in self._threshold_episodes(no_data_alert) if each.is_open), None)

    def last_end(self, no_data_alert: UntoldEpisode) -> int | None:
        """Return the last end of an unsettled threshold episode of the rule and series of an alert of missing data."""
        ends = (each.resolved_us for each in self._threshold_episodes(no_data_alert) if each.resolved_us is not None)
        return max(ends, default=None)

    def _threshold_episodes(self, no_data_alert: UntoldEpisode) -> list[UntoldEpisode]:
        key = (no_data_alert.rule, no_data_alert.series_id, "threshold")
        return [
            each for each in self.episodes if (each.rule, each.series_id, each.kind) == key and each.reason != RETRACTED
        ]

    def is_silenced_or_muted(self, episode: UntoldEpisode) -> bool:
        """Return whether a silence or a mute window covers the episode now."""
        terms = self.terms(episode)
        muted = terms is not None and bool(terms.mute) and is_muted(terms.mute, self.now_us)
        return muted or any(silence.covers(episode) for silence in self._silences)

    def is_inhibited(self, episode: UntoldEpisode) -> bool:
        """Return whether a firing episode of a rule in `inhibited_by` has equal values of all labels in `same`."""
        rule = self.rule(episode)
        return rule is not None and any(
            source.id != episode.id and all(source.label(name) == episode.label(name) != "" for name in inhibition.same)
            for inhibition in rule.inhibited_by
            for source in self._firing.get(inhibition.rule, ())
        )

    def is_history(self, episode: UntoldEpisode) -> bool:
        """Return whether only history of the series was imported: its last value says nothing about now."""
        return episode.kind == "threshold" and episode.only_imported

    def is_catching_up(self, episode: UntoldEpisode) -> bool:
        """Return whether a late upload of the series may still be going on.

        The time limit counts from when the episode became known, or from the end of an alert of missing data.
        """
        terms = self.terms(episode)
        known_us = episode.first_known_us if episode.kind == "threshold" else episode.resolved_us
        if terms is None or known_us is None or episode.last_us is None or episode.received_us is None:
            return False
        if self.now_us - episode.last_us <= terms.late_data.live_us:
            return False
        return self.now_us < min(episode.received_us + CATCH_UP_WAIT_US, known_us + CATCH_UP_LIMIT_US)


async def load_situation(connection: Connection, rules: RuleSet, now_us: int) -> Situation:
    """Load the situation in the caller's transaction."""
    episodes: list[UntoldEpisode] = []
    told: dict[int, dict[str, Told]] = {}
    refs: dict[tuple[str, int], str] = {}
    for row in await connection.fetch(SQL["list_unsettled"]):
        facts = dict(row)
        for channel, state, level, ref in facts.pop("told"):
            told.setdefault(row["id"], {})[channel] = Told(state, level)
            if ref:
                refs[channel, row["id"]] = ref
        episodes.append(UntoldEpisode(**facts))
    silences = [Silence(row["id"], row["matchers"]) for row in await connection.fetch(SQL["list_silences"])]
    last_sent, last_refused = await _load_last(connection)
    return Situation(now_us, rules, episodes, told, refs, silences, last_sent, last_refused)


async def _load_last(connection: Connection) -> tuple[dict[Group, int], dict[Group, int]]:
    sent: dict[Group, int] = {}
    refused: dict[Group, int] = {}
    for row in await connection.fetch(SQL["list_last_messages"]):
        (refused if row["state"] == "dead" else sent)[row["channel"], row["group_key"]] = row["us"]
    return sent, refused
