"""The data for planning messages at one moment: unsettled episodes, what was told of them, silences and rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, RETRACTED
from app.alerting.episodes.revision import Told
from app.alerting.rules.matching import terms_for
from app.alerting.rules.model import BUILT_IN_RULES, GATEWAY_OFFLINE, Rule, RuleSet, Terms
from app.alerting.rules.mutes import is_muted
from app.alerting.telling.gateway_rules import GatewayRules
from app.alerting.telling.sql import SQL
from app.alerting.telling.untold import GatewaySeries, Group, Silence, UntoldEpisode
from app.clock import SECOND_US
from app.db.pool import Connection

#: A series that catches up is held until this long after its last upload,
CATCH_UP_WAIT_US = 60 * SECOND_US
#: but at most until this long after its episode became known.
CATCH_UP_LIMIT_US = 600 * SECOND_US


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
        server_zone: str = "UTC",
        sent: Mapping[Group, Sequence[int]] = MappingProxyType({}),
        gateway_series: Iterable[GatewaySeries] = (),
    ) -> None:
        self.now_us = now_us
        self._server_zone = server_zone
        self.episodes = list(episodes)
        self.told = told
        #: (channel, episode id) -> the service's reference of the message about the episode.
        self.refs = refs
        #: When the last message of each group was sent or claimed, in microseconds since 1970.
        self.last_sent = last_sent
        #: When the newest messages of each group were sent or claimed, the newest first.
        self.sent = sent
        #: When the last dead letter of each group was given up, in microseconds since 1970.
        self.last_refused = last_refused
        self._rules: dict[str, Rule] = {rule.name: rule for rule in rules.rules}
        self._silences = list(silences)
        self._channels = [channel.name for channel in rules.channels]
        self._channel_zones = {channel.name: channel.fields.get("timezone") for channel in rules.channels}
        self._terms: dict[tuple[str, int | None], Terms | None] = {}
        self._gateway_rules = GatewayRules(rules, gateway_series, self._silences, now_us)
        self._cleared = {
            (each.rule, each.series_id) for each in self.episodes if each.is_open and each.reason == NO_DATA_CLEAR
        }
        self._firing: dict[str, list[UntoldEpisode]] = {}
        for each in self.episodes:
            if each.is_open and each.reason != NO_DATA_CLEAR and not (self.is_over(each) or self.is_history(each)):
                self._firing.setdefault(each.rule, []).append(each)

    def rule(self, episode: UntoldEpisode) -> Rule | None:
        """Return the episode's rule, or None if it was removed.

        A built-in rule has the durations of the first rule that it stands for, and groups as that one does.
        """
        if episode.rule in BUILT_IN_RULES and episode.is_of_gateway:
            return self._gateway_rules.rule(episode)
        return self._rules.get(episode.rule)

    def terms(self, episode: UntoldEpisode) -> Terms | None:
        """Return the terms of the rule for the episode's series, or for its gateway if it is declared in a rule file.

        None if the rule was removed or does not select the series, or if it is built in.
        """
        pair = (episode.rule, episode.series_id)
        if pair not in self._terms:
            rule = self._rules.get(episode.rule)
            known = rule is not None and episode.sensor is not None and episode.metric is not None
            self._terms[pair] = (
                terms_for(rule, episode.sensor, episode.metric, episode.tags or {}, episode.gateway)  # type: ignore[arg-type]
                if known
                else rule.terms
                if rule is not None and rule.offline is not None
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
        """Return the configured channels that are notified of the episode at its level, now."""
        if episode.rule in BUILT_IN_RULES and episode.is_of_gateway:
            names = self._gateway_rules.channels(episode)
        else:
            terms = self.terms(episode)
            names = () if terms is None else terms.notified_at(episode.level, episode.tags or {})
        names = (*names, *self._escalated_to(episode)) if names else names
        return tuple(name for name in dict.fromkeys(names) if name in self._channels)

    def _escalated_to(self, episode: UntoldEpisode) -> tuple[str, ...]:
        """Return whom else to tell, because nobody has acknowledged the episode for too long since it was told."""
        rule = self.rule(episode)
        if rule is None or rule.escalate is None or episode.first_told_us is None or episode.acked_level is not None:
            return ()
        is_due = self.now_us >= episode.first_told_us + rule.escalate.after_us
        return rule.escalate.notify if is_due and episode.is_open and not self.is_over(episode) else ()

    def is_configured(self, channel: str) -> bool:
        """Return whether the rule files still define the channel."""
        return channel in self._channels

    def group_key(self, episode: UntoldEpisode) -> str:
        """Return the key of the episode's group: the rule's name and the values of its `group_by` labels, as JSON."""
        rule = self.rule(episode)
        values = [episode.label(name) for name in rule.group_by] if rule else []
        return msgspec.json.encode([episode.rule, values]).decode()

    def count_sensors(self, gateway: str | None) -> int:
        """Return how many sensors in use a gateway has."""
        return self._gateway_rules.count_sensors(gateway)

    def group_labels(self, episode: UntoldEpisode) -> list[str]:
        """Return what the alerts of the episode's group have in common."""
        rule = self.rule(episode)
        return [label for name in (rule.group_by if rule else ()) if (label := episode.label(name))]

    def zone(self, channel: str, episode: UntoldEpisode) -> str:
        """Return the time zone of a message: that of the channel, else of the rule, else of the server."""
        rule = self.rule(episode)
        own = self._channel_zones.get(channel)
        return (own if isinstance(own, str) else None) or (rule and rule.timezone) or self._server_zone

    def is_over(self, episode: UntoldEpisode) -> bool:
        """Return whether the alert counts as resolved for people: by its readings, a person, or for lack of data."""
        return episode.resolved_us is not None or episode.is_closed or self.is_cleared(episode)

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

    def is_quiet(self, episode: UntoldEpisode, channel: str) -> bool:
        """Return whether a silence or a mute window covers the episode for a channel.

        For that of a built-in rule these are the windows of the rules that it stands for and that notify the channel.
        """
        is_built_in = episode.rule in BUILT_IN_RULES and episode.is_of_gateway
        return self.is_silenced_or_muted(episode) or (is_built_in and self._gateway_rules.is_quiet(episode, channel))

    def is_inhibited(self, episode: UntoldEpisode) -> bool:
        """Return whether a firing episode of a rule in `inhibited_by` has equal values of all labels in `same`."""
        rule = self.rule(episode)
        return rule is not None and any(
            source.id != episode.id and all(source.label(name) == episode.label(name) != "" for name in inhibition.same)
            for inhibition in rule.inhibited_by
            for source in self._inhibitors(inhibition.rule)
        )

    def _inhibitors(self, rule: str) -> Iterator[UntoldEpisode]:
        """Yield the firing episodes of a rule; `gateway-offline` stands for all rules of that kind."""
        yield from self._firing.get(rule, ())
        if rule == GATEWAY_OFFLINE:
            for each in self._rules.values():
                if each.offline is not None:
                    yield from self._firing.get(each.name, ())

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


