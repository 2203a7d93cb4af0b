"""Texts of messages: a title, and one entry for each episode."""

from collections.abc import Mapping, Sequence
from typing import cast

from app.alerting.episodes.reasons import NO_DATA, UNWATCHED
from app.alerting.rules.model import GATEWAY_OFFLINE
from app.alerting.telling.decisions import Action
from app.alerting.telling.links import Addresses, links
from app.alerting.telling.situation import Situation, UntoldEpisode
from app.alerting.telling.wording import rule_message
from app.clock import from_us
from app.durations import format_skew
from app.model import LevelName, severity
from app.notify.message import Entry, Message
from app.rule_texts import format_threshold, format_value

_HEADINGS = {
    "firing": "firing",
    "raised": "raised",
    "again": "firing again",
    "reminder": "still firing",
    "resolved": "resolved",
    "retracted": "withdrawn",
    "withdrawn": "withdrawn",
    "summary": "over by now",
}
#: Used instead of "resolved" for missing data: the alert itself may go on.
_DATA_BACK = "data are back"
#: Codes of refusals for which the gateway's clock is to blame.
_REFUSED_TIMES = ("time_in_future", "time_too_old")
#: Order of entries by kind.
_ORDER = ("raised", "firing", "again", "reminder", "retracted", "resolved", "summary", "withdrawn")


def write_message(
    situation: Situation,
    channel: str,
    actions: Sequence[Action],
    values: Mapping[int, float | None],
    addresses: Addresses,
) -> Message:
    """Return the message with these actions of one channel and group; `values` are current samples by episode id."""
    ordered = sorted(actions, key=_sort_key)
    refs = [ref for each in ordered if (ref := situation.refs.get((channel, each.episode.id)))]
    return Message(
        title=_title(situation, ordered),
        entries=tuple(_entry(situation, each, values.get(each.episode.id), addresses) for each in ordered),
        silent=all(_is_over(each) for each in ordered)
        and all(situation.is_silenced_or_muted(each.episode) for each in ordered),
        reply_to=refs[0] if refs else None,
    )


def _sort_key(action: Action) -> tuple[int, int, int]:
    """Order entries by kind, then by severity. If a message is too long, its last entries are dropped."""
    return _ORDER.index(action.kind), -severity(action.episode.level), action.episode.id


def _title(situation: Situation, actions: Sequence[Action]) -> str:
    """Return the rule's name, the values that the group has in common, and the kinds of the actions."""
    episode = actions[0].episode
    headings = dict.fromkeys(_DATA_BACK if _is_end_of_no_data(each) else _HEADINGS[each.kind] for each in actions)
    rule = situation.rule(episode)
    values = [episode.label(name) for name in rule.group_by] if rule else []
    group = ", ".join(value for value in values if value)
    return f"{episode.rule}{f' · {group}' if group else ''}: {', '.join(headings)}"


def _entry(situation: Situation, action: Action, value: float | None, addresses: Addresses) -> Entry:
    # When data are back and the series has an open episode, the entry shows that episode.
    open_episode = situation.open_episode(action.episode) if _is_end_of_no_data(action) else None
    episode = open_episode or action.episode
    over = _is_over(action) and episode is action.episode
    terms = situation.terms(episode)
    return Entry(
        level=cast("LevelName", episode.level),
        sensor=episode.sensor or f"gateway {episode.gateway}",
        metric=episode.metric or "",
        value=value if episode.kind == "threshold" and not over else None,
        unit=_unit(situation, episode),
        threshold=format_threshold(episode.threshold),
        since=from_us(episode.started_us),
        until=None if episode.resolved_us is None else from_us(episode.resolved_us),
        over=over,
        note=_note(situation, action, value),
        links=links(addresses, episode, terms.runbook if terms is not None else None),
    )


def _note(situation: Situation, action: Action, value: float | None) -> str:
    episode = action.episode
    match action.kind:
        case "raised":
            told = situation.told[episode.id][action.channel]
            return f"raised from {told.level} to {episode.level}"
        case "again" if situation.has_data_back(episode):
            return "data are back, and it still fires"
        case "again":
            return "the end that was told is withdrawn"
        case "summary":
            return f"reported at {_clock(situation, situation.now_us)}"
        case "retracted" | "withdrawn" if episode.merged_into is not None:
            return "later readings show that it was part of another alert"
        case "retracted" | "withdrawn":
            return "later readings show that it never was"
        case "resolved":
            return _resolved_note(situation, episode)
        case _ if episode.kind == "clock":
            return episode.reason or ""
        case _ if episode.kind == "no_data":
            return _no_data_note(situation, episode)
        case _:
            return _rule_message(situation, episode, value)


def _resolved_note(situation: Situation, episode: UntoldEpisode) -> str:
    if episode.reason == NO_DATA:
        return _data_back_note(situation, episode)
    if episode.kind == "clock":
        return UNWATCHED if episode.reason == UNWATCHED else "the clock is right again"
    if situation.is_cleared(episode):
        return f"ended for lack of data since {_clock(situation, episode.received_us or episode.started_us)}"
    return episode.reason or ""


def _data_back_note(situation: Situation, no_data_alert: UntoldEpisode) -> str:
    """Return the state of the series now that data are back: firing, over, or below the thresholds all along."""
    if no_data_alert.rule == GATEWAY_OFFLINE:
        return "data are back"
    firing = situation.open_episode(no_data_alert)
    if firing is not None:
        return f"data are back, past {format_threshold(firing.threshold)} since {_clock(situation, firing.started_us)}"
    ended_us = situation.last_end(no_data_alert)
    if ended_us is not None:
        return f"data are back; it was over at {_clock(situation, ended_us)}"
    return "data are back, fine all along"


def _no_data_note(situation: Situation, episode: UntoldEpisode) -> str:
    last = "" if episode.last_value is None else f", last {format_value(episode.last_value)}"
    note = f"no data since {_clock(situation, episode.started_us)}{last}{_unit(situation, episode)}"
    return note if episode.refused_for is None else f"{note}; uploads arrive, all refused: {_refusal(episode)}"


def _refusal(episode: UntoldEpisode) -> str:
    """Return why everything is refused that a gateway uploads."""
    if episode.refused_for in _REFUSED_TIMES and episode.skew_s is not None:
        return f"clock {format_skew(episode.skew_s)}"
    return f"{episode.refused_for}"


def _rule_message(situation: Situation, episode: UntoldEpisode, value: float | None) -> str:
    terms = situation.terms(episode)
    if terms is None:
        return ""
    return rule_message(
        terms,
        rule=episode.rule,
        level=episode.level,
        sensor=episode.sensor or "",
        metric=episode.metric or "",
        tags=episode.tags or {},
        unit=episode.unit,
        value=value,
        threshold=format_threshold(episode.threshold),
        since=_clock(situation, episode.started_us),
    )


def _unit(situation: Situation, episode: UntoldEpisode) -> str:
    terms = situation.terms(episode)
    return (terms.unit if terms is not None else None) or episode.unit or ""


def _is_end_of_no_data(action: Action) -> bool:
    """Return whether the action tells that missing data are back."""
    return action.kind == "resolved" and action.episode.reason == NO_DATA


def _is_over(action: Action) -> bool:
    return action.kind in ("resolved", "retracted", "withdrawn", "summary") or (
        action.kind == "firing" and action.episode.resolved_us is not None
    )


def _clock(situation: Situation, us: int) -> str:
    """Return a time in UTC as text, with its date unless it is today."""
    moment, now = from_us(us), from_us(situation.now_us)
    return f"{moment:%H:%M} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M} UTC"
