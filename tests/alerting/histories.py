"""Random histories of uploads in any order, evaluations, restarts and rule changes, compared with the oracle.

`check_history(seed)` does the whole check. `describe(random_history(seed))` returns a failed history as text.
"""

from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from app.alerting.episodes.machine import Episode, Memory, SeriesRule
from app.alerting.episodes.replay import Known, Want, replay, skip
from app.alerting.episodes.revision import (
    Ack,
    Deleted,
    Kept,
    Merged,
    New,
    Retracted,
    Split,
    StoredEpisode,
    Told,
    revise,
)
from app.alerting.episodes.samples import StoredReading
from app.clock import HOUR_US
from tests.alerting.oracle import meets, oracle_episodes
from tests.alerting.revision_oracle import oracle_outcomes
from tests.alerting.rule_pool import RATE_SCALE, UNIT_US, random_rule

FIRST_US = 1_000 * UNIT_US


class Upload(msgspec.Struct, frozen=True):
    readings: tuple[StoredReading, ...]


class Evaluate(msgspec.Struct, frozen=True):
    """Evaluate the dirty ranges whose bit is set in `take`, then make random notifications and acknowledgements.

    `tell` is the seed of these. All stored readings can be read, also those of ranges that are not taken.
    """

    take: int
    tell: int


class Restart(msgspec.Struct, frozen=True):
    """Delete the cached clocks."""


class ChangeRule(msgspec.Struct, frozen=True):
    rule: SeriesRule


Action = Upload | Evaluate | Restart | ChangeRule
EVERYTHING = Evaluate(take=-1, tell=0)


class History(msgspec.Struct, frozen=True):
    rule: SeriesRule
    era_from: int | None
    page: int
    actions: tuple[Action, ...]


def random_history(seed: int) -> History:
    """Return a random history of one series; the same for the same seed."""
    rng = Random(seed)
    rule = random_rule(rng)
    arrivals = _arrivals(rng, _readings(rng, rule))
    actions: list[Action] = []
    while arrivals:
        size = rng.choice((1, 1, 2, 3, 8))
        actions.append(Upload(tuple(arrivals[:size])))
        arrivals = arrivals[size:]
        if rng.random() < 0.7:
            take = -1 if rng.random() < 0.7 else rng.getrandbits(8)
            actions.append(Evaluate(take, tell=rng.getrandbits(32)))
        if rng.random() < 0.2:
            actions.append(Restart())
        if rng.random() < 0.03:
            actions.append(ChangeRule(random_rule(rng)))
    era_from = FIRST_US + 5 * UNIT_US if rng.random() < 0.2 else None
    return History(rule, era_from, rng.choice((1, 2, 3, 128)), (*actions, EVERYTHING))


def check_history(seed: int) -> None:
    """Run one history; raise AssertionError as soon as the result differs from the oracle."""
    history = random_history(seed)
    run = HistoryRun(history)
    for action in history.actions:
        run.apply(action)
        run.check()


def describe(history: History) -> str:
    """Return a history as text, one action on each line."""
    head = (f"rule {history.rule}", f"era from {history.era_from}, pages of {history.page}")
    return "\n".join((*head, *(str(action) for action in history.actions)))


