"""Test oracle for `revise`: matches every stored episode with every recomputed one, one matching rule after another."""

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


def oracle_outcomes(stored: Sequence[StoredEpisode], recomputed: Sequence[Episode]) -> list[RevisionOutcome]:
    """Return the outcome of each stored and each recomputed episode, without those that stay unchanged."""
    old = sorted(stored, key=lambda each: each.episode.started_at)
    new = sorted(recomputed, key=lambda each: each.started_at)
    matched: list[tuple[StoredEpisode, Episode]] = []
    matched += [(o, n) for o in old for n in new if o.episode.is_open and n.is_open]
    for n in new:
        if not any(n is m for _, m in matched):
            free = [o for o in old if overlap(o.episode, n) and not any(o is p for p, _ in matched)]
            matched += [(o, n) for o in free[:1]]
    into: dict[int, StoredEpisode] = {}
    for o in old:
        targets = [(p, n) for n in new for p, m in matched if m is n and overlap(o.episode, n)]
        if not any(o is p for p, _ in matched) and targets:
            into[o.id] = next((p for p, n in targets if n.is_open), targets[0][0])
    unmatched_old = [o for o in old if not any(o is p for p, _ in matched)]
    unmatched_new = [n for n in new if not any(n is m for _, m in matched)]
    outcomes: list[RevisionOutcome] = [removed(o, into.get(o.id)) for o in unmatched_old]
    outcomes += [kept(o, n, [m for m in unmatched_old if into.get(m.id) is o]) for o, n in matched]
    outcomes += [added(n, [o for o in old if overlap(o.episode, n)]) for n in unmatched_new]
    unchanged = [Kept(o.id, o.episode, o.told, o.ack) for o in old]
    return [each for each in outcomes if each not in unchanged]


def overlap(one: Episode, other: Episode) -> bool:
    """Return whether two spans share a microsecond. An open episode has no end."""
    one_before = one.resolved_at is not None and one.resolved_at < other.started_at
    other_before = other.resolved_at is not None and other.resolved_at < one.started_at
    return not one_before and not other_before


def removed(o: StoredEpisode, into: StoredEpisode | None) -> RevisionOutcome:
    if not o.told:
        return Deleted(o.id)
    return Retracted(o.id) if into is None else Merged(o.id, into.id)


def kept(o: StoredEpisode, n: Episode, merged: Sequence[StoredEpisode]) -> RevisionOutcome:
    acks = [each.ack for each in (o, *merged) if each.ack is not None]
    return Kept(o.id, n, strongest_told([o, *merged]), highest_ack(acks))


def added(n: Episode, overlapping: Sequence[StoredEpisode]) -> RevisionOutcome:
    if not overlapping:
        return New(n)
    told = {} if n.is_open else strongest_told(overlapping)
    return Split(n, {channel: Told("resolved", each.level) for channel, each in told.items()})


def strongest_told(episodes: Sequence[StoredEpisode]) -> Mapping[str, Told]:
    strongest = {}
    for channel in {channel for each in episodes for channel in each.told}:
        told = [each.told[channel] for each in episodes if channel in each.told]
        firing = [each for each in told if each.state == "firing"]
        strongest[channel] = max(firing or told, key=lambda each: ORDER.index(each.level))
    return strongest


def highest_ack(acks: Sequence[Ack]) -> Ack | None:
    best = None
    for ack in acks:
        if best is None or (ORDER.index(ack.level), ack.at_us) > (ORDER.index(best.level), best.at_us):
            best = ack
    return best
