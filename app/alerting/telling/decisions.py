"""Decisions about messages: which channel must be told what of which episode, and when. Pure functions of a Situation.

For each channel and episode, the state that was told is compared with the current state. A message tells the
difference; changes in between are not sent one by one.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, RETRACTED
from app.alerting.episodes.revision import Told
from app.alerting.rules.model import Rule, Selector, Terms
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import Group, UntoldEpisode
from app.clock import DAY_US
from app.model import severity

#: `raised`: the level rose. `again`: an alert that was told as over fires again. `summary`: the episode was over before
#: anything was told. `retracted` and `withdrawn`: later readings show that the episode did not happen; its last message
#: told that it fires (`retracted`) or that it is over (`withdrawn`).
ActionKind = Literal["firing", "raised", "resolved", "retracted", "again", "summary", "withdrawn", "reminder"]

#: Kinds that silences, mutes, inhibition and catching up do not hold. The end of missing data waits for late uploads.
EXEMPT_FROM_HOLDS: frozenset[ActionKind] = frozenset({"resolved", "retracted"})
#: Largest number of messages of a group in any `update_every`. Later changes are told together, by their last state.
MOST_MESSAGES = 6
#: The first message of a group does not wait if a member has at least this level.
URGENT = severity("critical")


_REMOVED = Rule("", Selector(), Terms(levels=()))


class Action(msgspec.Struct, frozen=True):
    """An item about one episode that one channel must be sent."""

    channel: str
    group_key: str
    episode: UntoldEpisode
    kind: ActionKind
    #: The action waits until a silence, a mute, an inhibition or a late upload has ended.
    held: bool

    @property
    def is_passive(self) -> bool:
        """Whether the action only becomes an entry of the next message and causes no message itself."""
        return self.kind == "withdrawn"

    @property
    def told(self) -> Literal["firing", "resolved"] | None:
        """The state that counts as told once this is sent; None: unchanged."""
        if self.kind in ("reminder", "withdrawn"):
            return None
        return "firing" if self.kind in ("firing", "raised", "again") else "resolved"


class Decision(msgspec.Struct, frozen=True):
    """The actions for all unsettled episodes, and the ids of episodes that will need no further message."""

    actions: list[Action]
    settled: list[int]


def decide(situation: Situation) -> Decision:
    """Compare the told and the current state of every unsettled episode."""
    actions: list[Action] = []
    finished: list[UntoldEpisode] = []
    for episode in situation.episodes:
        own = list(_actions(situation, episode))
        actions += own
        if not own and not episode.is_open and not episode.is_being_sent:
            finished.append(episode)
    # The mark of a series whose data are back stays unsettled until the channels are told that its alert fires again.
    again = {(each.episode.rule, each.episode.series_id) for each in actions if each.kind == "again"}
    settled = [each.id for each in finished if each.reason != NO_DATA_CLEAR or (each.rule, each.series_id) not in again]
    return Decision(actions, settled)


def schedule(situation: Situation, decision: Decision) -> dict[Group, int]:
    """Return when the next message of each group with actions is due, in microseconds since 1970."""
    groups: dict[Group, list[Action]] = {}
    for action in decision.actions:
        if not action.held and not action.is_passive:
            groups.setdefault((action.channel, action.group_key), []).append(action)
    return {
        group: max(_due_us(situation, group, actions), _retry_us(situation, group), _bound_us(situation, group))
        for group, actions in groups.items()
    }


def reminders(situation: Situation, channel: str, group_key: str) -> list[Action]:
    """Return reminders of the open alerts that a channel was told, if its group's last message is old enough."""
    told = [
        episode
        for episode in situation.groups.get(group_key, ())
        if episode.is_open and not situation.is_over(episode) and _is_told_firing(situation, episode, channel)
    ]
    rule = situation.rule(told[0]) if told else None
    group = (channel, group_key)
    last = situation.last_sent.get(group)
    if rule is None or rule.remind_every_us is None or last is None:
        return []
    if situation.now_us < max(last + rule.remind_every_us, _retry_us(situation, group), _bound_us(situation, group)):
        return []
    return [
        Action(channel, group_key, episode, "reminder", held=False)
        for episode in told
        if channel in situation.channels(episode) and not is_acked(episode) and not _is_held(situation, episode)
    ]


def is_acked(episode: UntoldEpisode) -> bool:
    """Return whether the episode is acknowledged at its current level or a higher one."""
    return episode.acked_level is not None and severity(episode.acked_level) >= severity(episode.level)


