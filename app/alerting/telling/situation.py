"""What the planner looks at: unsettled episodes, what was told of them, silences and the rules, at one moment."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, RETRACTED
from app.alerting.episodes.revision import Told
from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import GATEWAY_OFFLINE, Rule, RuleSet, Selector, Terms
from app.alerting.rules.mutes import is_muted
from app.alerting.telling.sql import SQL
from app.clock import SECOND_US
from app.db.pool import Connection
from app.globs import compile_glob
from app.model import Tags

#: A series that catches up is told of so long after its last upload, and at most so long after it became known.
CATCH_UP_WAIT_US = 60 * SECOND_US
CATCH_UP_LIMIT_US = 600 * SECOND_US
_OFFLINE_RULE = Rule(GATEWAY_OFFLINE, Selector(), Terms(levels=()), group_by=("gateway",))
#: A channel and the key of a group.
Group = tuple[str, str]


class UntoldEpisode(msgspec.Struct, frozen=True):
    """An episode of which something may be left to tell; times in microseconds since 1970."""

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
    #: A message about it is being sent: what it told may yet be taken back.
    is_on_its_way: bool

    @property
    def is_open(self) -> bool:
        """Whether it goes on, as far as readings tell."""
        return self.resolved_us is None and self.reason != RETRACTED

    def label(self, name: str) -> str:
        """Give a label by name: sensor, metric, gateway, or a tag; empty where there is none."""
        own = {"sensor": self.sensor, "metric": self.metric, "gateway": self.gateway}
        return (own[name] if name in own else (self.tags or {}).get(name)) or ""


class Silence(msgspec.Struct, frozen=True):
    """Matchers in force now; texts may hold * and ?."""

    id: int
    matchers: Mapping[str, Any]

    def covers(self, episode: UntoldEpisode) -> bool:
        """Tell whether every matcher fits."""
        return all(
            all(compile_glob(pattern)((episode.tags or {}).get(tag, "")) for tag, pattern in wanted.items())
            if name == "tags"
            else compile_glob(wanted)({"rule": episode.rule, "level": episode.level}.get(name) or episode.label(name))
            for name, wanted in self.matchers.items()
        )


class Situation:
    """Everything known at one moment, and the questions that the planner asks of it."""

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
        #: What the service calls the message that told a channel of an episode.
        self.refs = refs
        #: When each group last heard something, or begins to just now.
        self.last_sent = last_sent
        #: When the last message of each was given up.
        self.last_refused = last_refused
        self._rules: dict[str, Rule] = {rule.name: rule for rule in (*rules.rules, _OFFLINE_RULE)}
        self._silences = list(silences)
        self._channels = [channel.name for channel in rules.channels]
        self._terms: dict[tuple[str, int | None], Terms | None] = {}
        self._cleared = {
            (each.rule, each.series_id) for each in self.episodes if each.is_open and each.reason == NO_DATA_CLEAR
        }
        self._firing: dict[str, list[UntoldEpisode]] = {}
        for each in self.episodes:
            if each.is_open and each.reason != NO_DATA_CLEAR and not self.is_cleared(each):
                self._firing.setdefault(each.rule, []).append(each)

    def rule(self, episode: UntoldEpisode) -> Rule | None:
        """Give the rule, unless it was removed."""
        return self._rules.get(episode.rule)

    def terms(self, episode: UntoldEpisode) -> Terms | None:
        """Give what the rule says for the episode's series."""
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
        """All episodes by group."""
        groups: dict[str, list[UntoldEpisode]] = {}
        for episode in self.episodes:
            groups.setdefault(self.group_key(episode), []).append(episode)
        return groups

    def channels(self, episode: UntoldEpisode) -> tuple[str, ...]:
        """Name who is to be told of the episode at its level."""
        if episode.rule == GATEWAY_OFFLINE:
            return self.channels_of_gateway(episode.gateway)
        terms = self.terms(episode)
        return (
            () if terms is None else tuple(name for name in terms.notified_at(episode.level) if name in self._channels)
        )

    def channels_of_gateway(self, gateway: str | None) -> tuple[str, ...]:
        """Name the channels of rules that may watch it for silence: gateway-offline stands in place of their alerts."""
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
        """Tell whether there is such a channel: one that was taken out of the files can be told nothing more."""
        return channel in self._channels

    def group_key(self, episode: UntoldEpisode) -> str:
        """Name the group: the rule, and the values of what it groups by."""
        rule = self.rule(episode)
        values = [episode.label(name) for name in rule.group_by] if rule else []
        return msgspec.json.encode([episode.rule, values]).decode()

    def is_cleared(self, episode: UntoldEpisode) -> bool:
        """Tell whether people think it over, for lack of data, though its readings do not say so."""
        return episode.kind == "threshold" and (episode.rule, episode.series_id) in self._cleared

    def has_data_back(self, episode: UntoldEpisode) -> bool:
        """Tell whether people thought it over for lack of data, which came back."""
        return any(
            (each.rule, each.series_id, each.reason) == (episode.rule, episode.series_id, NO_DATA_CLEAR)
            for each in self.episodes
            if each.resolved_us is not None
        )

    def open_episode(self, silence: UntoldEpisode) -> UntoldEpisode | None:
        """Give what goes on in the series of an alert of missing data."""
        return next((each for each in self._episodes_of(silence) if each.is_open), None)

    def last_end(self, silence: UntoldEpisode) -> int | None:
        """Say when something ended last in the series of an alert of missing data, as far as it may be news."""
        return max(
            (each.resolved_us for each in self._episodes_of(silence) if each.resolved_us is not None), default=None
        )

    def _episodes_of(self, silence: UntoldEpisode) -> list[UntoldEpisode]:
        own = (silence.rule, silence.series_id, "threshold")
        return [
            each for each in self.episodes if (each.rule, each.series_id, each.kind) == own and each.reason != RETRACTED
        ]

    def is_hushed(self, episode: UntoldEpisode) -> bool:
        """Tell whether a silence or a mute window covers the episode now."""
        terms = self.terms(episode)
        muted = terms is not None and bool(terms.mute) and is_muted(terms.mute, self.now_us)
        return muted or any(silence.covers(episode) for silence in self._silences)

    def is_inhibited(self, episode: UntoldEpisode) -> bool:
        """Tell whether a rule that is firing now speaks for this one."""
        rule = self.rule(episode)
        return rule is not None and any(
            source.id != episode.id and all(source.label(name) == episode.label(name) != "" for name in inhibition.same)
            for inhibition in rule.inhibited_by
            for source in self._firing.get(inhibition.rule, ())
        )

    def is_catching_up(self, episode: UntoldEpisode) -> bool:
        """Tell whether a late upload is perhaps still under way; for missing data, since they came back."""
        terms = self.terms(episode)
        known_us = episode.first_known_us if episode.kind == "threshold" else episode.resolved_us
        if terms is None or known_us is None or episode.last_us is None or episode.received_us is None:
            return False
        if self.now_us - episode.last_us <= terms.late_data.live_us:
            return False
        return self.now_us < min(episode.received_us + CATCH_UP_WAIT_US, known_us + CATCH_UP_LIMIT_US)


async def load_situation(connection: Connection, rules: RuleSet, now_us: int) -> Situation:
    """Read the situation inside the caller's transaction."""
    episodes: list[UntoldEpisode] = []
    told: dict[int, dict[str, Told]] = {}
    refs: dict[tuple[str, int], str] = {}
    for row in await connection.fetch(SQL["list_untold"]):
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
