"""A naive reading of how stored and true episodes are matched, for tests: rule by rule, every pair."""

from collections.abc import Mapping, Sequence

from app.alerting.episodes.machine import Episode
from app.alerting.episodes.revision import (
    Ack,
    Deleted,
    Kept,
    Merged,
    New,
    Retracted,
    RevisionOutcome,
    Split,
    StoredEpisode,
    Told,
)
from tests.alerting.oracle import ORDER


def oracle_outcomes(stored: Sequence[StoredEpisode], true: Sequence[Episode]) -> list[RevisionOutcome]:
    """Give what becomes of each stored and each true episode, those that stay as they are left out."""
    old = sorted(stored, key=lambda each: each.episode.started_at)
    new = sorted(true, key=lambda each: each.started_at)
    taken: list[tuple[StoredEpisode, Episode]] = []
    taken += [(o, n) for o in old for n in new if o.episode.is_open and n.is_open]
    for n in new:
        if not any(n is m for _, m in taken):
            free = [o for o in old if overlap(o.episode, n) and not any(o is p for p, _ in taken)]
            taken += [(o, n) for o in free[:1]]
    into: dict[int, StoredEpisode] = {}
    for o in old:
        targets = [(p, n) for n in new for p, m in taken if m is n and overlap(o.episode, n)]
        if not any(o is p for p, _ in taken) and targets:
            into[o.id] = next((p for p, n in targets if n.is_open), targets[0][0])
    gone = [o for o in old if not any(o is p for p, _ in taken)]
    begun = [n for n in new if not any(n is m for _, m in taken)]
    outcomes: list[RevisionOutcome] = [ended(o, into.get(o.id)) for o in gone]
    outcomes += [kept(o, n, [m for m in gone if into.get(m.id) is o]) for o, n in taken]
    outcomes += [begin(n, [o for o in old if overlap(o.episode, n)]) for n in begun]
    same = [Kept(o.id, o.episode, o.told, o.ack) for o in old]
    return [each for each in outcomes if each not in same]


def overlap(one: Episode, other: Episode) -> bool:
    """Say whether two spans share a microsecond, open being endless."""
    one_before = one.resolved_at is not None and one.resolved_at < other.started_at
    other_before = other.resolved_at is not None and other.resolved_at < one.started_at
    return not one_before and not other_before


def ended(o: StoredEpisode, into: StoredEpisode | None) -> RevisionOutcome:
    if not o.told:
        return Deleted(o.id)
    return Retracted(o.id) if into is None else Merged(o.id, into.id)


def kept(o: StoredEpisode, n: Episode, merged: Sequence[StoredEpisode]) -> RevisionOutcome:
    acks = [each.ack for each in (o, *merged) if each.ack is not None]
    return Kept(o.id, n, most_told([o, *merged]), highest(acks))


def begin(n: Episode, parts_of: Sequence[StoredEpisode]) -> RevisionOutcome:
    if not parts_of:
        return New(n)
    told = {} if n.is_open else most_told(parts_of)
    return Split(n, {channel: Told("resolved", each.level) for channel, each in told.items()})


def most_told(episodes: Sequence[StoredEpisode]) -> Mapping[str, Told]:
    told = {}
    for channel in {channel for each in episodes for channel in each.told}:
        said = [each.told[channel] for each in episodes if channel in each.told]
        firing = [each for each in said if each.state == "firing"]
        told[channel] = max(firing or said, key=lambda each: ORDER.index(each.level))
    return told


def highest(acks: Sequence[Ack]) -> Ack | None:
    best = None
    for ack in acks:
        if best is None or (ORDER.index(ack.level), ack.at_us) > (ORDER.index(best.level), best.at_us):
            best = ack
    return best