async def load_situation(connection: Connection, rules: RuleSet, now_us: int, server_zone: str = "UTC") -> Situation:
    """Load the situation in the caller's transaction."""
    episodes: list[UntoldEpisode] = []
    told: dict[int, dict[str, Told]] = {}
    refs: dict[tuple[str, int], str] = {}
    for row in await connection.fetch(SQL["list_unsettled"], [each.name for each in rules.rules if each.has_when]):
        facts = dict(row)
        for channel, state, level, ref in facts.pop("told"):
            told.setdefault(row["id"], {})[channel] = Told(state, level)
            if ref:
                refs[channel, row["id"]] = ref
        episodes.append(UntoldEpisode(**facts))
    silences = [Silence(row["id"], row["matchers"]) for row in await connection.fetch(SQL["list_silences"])]
    sent, last_refused = await _load_last(connection)
    last_sent = {group: times[0] for group, times in sent.items()}
    gateways = list({each.gateway for each in episodes if each.is_of_gateway and each.gateway is not None})
    series = await connection.fetch(SQL["list_series_of_gateways"], gateways) if gateways else ()
    gateway_series = [msgspec.convert(dict(row), GatewaySeries) for row in series]
    return Situation(
        now_us, rules, episodes, told, refs, silences, last_sent, last_refused, server_zone, sent, gateway_series
    )


async def _load_last(connection: Connection) -> tuple[dict[Group, Sequence[int]], dict[Group, int]]:
    """Return when the newest messages of each group were sent, newest first, and when dead letters were given up."""
    sent: dict[Group, Sequence[int]] = {}
    refused: dict[Group, int] = {}
    for row in await connection.fetch(SQL["list_last_messages"]):
        group = row["channel"], row["group_key"]
        if row["state"] == "dead":
            refused[group] = row["times"][0]
        else:
            sent[group] = row["times"]
    return sent, refused
