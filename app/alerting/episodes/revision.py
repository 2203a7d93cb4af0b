"""What late readings do to episodes: content is recomputed, identity is history.

Stored episodes and recomputed ones are matched by their spans, so that an id, what people were told under it
and who acknowledged it stay with the same stretch of trouble when late readings move, join, cut or remove it.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from app.alerting.episodes.machine import Episode
from app.model import severity

ChannelName = str


class Told(msgspec.Struct, frozen=True, gc=False):
    """The last thing a channel was told about an episode; no entry for a channel means nothing."""

    state: Literal["firing", "resolved"]
    level: str


class Ack(msgspec.Struct, frozen=True, gc=False):
    """Who acknowledged an episode, when (microseconds since 1970), and the level that had been told then."""

    by: str
    at_us: int
    level: str


class StoredEpisode(msgspec.Struct, frozen=True, gc=False):
    """An episode as people know it."""

    id: int
    episode: Episode
    told: Mapping[ChannelName, Told] = {}
    ack: Ack | None = None


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """The episode goes on under its id with another content, or with what it inherited."""

    id: int
    episode: Episode
    told: Mapping[ChannelName, Told]
    ack: Ack | None


class New(msgspec.Struct, frozen=True, tag="new"):
    """An episode that nobody knew of."""

    episode: Episode


class Split(msgspec.Struct, frozen=True, tag="split"):
    """A further part of what was known as one episode; if over, it counts as told where that was told."""

    episode: Episode
    told: Mapping[ChannelName, Told]


class Merged(msgspec.Struct, frozen=True, tag="merged"):
    """The episode is retracted as part of another, with which what was told about it now stands."""

    id: int
    into: int


class Retracted(msgspec.Struct, frozen=True, tag="retracted"):
    """The episode never was, and someone had been told of it."""

    id: int


class Deleted(msgspec.Struct, frozen=True, tag="deleted"):
    """The episode never was, or is part of another, and nobody had been told of it."""

    id: int


RevisionOutcome = Kept | New | Split | Merged | Retracted | Deleted


def revise(stored: Sequence[StoredEpisode], true: Sequence[Episode]) -> list[RevisionOutcome]:
    """Match the stored episodes of one rule and series with the true ones.

    Both hold the same stretch of time; within each, spans do not overlap. What stays as it is has no outcome.
    """
    return _Matching(stored, true).outcomes()


class _Matching:
    """Old and new episodes in order of time, by index; a shared microsecond is enough for an overlap."""

    def __init__(self, stored: Sequence[StoredEpisode], true: Sequence[Episode]) -> None:
        self.old = sorted(stored, key=lambda each: each.episode.started_at)
        self.new = sorted(true, key=lambda each: each.started_at)
        spans = [each.episode for each in self.old]
        self.old_of = [_overlapping(spans, each) for each in self.new]
        self.new_of = [_overlapping(self.new, each) for each in spans]
        #: New index -> the old index that it takes.
        self.takes = self._takes()
        #: Old index -> the new index that it is merged into, which took another, or it would have taken this.
        self.merges = self._merges()

    def outcomes(self) -> list[RevisionOutcome]:
        left = [index for index in range(len(self.old)) if index not in self.takes.values()]
        untaken = [index for index in range(len(self.new)) if index not in self.takes]
        return [
            *(self._ended(index) for index in left),
            *(kept for new, old in sorted(self.takes.items()) if (kept := self._kept(new, old)) is not None),
            *(self._begun(index) for index in untaken),
        ]

    def _takes(self) -> dict[int, int]:
        takes = {}
        if self.old and self.new and self.old[-1].episode.is_open and self.new[-1].is_open:
            takes[len(self.new) - 1] = len(self.old) - 1
        taken = set(takes.values())
        for new, overlapped in enumerate(self.old_of):
            free = next((old for old in overlapped if old not in taken), None)
            if new not in takes and free is not None:
                takes[new] = free
                taken.add(free)
        return takes

    def _merges(self) -> dict[int, int]:
        taken = set(self.takes.values())
        return {
            # The open one is the last of all.
            old: overlapped[-1] if self.new[overlapped[-1]].is_open else overlapped[0]
            for old, overlapped in enumerate(self.new_of)
            if overlapped and old not in taken
        }

    def _kept(self, new: int, old: int) -> Kept | None:
        before = self.old[old]
        told, ack = before.told, before.ack
        for merged in (self.old[index] for index, into in self.merges.items() if into == new):
            told, ack = _higher_told(told, merged.told), _higher_ack(ack, merged.ack)
        kept = Kept(before.id, self.new[new], told, ack)
        unchanged = Kept(before.id, before.episode, before.told, before.ack)
        return None if kept == unchanged else kept

    def _ended(self, old: int) -> Merged | Retracted | Deleted:
        ended = self.old[old]
        if not ended.told:
            return Deleted(ended.id)
        if old in self.merges:
            return Merged(ended.id, self.old[self.takes[self.merges[old]]].id)
        return Retracted(ended.id)

    def _begun(self, new: int) -> New | Split:
        episode = self.new[new]
        told: Mapping[ChannelName, Told] = {}
        if not self.old_of[new]:
            return New(episode)
        if not episode.is_open:
            for old in self.old_of[new]:
                told = _higher_told(told, self.old[old].told)
        return Split(episode, {channel: Told("resolved", each.level) for channel, each in told.items()})


def _higher_told(one: Mapping[ChannelName, Told], other: Mapping[ChannelName, Told]) -> Mapping[ChannelName, Told]:
    """Give what was told under either: firing over resolved over nothing, then the higher level."""
    both = [*one.items(), *other.items()]
    return dict(sorted(both, key=lambda item: (item[1].state == "firing", severity(item[1].level))))


def _higher_ack(one: Ack | None, other: Ack | None) -> Ack | None:
    """Give the ack that holds up to the higher level, of two for the same level the later."""
    acks = [ack for ack in (one, other) if ack is not None]
    return max(acks, key=lambda ack: (severity(ack.level), ack.at_us), default=None)


def _overlapping(spans: Sequence[Episode], other: Episode) -> range:
    """Give the indexes of the spans, ascending and apart from one another, that overlap `other`."""
    first = bisect_left(spans, float(other.started_at), key=_end)
    last = first
    while last < len(spans) and spans[last].started_at <= _end(other):
        last += 1
    return range(first, last)


def _end(episode: Episode) -> float:
    return float("inf") if episode.resolved_at is None else episode.resolved_at
