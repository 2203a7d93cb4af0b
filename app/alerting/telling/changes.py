"""The actions of a message by series: a series that fires and ends again and again is one entry, not one an episode."""

from collections.abc import Iterable, Sequence

import msgspec

from app.alerting.conditions import Condition, farthest, keyword_of, predicate
from app.alerting.telling.decisions import Action, ActionKind
from app.alerting.telling.untold import UntoldEpisode
from app.rule_texts import format_threshold

#: What a message counts as changes of an alert, by the kind of its item.
_CHANGES: dict[ActionKind, int] = {"firing": 1, "raised": 1, "again": 1, "resolved": 1, "summary": 2}


class LimitOf(msgspec.Struct, frozen=True):
    """The condition of an episode's level."""

    condition: Condition
    limits: tuple[float, ...]

    @property
    def text(self) -> str:
        """Return the condition in words: `above 8`."""
        return f"{keyword_of(self.condition).replace('_', ' ')} {format_threshold(self.limits)}"

    def holds(self, value: float) -> bool:
        """Return whether a value is past the limit."""
        return predicate(self.condition)(value)


class SeriesActions(msgspec.Struct, frozen=True):
    """All actions of a message about one rule and series, in order of time."""

    actions: tuple[Action, ...]

    @property
    def main(self) -> Action:
        """The action that says how it is now: that of an open episode, else that of the last one."""
        open_ones = [each for each in self.actions if not is_over(each)]
        return (open_ones or self.actions)[-1]

    @property
    def is_over(self) -> bool:
        """Return whether no alert of the series is left."""
        return all(map(is_over, self.actions))

    @property
    def episodes(self) -> Sequence[UntoldEpisode]:
        """The episodes, each once."""
        return list({each.episode.id: each.episode for each in self.actions}.values())

    @property
    def started_us(self) -> int:
        """When the first of the episodes started."""
        return min(each.started_us for each in self.episodes)

    @property
    def changes(self) -> int:
        """How often the alert fired, rose or ended."""
        return sum(_changes(each) for each in self.actions)

    @property
    def changed_us(self) -> tuple[int, int]:
        """The first and the last time of these changes."""
        times = [us for each in self.actions for us in _times(each)]
        return min(times), max(times)

    def peak(self, limit: LimitOf | None) -> float | None:
        """Return the peak of all episodes."""
        peaks = [each.peak for each in self.episodes if each.peak is not None]
        if limit is None or not peaks:
            return peaks[-1] if peaks else None
        return farthest(limit.condition, min(peaks), max(peaks))


def by_series(actions: Iterable[Action]) -> list[SeriesActions]:
    """Group actions by rule, series and kind of alert; an alert of missing data is an entry of its own."""
    groups: dict[tuple[str, int | None, str | None, str], list[Action]] = {}
    for action in actions:
        episode = action.episode
        gateway = None if episode.series_id is not None else episode.gateway
        groups.setdefault((episode.rule, episode.series_id, gateway, episode.kind), []).append(action)
    return [SeriesActions(tuple(sorted(each, key=_order))) for each in groups.values()]


def is_over(action: Action) -> bool:
    """Return whether an action is about an alert that has ended."""
    return action.kind in ("resolved", "retracted", "withdrawn", "summary") or (
        action.kind == "firing" and action.episode.resolved_us is not None
    )


def _order(action: Action) -> tuple[int, int]:
    return action.episode.fired_us, action.episode.id


def _changes(action: Action) -> int:
    is_both = action.kind == "firing" and action.episode.resolved_us is not None
    return 2 if is_both else _CHANGES.get(action.kind, 0)


def _times(action: Action) -> tuple[int, ...]:
    episode = action.episode
    end = () if episode.resolved_us is None else (episode.resolved_us,)
    return end if action.kind == "resolved" and end else (episode.fired_us, *end)
