"""Random histories of uploads in any order, evaluations, restarts and rule changes, compared with the oracle.

`check_history(seed)` does the whole check. `describe(random_history(seed))` returns a failed history as text.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from random import Random

import msgspec

from app.alerting.episodes.machine import Episode, SeriesRule
from app.alerting.episodes.replay import Want
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
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.progress import PairState, StoredState
from app.alerting.evaluation.source import ReplayTask
from app.clock import HOUR_US
from app.model import SeriesId
from app.summaries import Summary
from tests.alerting.oracle import meets, oracle_episodes
from tests.alerting.revision_oracle import oracle_outcomes
from tests.alerting.rule_pool import UNIT_US, as_match, random_rule, scale_of

FIRST_US = 1_000 * UNIT_US


class Upload(msgspec.Struct, frozen=True):
    readings: tuple[StoredReading, ...]


class Evaluate(msgspec.Struct, frozen=True):
    """Evaluate the dirty parts whose bit is set in `take`, then make random notifications and acknowledgements.

    `tell` is the seed of these, and of whether a quiet state is stored. All stored readings can be read, also those of
    parts that are not taken.
    """

    take: int
    tell: int


class Restart(msgspec.Struct, frozen=True):
    """Let another process evaluate, from what is stored; it may have lost the stored clocks, too."""

    keeps_cache: bool


class ChangeRule(msgspec.Struct, frozen=True):
    rule: SeriesRule


Action = Upload | Evaluate | Restart | ChangeRule
EVERYTHING = Evaluate(take=-1, tell=0)


class History(msgspec.Struct, frozen=True):
    rule: SeriesRule
    era_from: int | None
    page: int
    #: New readings are late if they are older than the newest stored one by more than this.
    late_after_us: int
    completes_extremes: bool
    actions: tuple[Action, ...]


def random_history(seed: int) -> History:
    """Return a random history of one series; the same for the same seed."""
    rng = Random(seed)
    scale = rng.choice((1.0, 1.0, 0.1))  # sums of tenths are rounded
    rule = random_rule(rng, scale)
    arrivals = random_arrivals(rng, random_readings(rng, rule, scale))
    actions: list[Action] = []
    while arrivals:
        size = rng.choice((1, 1, 2, 3, 8))
        actions.append(Upload(tuple(arrivals[:size])))
        arrivals = arrivals[size:]
        if rng.random() < 0.7:
            take = -1 if rng.random() < 0.7 else rng.getrandbits(8)
            actions.append(Evaluate(take, tell=rng.getrandbits(32)))
        if rng.random() < 0.2:
            actions.append(Restart(rng.random() < 0.7))
        if rng.random() < 0.03:
            actions.append(ChangeRule(random_rule(rng, scale)))
    era_from = FIRST_US + 5 * UNIT_US if rng.random() < 0.2 else None
    page, late_after_us = rng.choice((1, 2, 3, 128)), rng.choice((0, 2, 2, 1_000)) * UNIT_US
    return History(rule, era_from, page, late_after_us, rng.random() < 0.7, (*actions, EVERYTHING))


def check_history(seed: int) -> None:
    """Run one history with and without the shortcut; raise AssertionError as soon as one differs from the oracle."""
    history = random_history(seed)
    for with_shortcut in (True, False):
        run = HistoryRun(history, with_shortcut=with_shortcut)
        for action in history.actions:
            run.apply(action)
            run.check()


def describe(history: History) -> str:
    """Return a history as text, one action on each line."""
    head = (
        f"rule {history.rule}",
        f"era from {history.era_from}, pages of {history.page}, late after {history.late_after_us}",
        f"completes extremes: {history.completes_extremes}",
    )
    return "\n".join((*head, *(str(action) for action in history.actions)))


class HistoryRun:
    """The state of a database and an evaluator for one rule and series while a history runs."""

    def __init__(self, history: History, *, with_shortcut: bool = True) -> None:
        self.history = history
        self.with_shortcut = with_shortcut
        self.rule = history.rule
        self.state = PairState.begin(as_match(history.rule), history.era_from)
        #: The row of alert_state, as JSON.
        self.row: bytes | None = None
        #: Number of parts that needed no replay.
        self.skipped = 0
        self.arrived: list[StoredReading] = []
        self.stored: list[StoredReading] = []
        self.dirty: list[tuple[Summary, bool]] = []
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
                rng = Random(tell)
                self.evaluate(take, rng)
                self.tell(rng)
            case Restart(keeps_cache):
                self.restart(keeps_cache=keeps_cache)
            case ChangeRule(rule):
                self.evaluate(-1, Random(0))
                self.change_rule(rule)

    def check(self) -> None:
        """Compare the episodes with the oracle, if every reading has been evaluated."""
        if self.dirty or self.state.is_beginning:
            return
        era_from = self.state.stored.era_from
        in_era = [reading for reading in self.arrived if era_from is None or reading[0] >= era_from]
        assert self.episodes() == oracle_episodes(self.rule, in_era, self.inherited)

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
        late_before = max(before, default=0) - self.history.late_after_us
        for is_late in (False, True):
            part = [reading for reading in sorted(new.items()) if (reading[0] < late_before) is is_late]
            if part:
                self.dirty.append((summary_of(part), is_late))

    def read(self, want: Want) -> list[StoredReading]:
        low = -1 if want.from_us is None else want.from_us
        found = [reading for reading in self.stored if reading[0] >= low]
        if want.to_us is not None:
            found = [reading for reading in found if reading[0] < want.to_us]
        return found[-want.limit :] if want.newest else found[: want.limit]

    def evaluate(self, take: int, rng: Random) -> None:
        taken = [part for i, (part, _) in enumerate(self.dirty) if take >> i & 1]
        if not taken:
            return
        late = [part for i, (part, is_late) in enumerate(self.dirty) if take >> i & 1 and is_late]
        self.dirty = [each for i, each in enumerate(self.dirty) if not take >> i & 1]
        late_waits = any(is_late for _, is_late in self.dirty)
        news = News(late=late)
        for part in taken:
            self.state.add(part)
            if part not in late:
                news.fresh = part if news.fresh is None else news.fresh.join(part)
        in_order = news.fresh is None or not late_waits
        if self.with_shortcut and in_order and self.state.skip(reduce(Summary.join, news.parts)):
            self.skipped += 1
        else:
            self.replay(news)
        self.write(rng)

    def replay(self, news: News) -> None:
        ranges = self.state.ranges(news)
        first = min(start for start, _ in ranges)
        rows = [row for row in self.rows.values() if row.episode.is_open or (row.episode.resolved_at or 0) >= first]
        rows.sort(key=lambda each: each.episode.fired_at)
        task = ReplayTask.begin(SeriesId(1), self.state, news, ranges, rows, self.history.page)
        want = task.advance(None)
        while want is not None:
            want = task.advance(self.read(want))
        assert task.result is not None
        changed = list(task.result.episodes) != [row.episode for row in rows]
        self.revise(rows, task.result.episodes)
        self.state.take(task.result, changed=changed)
        self.complete_extremes()

    def complete_extremes(self) -> None:
        window = self.state.unknown_window
        if window is not None and self.history.completes_extremes:
            values = [value for t, value in self.stored if window[0] <= t <= window[1]]
            assert self.state.extremes is not None
            self.state.extremes.reach_back(window[0], min(values), max(values))

    def write(self, rng: Random) -> None:
        """Store the state if it must be stored, and sometimes otherwise."""
        if self.state.must_write or rng.random() < 0.2:
            self.row = msgspec.json.encode(self.state.stored)
            self.state.written_us, self.state.must_write = self.state.stored.evaluated_to, False

    def restart(self, *, keeps_cache: bool) -> None:
        """Take the state from what is stored."""
        match = self.state.match
        if self.row is None:
            self.state = PairState.begin(match, self.history.era_from)
            return
        stored = msgspec.json.decode(self.row, type=StoredState)
        stored.memory = stored.memory if keeps_cache else None
        self.state = PairState(match, stored, stored.evaluated_to, must_write=False)
        if stored.rule_hash != match.rule_hash:
            self.begin_era()

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
        """Begin a new era at the newest evaluated reading, which is judged at once."""
        self.inherited = next((row.episode for row in self.rows.values() if row.episode.is_open), None)
        self.earlier_eras += [row.episode for row in self.rows.values() if not row.episode.is_open]
        self.earlier_eras.sort(key=lambda each: each.fired_at)
        self.rows = {id_: row for id_, row in self.rows.items() if row.episode.is_open}
        self.rule = rule
        self.state.match = as_match(rule)
        self.begin_era()

    def begin_era(self) -> None:
        stored = self.state.stored
        if stored.evaluated_to is None:
            self.state.begin_era(stored.era_from)
            return
        self.state.begin_era(stored.evaluated_to, self.inherited)
        self.replay(News(late=[]))
        self.write(Random(0))


def summary_of(readings: Sequence[StoredReading]) -> Summary:
    """Return the summary of readings in order of time."""
    times, values = zip(*readings, strict=True)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return Summary(len(times), times[0], times[-1], min(values), max(values), max(gaps, default=0))


def random_readings(rng: Random, rule: SeriesRule, scale: float) -> list[StoredReading]:
    """Return readings in order of time: at multiples of half a unit, a tenth of them a microsecond off.

    Each target, a value that meets the lowest level's condition or one that does not, lasts for some readings. It is
    the value of the readings, or their slope for `rate`, `delta` and `increase`; a tenth of these fall to 0 at times.
    """
    t, value, target = FIRST_US, 2.0, 0.0
    change = rng.choice((0.1, 0.3, 0.6))
    per_window = UNIT_US / max(1, rule.value.window_us)
    slopes = {"rate": UNIT_US / HOUR_US, "delta": per_window, "increase": per_window}
    per_unit, resets = slopes.get(rule.value.kind), rng.random() < 0.1
    readings = []
    for _ in range(rng.randint(4, 45)):
        step = rng.choice((1, 1, 2, 2, 2, 2, 4, 6)) * UNIT_US // 2
        t += step
        if rng.random() < change:
            target = _target(rng, rule, scale_of(rule, scale), meets_level=rng.random() < 0.5)
        value = target if per_unit is None else value + target * per_unit * step / UNIT_US
        if resets and per_unit is not None and rng.random() < 0.2:
            value = rng.choice((0.0, 0.5))
        jitter = rng.choice((-1, 1)) if rng.random() < 0.1 else 0
        readings.append((t + jitter, value))
    return readings


def _target(rng: Random, rule: SeriesRule, scale: float, meets_level: bool) -> float:
    if rng.random() < 0.3:
        return float(rng.choice(msgspec.structs.astuple(rng.choice(rule.levels).condition)))  # type: ignore[arg-type]
    grid = [scale * half / 2 for half in range(-2, 13)]
    fitting = [value for value in grid if meets(rule.levels[0].condition, value) == meets_level]
    return rng.choice(fitting or grid)


def random_arrivals(rng: Random, readings: list[StoredReading]) -> list[StoredReading]:
    """Return the readings in order of arrival, with repeats, some of which have another value."""
    repeats = [(t, rng.choice((value, 0.0, 5.5))) for t, value in readings if rng.random() < 0.15]
    delay_units = rng.choice((0, 3, 10, 30, 100))
    late = rng.choice((0.1, 0.5, 1.0))
    shuffled = rng.random() < 0.5

    def arrives(reading: StoredReading) -> float:
        delay = delay_units * UNIT_US if rng.random() < late else 0
        return reading[0] + (rng.random() * delay if shuffled else delay)

    return sorted([*readings, *repeats], key=arrives)
