"""Messages about episodes: a title with counts, and one entry for each series."""

from collections.abc import Mapping, Sequence
from typing import cast

from app.alerting.telling.changes import SeriesActions, by_series
from app.alerting.telling.decisions import Action
from app.alerting.telling.links import Addresses, links
from app.alerting.telling.notes import compared_text, condition_of, note, shown_episode, unit_of
from app.alerting.telling.situation import Situation
from app.alerting.telling.titles import title
from app.clock import from_us
from app.model import LevelName, severity
from app.notify.message import Entry, Message
from app.rule_texts import format_threshold

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
    series = sorted(by_series(actions), key=_sort_key)
    first = series[0].main.episode
    refs = [ref for each in series for one in each.actions if (ref := situation.refs.get((channel, one.episode.id)))]
    entries = tuple(_entry(situation, channel, each, values, addresses) for each in series)
    alone = sorted((SeriesActions((action,)) for action in actions), key=_sort_key)
    is_over = all(entry.over for entry in entries)
    return Message(
        title=title(situation, series),
        entries=entries,
        every_entry=tuple(_entry(situation, channel, each, values, addresses) for each in alone),
        rule=first.rule,
        group=", ".join(situation.group_labels(first)),
        zone=situation.zone(channel, first),
        at=from_us(situation.now_us),
        page=next((link.url for entry in entries for link in entry.links if link.label == "Page"), None),
        group_key=situation.group_key(first),
        is_end=is_over and not _is_anything_left(situation, channel, actions),
        silent=is_over and all(situation.is_quiet(each.episode, channel) for each in actions),
        reply_to=refs[0] if refs else None,
    )


def _is_anything_left(situation: Situation, channel: str, actions: Sequence[Action]) -> bool:
    """Return whether another alert of the group fires that the channel was told of."""
    ending = {action.episode.id for action in actions}
    return any(
        each.id not in ending and each.is_open and not situation.is_over(each)
        for each in situation.groups.get(actions[0].group_key, ())
        if (told := situation.told.get(each.id, {}).get(channel)) is not None and told.state == "firing"
    )


def _sort_key(series: SeriesActions) -> tuple[bool, int, int, int]:
    """Return the sort key of an entry: firing alerts by severity and kind, then ended ones.

    A long message drops its last entries.
    """
    main = series.main
    worst = 0 if series.is_over else -severity(main.episode.level)
    return series.is_over, worst, _ORDER.index(main.kind), main.episode.id


def _entry(
    situation: Situation,
    channel: str,
    series: SeriesActions,
    values: Mapping[int, float | None],
    addresses: Addresses,
) -> Entry:
    action = series.main
    episode = shown_episode(situation, action)
    over = series.is_over and episode is action.episode
    terms = situation.terms(episode)
    condition = condition_of(situation, episode)
    end_us = episode.closed_us if over and episode.resolved_us is None else episode.resolved_us
    value = values.get(action.episode.id) if episode.kind == "threshold" else None
    return Entry(
        level=cast("LevelName", episode.level),
        sensor=episode.sensor or f"gateway {episode.gateway}",
        metric=episode.metric or "",
        rule=episode.rule,
        gateway=episode.gateway or "",
        value=value,
        fired_value=episode.fired_value,
        peak=series.peak(condition),
        unit=unit_of(situation, episode),
        compared=compared_text(situation, episode),
        threshold=format_threshold(episode.threshold) if episode.kind == "threshold" else "",
        condition=condition.text if condition is not None else "",
        limits=condition.limits if condition is not None else (),
        is_past=condition is None or value is None or condition.holds(value),
        since=from_us(series.started_us if over else episode.started_us),
        until=None if end_us is None else from_us(end_us),
        over=over,
        note=note(situation, series, situation.zone(channel, episode), value),
        links=links(addresses, episode, terms.runbook if terms is not None else None),
        alerts=tuple(dict.fromkeys(each.episode.id for each in series.actions)),
    )
