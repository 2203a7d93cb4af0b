"""Matching of recomputed episodes with stored ones after late readings.

Episodes are matched by their spans. A recomputed episode keeps the id of the stored one that it matches, with what
was told about it and its acknowledgement, when late readings move, merge, split or remove episodes.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from app.alerting.episodes.machine import Episode
from app.model import severity

ChannelName = str


class Told(msgspec.Struct, frozen=True, gc=False):
    """What a channel was last told about an episode. A channel without an entry was told nothing."""

    state: Literal["firing", "resolved"]
    level: str


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Who acknowledged an episode, when (microseconds since 1970), and the level that had been told then."""

    by: str
    at_us: int
    level: str


class StoredEpisode(msgspec.Struct, frozen=True, gc=False):
    """A stored episode with its id, what each channel was told, and its acknowledgement."""

    id: int
    episode: Episode
    told: Mapping[ChannelName, Told] = {}
    ack: Ack | None = None


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """A stored episode that keeps its id and gets another content, or inherits `told` or `ack` from merged ones."""

    id: int
    episode: Episode
    told: Mapping[ChannelName, Told]
    ack: Ack | None


class New(msgspec.Struct, frozen=True, tag="new"):
    """A recomputed episode that overlaps no stored one."""

    episode: Episode


class Split(msgspec.Struct, frozen=True, tag="split"):
    """A recomputed episode that overlaps stored ones but matches none. If over, it counts as told where they were."""

    episode: Episode
    told: Mapping[ChannelName, Told]


class Merged(msgspec.Struct, frozen=True, tag="merged"):
    """A stored episode that is retracted as part of the episode `into`, which inherits what was told about it."""

    id: int
    into: int


class Retracted(msgspec.Struct, frozen=True, tag="retracted"):
    """A stored episode that overlaps no recomputed one and was told to some channel."""

    id: int


class Deleted(msgspec.Struct, frozen=True, tag="deleted"):
    """A stored episode that matches no recomputed one and was told to no channel."""

    id: int


RevisionOutcome = Kept | New | Split | Merged | Retracted | Deleted


def revise(stored: Sequence[StoredEpisode], recomputed: Sequence[Episode]) -> list[RevisionOutcome]:
    """Match the stored episodes of one rule and series with the recomputed ones; return the changes.

    Both sequences must cover the same time, and the spans within each must not overlap. An episode that stays
    unchanged has no outcome.
    """
    return _Matching(stored, recomputed).outcomes()


class _Matching:
    """Old (stored) and new (recomputed) episodes in order of time, by index. One shared microsecond is an overlap."""

    def __init__(self, stored: Sequence[StoredEpisode], recomputed: Sequence[Episode]) -> None:
        self.old = sorted(stored, key=lambda each: each.episode.started_at)
        self.new = sorted(recomputed, key=lambda each: each.started_at)
        spans = [each.episode for each in self.old]
        #: New index -> the old indexes that it overlaps, and the other way round.
        self.old_of = [_overlapping(spans, each) for each in self.new]
        self.new_of = [_overlapping(self.new, each) for each in spans]
        #: New index -> the old index that it matches.
        self.matches = self._matches()
        #: Old index -> the new index that it is merged into. That one matches another old one.
        self.merges = self._merges()

    def outcomes(self) -> list[RevisionOutcome]:
        unmatched_old = [index for index in range(len(self.old)) if index not in self.matches.values()]
        unmatched_new = [index for index in range(len(self.new)) if index not in self.matches]
        return [
            *(self._removed(index) for index in unmatched_old),
            *(kept for new, old in sorted(self.matches.items()) if (kept := self._kept(new, old)) is not None),
            *(self._added(index) for index in unmatched_new),
        ]

    def _matches(self) -> dict[int, int]:
        matches = {}
        if self.old and self.new and self.old[-1].episode.is_open and self.new[-1].is_open:
            matches[len(self.new) - 1] = len(self.old) - 1
        matched_old = set(matches.values())
        for new, overlapped in enumerate(self.old_of):
            free = next((old for old in overlapped if old not in matched_old), None)
            if new not in matches and free is not None:
                matches[new] = free
                matched_old.add(free)
        return matches

    def _merges(self) -> dict[int, int]:
        matched_old = set(self.matches.values())
        return {
            # An open episode is always the last one.
            old: overlapped[-1] if self.new[overlapped[-1]].is_open else overlapped[0]
            for old, overlapped in enumerate(self.new_of)
            if overlapped and old not in matched_old
        }

    def _kept(self, new: int, old: int) -> Kept | None:
        before = self.old[old]
        told, ack = before.told, before.ack
        for merged in (self.old[index] for index, into in self.merges.items() if into == new):
            told, ack = _higher_told(told, merged.told), _higher_ack(ack, merged.ack)
        kept = Kept(before.id, self.new[new], told, ack)
        unchanged = Kept(before.id, before.episode, before.told, before.ack)
        return None if kept == unchanged else kept

    def _removed(self, old: int) -> Merged | Retracted | Deleted:
        removed = self.old[old]
        if not removed.told:
            return Deleted(removed.id)
        if old in self.merges:
            return Merged(removed.id, self.old[self.matches[self.merges[old]]].id)
        return Retracted(removed.id)

    def _added(self, new: int) -> New | Split:
        episode = self.new[new]
        told: Mapping[ChannelName, Told] = {}
        if not self.old_of[new]:
            return New(episode)
        if not episode.is_open:
            for old in self.old_of[new]:
                told = _higher_told(told, self.old[old].told)
        return Split(episode, {channel: Told("resolved", each.level) for channel, each in told.items()})


def _higher_told(one: Mapping[ChannelName, Told], other: Mapping[ChannelName, Told]) -> Mapping[ChannelName, Told]:
    """Return for each channel the stronger of both: firing over resolved over nothing, then the higher level."""
    both = [*one.items(), *other.items()]
    return dict(sorted(both, key=lambda item: (item[1].state == "firing", severity(item[1].level))))


def _higher_ack(one: Ack | None, other: Ack | None) -> Ack | None:
    """Return the ack of the higher level; of two acks for the same level, the later one."""
    acks = [ack for ack in (one, other) if ack is not None]
    return max(acks, key=lambda ack: (severity(ack.level), ack.at_us), default=None)


def _overlapping(spans: Sequence[Episode], other: Episode) -> range:
    """Return the indexes of the spans that overlap `other`. The spans ascend in time and do not overlap each other."""
    first = bisect_left(spans, float(other.started_at), key=_end)
    last = first
    while last < len(spans) and spans[last].started_at <= _end(other):
        last += 1
    return range(first, last)


def _end(episode: Episode) -> float:
    return float("inf") if episode.resolved_at is None else episode.resolved_at