def _actions(situation: Situation, episode: UntoldEpisode) -> Iterable[Action]:
    if episode.reason == NO_DATA_CLEAR:
        return
    told = situation.told.get(episode.id, {})
    held = _is_held(situation, episode)
    # One message tells that data are back and the state of the alert, so it waits for the rest of a late upload.
    end_held = episode.kind == "no_data" and situation.is_catching_up(episode)
    group_key = situation.group_key(episode)
    told_channels = (channel for channel in told if situation.is_configured(channel))
    for channel in dict.fromkeys((*situation.channels(episode), *told_channels)):
        kind = _kind(situation, episode, told.get(channel), channel)
        if kind is not None:
            yield Action(channel, group_key, episode, kind, end_held if kind in EXEMPT_FROM_HOLDS else held)


def _kind(situation: Situation, episode: UntoldEpisode, told: Told | None, channel: str) -> ActionKind | None:
    """Return the kind of message that brings a channel from the told to the current state; None if none is needed."""
    retracted = episode.reason == RETRACTED
    over = situation.is_over(episode)
    if told is None:
        return None if retracted else _first_kind(situation, episode, over)
    if told.state == "firing":
        if retracted:
            return "retracted"
        if over:
            return "resolved"
        is_higher = severity(episode.level) > severity(told.level)
        return "raised" if is_higher and channel in situation.channels(episode) else None
    if retracted:
        return "withdrawn" if situation.now_us - episode.fired_us < DAY_US else None
    return None if over else "again"


def _first_kind(situation: Situation, episode: UntoldEpisode, over: bool) -> ActionKind | None:
    """Return the kind of the first message about an episode; None if none is sent."""
    if not over:
        return None if situation.is_history(episode) else "firing"
    if situation.is_silenced_or_muted(episode) or situation.is_cleared(episode) or episode.is_closed:
        return None
    terms = situation.terms(episode)
    if terms is None or episode.kind == "no_data" or terms.late_data.notify == "never":
        return None
    if episode.resolved_us is not None and situation.now_us - episode.resolved_us > terms.late_data.accept_us:
        return None
    return "firing" if terms.late_data.notify == "normal" else "summary"


def _is_told_firing(situation: Situation, episode: UntoldEpisode, channel: str) -> bool:
    told = situation.told.get(episode.id, {}).get(channel)
    return told is not None and told.state == "firing"


def _is_held(situation: Situation, episode: UntoldEpisode) -> bool:
    return (
        situation.is_silenced_or_muted(episode) or situation.is_inhibited(episode) or situation.is_catching_up(episode)
    )


def _retry_us(situation: Situation, group: Group) -> int:
    """Return the earliest time of a group's next message after a dead letter, which may be refused again."""
    update_every_us = _rule_of_group(situation, group[1]).update_every_us
    return situation.last_refused.get(group, -update_every_us) + update_every_us


def _bound_us(situation: Situation, group: Group) -> int:
    """Return the earliest time of a group's next message after MOST_MESSAGES in a row."""
    sent = situation.sent.get(group, ())
    if len(sent) < MOST_MESSAGES:
        return 0
    return sent[MOST_MESSAGES - 1] + _rule_of_group(situation, group[1]).update_every_us


def _rule_of_group(situation: Situation, group_key: str) -> Rule:
    """Return the rule of a group; one with the built-in durations if it was removed."""
    members = situation.groups.get(group_key, ())
    return (situation.rule(members[0]) if members else None) or _REMOVED


def _due_us(situation: Situation, group: Group, actions: list[Action]) -> int:
    """Return when the message with these actions of a group is due. A time in the past means now."""
    channel, group_key = group
    members = situation.groups[group_key]
    told = [each for each in members if _is_told_firing(situation, each, channel)]
    highest_told = max((severity(situation.told[each.id][channel].level) for each in told), default=-1)
    rising = [severity(each.episode.level) for each in actions if each.kind in ("firing", "raised", "again")]
    highest = max(rising, default=-1)
    if told and highest > highest_told:
        return situation.now_us
    if told and not rising and not any(each.is_open and not situation.is_over(each) for each in told):
        return situation.now_us  # the message tells the end of the last member
    last = situation.last_sent.get(group)
    rule = _rule_of_group(situation, group_key)
    update_us = situation.now_us if last is None else last + rule.update_every_us
    if told:
        return max(situation.now_us, update_us)
    if highest >= URGENT:
        return situation.now_us
    first_known_us = min(each.episode.first_known_us for each in actions)
    return max(first_known_us + rule.group_wait_us, update_us if last is not None else 0)
