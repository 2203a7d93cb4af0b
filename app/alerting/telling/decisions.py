"""What is left to tell, to whom, and when: a pure function of the situation.

For each (channel, episode), what was told is reconciled with what is true; nothing is sent edge by edge.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from app.alerting.episodes.reasons import NO_DATA_CLEAR, RETRACTED
from app.alerting.episodes.revision import Told
from app.alerting.telling.situation import Group, Situation, UntoldEpisode
from app.clock import DAY_US, SECOND_US
from app.model import severity

ActionKind = Literal["firing", "raised", "resolved", "retracted", "again", "summary", "withdrawn", "reminder"]

#: Nothing holds these back, of an episode; what ends a silence of data waits for late uploads.
ALWAYS_DUE: frozenset[ActionKind] = frozenset({"resolved", "retracted"})
GROUP_WAIT_US = 30 * SECOND_US
UPDATE_EVERY_US = 300 * SECOND_US
#: From this level on a group does not wait.
URGENT = severity("critical")


class Action(msgspec.Struct, frozen=True):
    """One thing that one channel has to be told of one episode."""

    channel: str
    group_key: str
    episode: UntoldEpisode
    kind: ActionKind
    #: Waits for a silence, a mute, an inhibition or a late upload to end.
    held: bool

    @property
    def is_passive(self) -> bool:
        """A line in the next message, which it does not bring about itself."""
        return self.kind == "withdrawn"

    @property
    def told(self) -> Literal["firing", "resolved"] | None:
        """What counts as told once this is said; None: as before."""
        if self.kind in ("reminder", "withdrawn"):
            return None
        return "firing" if self.kind in ("firing", "raised", "again") else "resolved"


class Decision(msgspec.Struct, frozen=True):
    """All that is left to tell, and the episodes of which nothing ever will be."""

    actions: list[Action]
    settled: list[int]


def decide(situation: Situation) -> Decision:
    """Compare told and true for every unsettled episode."""
    actions: list[Action] = []
    quiet: list[UntoldEpisode] = []
    for episode in situation.episodes:
        own = list(_actions(situation, episode))
        actions += own
        if not own and not episode.is_open and not episode.is_on_its_way:
            quiet.append(episode)
    # The mark of a series whose data are back stays until people have heard that its alert goes on.
    again = {(each.episode.rule, each.episode.series_id) for each in actions if each.kind == "again"}
    settled = [each.id for each in quiet if each.reason != NO_DATA_CLEAR or (each.rule, each.series_id) not in again]
    return Decision(actions, settled)


def schedule(situation: Situation, decision: Decision) -> dict[Group, int]:
    """Say when each group with something to hear is due its next message, in microseconds since 1970."""
    groups: dict[Group, list[Action]] = {}
    for action in decision.actions:
        if not action.held and not action.is_passive:
            groups.setdefault((action.channel, action.group_key), []).append(action)
    return {
        group: max(_due(situation, group, actions), _refused_until(situation, group))
        for group, actions in groups.items()
    }


def reminders(situation: Situation, channel: str, group_key: str) -> list[Action]:
    """Repeat what a channel was told and is still true, when its group has heard nothing for long."""
    told = [
        episode
        for episode in situation.groups.get(group_key, ())
        if episode.is_open and _is_told_firing(situation, episode, channel)
    ]
    rule = situation.rule(told[0]) if told else None
    group = (channel, group_key)
    last = situation.last_sent.get(group)
    if rule is None or rule.remind_every_us is None or last is None:
        return []
    if situation.now_us < max(last + rule.remind_every_us, _refused_until(situation, group)):
        return []
    loud = [
        episode
        for episode in told
        if channel in situation.channels(episode) and not is_acked(episode) and not _is_held(situation, episode)
    ]
    return [Action(channel, group_key, episode, "reminder", held=False) for episode in loud]


def is_acked(episode: UntoldEpisode) -> bool:
    """Tell whether somebody takes care of the episode at the level it has."""
    return episode.acked_level is not None and severity(episode.acked_level) >= severity(episode.level)


def _actions(situation: Situation, episode: UntoldEpisode) -> Iterable[Action]:
    if episode.reason == NO_DATA_CLEAR:
        return
    told = situation.told.get(episode.id, {})
    held = _is_held(situation, episode)
    # One message says how it stands once data are back: it waits for what they say.
    end_held = episode.kind == "no_data" and situation.is_catching_up(episode)
    group_key = situation.group_key(episode)
    heard = (channel for channel in told if situation.is_configured(channel))
    for channel in dict.fromkeys((*situation.channels(episode), *heard)):
        kind = _kind(situation, episode, told.get(channel), channel)
        if kind is not None:
            yield Action(channel, group_key, episode, kind, end_held if kind in ALWAYS_DUE else held)


def _kind(situation: Situation, episode: UntoldEpisode, told: Told | None, channel: str) -> ActionKind | None:
    """Look up what the table of told and true says."""
    gone = episode.reason == RETRACTED
    over = episode.resolved_us is not None or situation.is_cleared(episode)
    match _state(told):
        case "nothing":
            return None if gone else _first(situation, episode, over)
        case "firing":
            assert told is not None  # noqa: S101
            if gone:
                return "retracted"
            if over:
                return "resolved"
            is_higher = severity(episode.level) > severity(told.level)
            return "raised" if is_higher and channel in situation.channels(episode) else None
        case "resolved" if gone:
            return "withdrawn" if situation.now_us - episode.fired_us < DAY_US else None
        case "resolved":
            return None if over else "again"
    return None


def _first(situation: Situation, episode: UntoldEpisode, over: bool) -> ActionKind | None:
    """Say how a channel first hears of an episode."""
    if not over:
        return "firing"
    if situation.is_hushed(episode) or situation.is_cleared(episode):
        return None  # it came and went under a silence or mute: history
    terms = situation.terms(episode)
    if terms is None or episode.kind == "no_data" or terms.late_data.notify == "never":
        return None
    if episode.resolved_us is not None and situation.now_us - episode.resolved_us > terms.late_data.accept_us:
        return None  # too long ago to be news
    return "firing" if terms.late_data.notify == "normal" else "summary"


def _state(told: Told | None) -> str:
    return "nothing" if told is None else told.state


def _is_told_firing(situation: Situation, episode: UntoldEpisode, channel: str) -> bool:
    return _state(situation.told.get(episode.id, {}).get(channel)) == "firing"


def _is_held(situation: Situation, episode: UntoldEpisode) -> bool:
    return situation.is_hushed(episode) or situation.is_inhibited(episode) or situation.is_catching_up(episode)


def _refused_until(situation: Situation, group: Group) -> int:
    """Say when it makes sense to tell a group anything again: what it was told last may be refused once more."""
    return situation.last_refused.get(group, -UPDATE_EVERY_US) + UPDATE_EVERY_US


def _due(situation: Situation, group: Group, actions: list[Action]) -> int:
    """Say when a group with something to tell is told it."""
    channel, group_key = group
    members = situation.groups[group_key]
    told = [each for each in members if _is_told_firing(situation, each, channel)]
    highest_told = max((severity(situation.told[each.id][channel].level) for each in told), default=-1)
    rising = [severity(each.episode.level) for each in actions if each.kind in ("firing", "raised", "again")]
    urgent = max(rising, default=-1) >= URGENT
    if told and max(rising, default=-1) > highest_told:
        return situation.now_us
    if told and not rising and not any(each.is_open and not situation.is_cleared(each) for each in told):
        return situation.now_us  # the last member's end
    last = situation.last_sent.get(group)
    update = situation.now_us if last is None else last + UPDATE_EVERY_US
    if told:
        return max(situation.now_us, update)
    if urgent:
        return situation.now_us
    first = min(each.episode.first_known_us for each in actions)
    return max(first + GROUP_WAIT_US, update if last is not None else 0)