class HistoryRun:
    """The state of a database and an evaluator for one rule and series while a history runs."""

    def __init__(self, history: History) -> None:
        self.rule = history.rule
        self.era_from = history.era_from
        self.page = history.page
        self.arrived: list[StoredReading] = []
        self.stored: list[StoredReading] = []
        self.dirty: list[tuple[int, int]] = []
        self.evaluated_to: int | None = None
        self.memory: Memory | None = None
        self.rows: dict[int, StoredEpisode] = {}
        self.last_id = 0
        self.earlier_eras: list[Episode] = []
        #: The episode that was open when the current era began.
        self.inherited: Episode | None = None

    def apply(self, action: Action) -> None:
        match action:
            case Upload(readings):
                self.upload(readings)
            case Evaluate(take, tell):
                self.evaluate(take)
                self.tell(Random(tell))
            case Restart():
                self.memory = None
            case ChangeRule(rule):
                self.evaluate(-1)
                self.change_rule(rule)

    def check(self) -> None:
        """Compare the episodes with the oracle, if every reading has been evaluated."""
        if self.dirty:
            return
        in_era = [reading for reading in self.arrived if self.era_from is None or reading[0] >= self.era_from]
        expected = [*self.earlier_eras, *oracle_episodes(self.rule, in_era, self.inherited)]
        assert self.episodes() == expected

    def episodes(self) -> list[Episode]:
        return sorted((row.episode for row in self.rows.values()), key=lambda each: each.fired_at)

    def upload(self, readings: Sequence[StoredReading]) -> None:
        self.arrived += readings
        before = dict(self.stored)
        new: dict[int, float] = {}
        for t, value in readings:
            if t not in before:
                new.setdefault(t, value)
        self.stored = sorted((before | new).items())
        newest = max(before, default=0)
        for times in ([t for t in new if t <= newest], [t for t in new if t > newest]):
            if times:
                self.dirty.append((min(times), max(times)))

    def read(self, want: Want) -> list[StoredReading]:
        low = -1 if want.from_us is None else want.from_us
        found = [reading for reading in self.stored if reading[0] >= low]
        if want.to_us is not None:
            found = [reading for reading in found if reading[0] < want.to_us]
        return found[-want.limit :] if want.newest else found[: want.limit]

    def evaluate(self, take: int) -> None:
        taken = [each for i, each in enumerate(self.dirty) if take >> i & 1]
        if not taken:
            return
        self.dirty = [each for i, each in enumerate(self.dirty) if not take >> i & 1]
        first = min(start for start, _ in taken)
        rows = [row for row in self.rows.values() if row.episode.is_open or (row.episode.resolved_at or 0) >= first]
        episodes = tuple(sorted((row.episode for row in rows), key=lambda each: each.fired_at))
        known = Known(episodes, self.evaluated_to, self.era_from, self.memory)
        if self.skip(known, taken):
            return
        result = replay(self.rule, known, taken, self.read, self.page)
        self.evaluated_to, self.memory = result.evaluated_to, result.memory
        self.revise(rows, result.episodes)

    def skip(self, known: Known, taken: Sequence[tuple[int, int]]) -> bool:
        new = [reading for reading in self.stored if any(first <= reading[0] <= last for first, last in taken)]
        memory = skip(self.rule, known, new)
        if memory is not None:
            self.evaluated_to, self.memory = memory.evaluated_to, memory
        return memory is not None

    def revise(self, rows: Sequence[StoredEpisode], recomputed: Sequence[Episode]) -> None:
        outcomes = revise(rows, recomputed)
        expected = oracle_outcomes(rows, recomputed)
        assert len(outcomes) == len(expected)
        assert all(outcome in expected for outcome in outcomes)
        for outcome in outcomes:
            match outcome:
                case Kept(id_, episode, told, ack):
                    self.rows[id_] = StoredEpisode(id_, episode, told, ack)
                case New(episode):
                    self.add(episode, {})
                case Split(episode, told):
                    self.add(episode, told)
                case Merged(id_, into):
                    assert into in self.rows
                    assert self.rows.pop(id_).told
                case Retracted(id_):
                    assert self.rows.pop(id_).told
                case Deleted(id_):
                    assert not self.rows.pop(id_).told

    def add(self, episode: Episode, told: Mapping[str, Told]) -> None:
        self.last_id += 1
        self.rows[self.last_id] = StoredEpisode(self.last_id, episode, told)

    def tell(self, rng: Random) -> None:
        for row in list(self.rows.values()):
            if rng.random() < 0.5:
                level = rng.choice(row.episode.steps).level
                is_firing = row.episode.is_open or rng.random() < 0.3
                new_told = Told("firing" if is_firing else "resolved", level)
                told = {**row.told, rng.choice(("ops", "duty")): new_told}
                ack = Ack("anna", rng.randrange(9), level) if rng.random() < 0.3 else row.ack
                self.rows[row.id] = StoredEpisode(row.id, row.episode, told, ack)

    def change_rule(self, rule: SeriesRule) -> None:
        episodes = self.episodes()
        self.earlier_eras = [each for each in episodes if not each.is_open]
        self.inherited = next((each for each in episodes if each.is_open), None)
        self.rule, self.memory = rule, None
        if self.evaluated_to is not None:
            self.era_from, self.evaluated_to = self.evaluated_to + 1, None


def _readings(rng: Random, rule: SeriesRule) -> list[StoredReading]:
    """Return readings in order of time: at multiples of half a unit, a tenth of them a microsecond off.

    Each target, a value that meets the lowest level's condition or one that does not, lasts for some readings. It is
    the value of the readings, or their slope for `rate` and `delta`.
    """
    t, value, target = FIRST_US, 2.0, 0.0
    per_unit = {"rate": UNIT_US / HOUR_US, "delta": UNIT_US / max(1, rule.value.window_us)}.get(rule.value.kind)
    readings = []
    for _ in range(rng.randint(4, 45)):
        step = rng.choice((1, 1, 2, 2, 2, 2, 4, 6)) * UNIT_US // 2
        t += step
        if rng.random() < 0.6:
            target = _target(rng, rule, meets_level=rng.random() < 0.5)
        value = target if per_unit is None else value + target * per_unit * step / UNIT_US
        jitter = rng.choice((-1, 1)) if rng.random() < 0.1 else 0
        readings.append((t + jitter, value))
    return readings


def _target(rng: Random, rule: SeriesRule, meets_level: bool) -> float:
    scale = RATE_SCALE if rule.value.kind == "rate" else 1.0
    grid = [scale * half / 2 for half in range(-2, 13)]
    fitting = [value for value in grid if meets(rule.levels[0].condition, value) == meets_level]
    return rng.choice(fitting or grid)


def _arrivals(rng: Random, readings: list[StoredReading]) -> list[StoredReading]:
    """Return the readings in order of arrival, with repeats, some of which have another value."""
    repeats = [(t, rng.choice((value, 0.0, 5.5))) for t, value in readings if rng.random() < 0.15]
    delay_units = rng.choice((0, 3, 10, 30, 100))
    late = rng.choice((0.1, 0.5, 1.0))
    shuffled = rng.random() < 0.5

    def arrives(reading: StoredReading) -> float:
        delay = delay_units * UNIT_US if rng.random() < late else 0
        return reading[0] + (rng.random() * delay if shuffled else delay)

    return sorted([*readings, *repeats], key=arrives)
