"""Random histories of rules that hold values, look at second metrics, and meet readings from the future.

The series and its companions are uploaded in any order, in parts, late and twice. The horizon and now move on.
Processes restart, and rules change. After each evaluation the episodes are those of both oracles.
`check_timed_history(seed)` does the whole check.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from random import Random

import msgspec

from app.alerting.episodes.machine import Episode, SecondMetric, SeriesRule
from app.alerting.episodes.replay import Want
from app.alerting.episodes.revision import StoredEpisode, revise
from app.alerting.episodes.samples import StoredReading, ValueOf
from app.alerting.episodes.timed import Companion
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.progress import PairState, StoredState
from app.alerting.evaluation.source import ReplayTask
from app.model import SeriesId
from app.summaries import Summary
from tests.alerting import second_oracle
from tests.alerting.histories import FIRST_US, History, HistoryRun, random_arrivals, random_readings, summary_of
from tests.alerting.rule_pool import POOL, UNIT_US, as_match, random_rule
from tests.alerting.timed_oracle import TimedOracle

MAIN = SeriesId(1)


class Upload(msgspec.Struct, frozen=True):
    series_id: SeriesId
    readings: tuple[StoredReading, ...]


class Evaluate(msgspec.Struct, frozen=True):
    """Let time pass, then evaluate the dirty parts whose bit is set in `take`, and what has come due."""

    take: int
    now_us: int
    settle_us: int


class Restart(msgspec.Struct, frozen=True):
    pass


class ChangeRule(msgspec.Struct, frozen=True):
    rule: SeriesRule
    companions: tuple[Companion, ...]


class TimedHistory(msgspec.Struct, frozen=True):
    rule: SeriesRule
    companions: tuple[Companion, ...]
    era_from: int | None
    page: int
    actions: tuple[Upload | Evaluate | Restart | ChangeRule, ...]


def random_timed_rule(rng: Random) -> tuple[SeriesRule, tuple[Companion, ...]]:
    """Return a rule that holds values, has second metrics, or both, and its companions."""
    rule, kind = random_rule(rng), rng.choice(("holds", "when", "both"))
    if kind != "when":
        rule = msgspec.structs.replace(
            rule, value=ValueOf(), holds=True, max_gap_us=rng.choice((1, 2, 3, 5, 12)) * UNIT_US
        )
    companions = []
    when = []
    if kind != "holds":
        for number in range(rng.choice((1, 1, 2))):
            condition, max_age_us = rng.choice(POOL.all), rng.choice((1, 2, 4, 30)) * UNIT_US
            when.append(SecondMetric(f"m{number}", condition, max_age_us))
            companions.append(Companion(SeriesId(2 + number), condition, max_age_us))
    return msgspec.structs.replace(rule, when=tuple(when)), tuple(companions)


def random_timed_history(seed: int) -> TimedHistory:
    """Return a random history; the same for the same seed."""
    rng = Random(seed)
    rule, companions = random_timed_rule(rng)
    arrivals = [(MAIN, reading) for reading in random_arrivals(rng, random_readings(rng, rule, 1.0))]
    for number in (2, 3) if rule.when else ():
        arrivals += [(SeriesId(number), reading) for reading in random_arrivals(rng, _companion_readings(rng))]
    arrivals.sort(key=lambda arrival: (arrival[1][0] // (8 * UNIT_US), rng.random()))
    ahead_us, settle_us = rng.choice((0, 0, 6)) * UNIT_US, rng.choice((0, 1, 4, 20)) * UNIT_US
    actions: list[Upload | Evaluate | Restart | ChangeRule] = []
    now_us = FIRST_US
    while arrivals:
        size = rng.choice((1, 1, 2, 3, 8))
        now_us = max(now_us, *(t - ahead_us for _, (t, _) in arrivals[:size]))
        for number in sorted({series_id for series_id, _ in arrivals[:size]}):
            part = tuple(reading for series_id, reading in arrivals[:size] if series_id == number)
            actions.append(Upload(number, part))
        arrivals = arrivals[size:]
        now_us += rng.choice((0, 0, 0, 1, 2, 9)) * UNIT_US // rng.choice((1, 2, 3))
        if rng.random() < 0.7:
            actions.append(Evaluate(-1 if rng.random() < 0.7 else rng.getrandbits(8), now_us, settle_us))
        if rng.random() < 0.1:
            actions.append(Restart())
        if rng.random() < 0.03:
            actions.append(ChangeRule(*random_timed_rule(rng)))
    end = [Evaluate(-1, now_us + ahead_us, 0), Evaluate(-1, now_us + 20 * UNIT_US, 0)]
    era_from = FIRST_US + 5 * UNIT_US if rng.random() < 0.2 else None
    return TimedHistory(rule, companions, era_from, rng.choice((1, 2, 3, 128)), (*actions, *end))


def check_timed_history(seed: int) -> None:
    """Run one history; raise AssertionError as soon as the episodes differ from those of an oracle."""
    history = random_timed_history(seed)
    for with_shortcut in (True, False):
        run = TimedRun(history, with_shortcut=with_shortcut)
        for action in history.actions:
            run.act(action)


def describe(history: TimedHistory) -> str:
    """Return a history as text, one action on each line."""
    head = (f"rule {history.rule}", f"companions {history.companions}", f"era from {history.era_from}")
    return "\n".join((*head, *(str(action) for action in history.actions)))


class TimedRun(HistoryRun):
    """The state of a database and an evaluator for one timed rule, its series and the companions."""

    def __init__(self, history: TimedHistory, *, with_shortcut: bool) -> None:
        super().__init__(
            History(history.rule, history.era_from, history.page, 0, False, ()), with_shortcut=with_shortcut
        )
        self.state = PairState.begin(as_match(history.rule), history.era_from, history.companions)
        self.now_us = self.horizon_us = 0
        self.arrived_of: dict[SeriesId, list[StoredReading]] = {SeriesId(number): [] for number in (1, 2, 3)}
        self.stored_of: dict[SeriesId, dict[int, float]] = {SeriesId(number): {} for number in (1, 2, 3)}
        self.waiting: list[tuple[SeriesId, Summary]] = []

    def act(self, action: Upload | Evaluate | Restart | ChangeRule) -> None:
        match action:
            case Upload(series_id, readings):
                self.take_in(series_id, readings)
            case Evaluate(take, now_us, settle_us):
                self.now_us = max(self.now_us, now_us)
                self.horizon_us = max(self.horizon_us, self.now_us - settle_us)
                self.look(take)
                if all(part.first_us > self.now_us for _, part in self.waiting):
                    self.check()
            case Restart():
                self.restart(keeps_cache=True)
            case ChangeRule(rule, companions):
                self.look(-1)
                self.state.companions = companions
                self.change_rule(rule)
                self.check()

    def take_in(self, series_id: SeriesId, readings: Sequence[StoredReading]) -> None:
        self.arrived_of[series_id] += readings
        new: dict[int, float] = {}
        for t, value in readings:
            if t not in self.stored_of[series_id]:
                new.setdefault(t, value)
        self.stored_of[series_id] |= new
        if new:
            self.waiting.append((series_id, summary_of(sorted(new.items()))))

    def look(self, take: int) -> None:
        """Evaluate as the evaluator does."""
        taken = [each for i, each in enumerate(self.waiting) if take >> i & 1 and each[1].first_us <= self.now_us]
        self.waiting = [each for each in self.waiting if each not in taken]
        self.waiting += [(number, part.after(self.now_us)) for number, part in taken if part.last_us > self.now_us]
        news = News(late=[part.until(self.now_us) for number, part in taken if number == MAIN])
        news.is_cut = any(part.last_us > self.now_us for number, part in taken if number == MAIN)
        timed = self.state.timed_ranges(
            {number: [part.until(self.now_us) for each, part in taken if each == number] for number, _ in taken},
            self.horizon_us,
        )
        for part in news.late:
            self.state.add(part)
        may_skip = news.late and not timed and not news.is_cut and self.with_shortcut
        if may_skip and self.state.skip(reduce(Summary.join, news.late)):
            self.skipped += 1
            return
        if news.late or (timed and self.state.stored.evaluated_to is not None):
            self.replay_timed(news, timed)
        self.write(Random(0))

    def replay(self, news: News) -> None:
        self.replay_timed(news, ())

    def replay_timed(self, news: News, timed: Sequence[tuple[int, int]]) -> None:
        ranges = self.state.ranges(news, timed)
        first = min(start for start, _ in ranges)
        rows = [row for row in self.rows.values() if row.episode.is_open or (row.episode.resolved_at or 0) >= first]
        rows.sort(key=lambda each: each.episode.fired_at)
        task = ReplayTask.begin(MAIN, self.state, news, ranges, rows, self.history.page, self.horizon_us)
        want = task.advance(None)
        while want is not None:
            want = task.advance(self.read(want))
        assert task.result is not None
        self.revise_rows(rows, task.result.episodes)
        self.state.take(task.result, changed=True, horizon_us=task.horizon_us)

    def revise_rows(self, rows: Sequence[StoredEpisode], recomputed: Sequence[Episode]) -> None:
        assert revise(rows, recomputed) is not None
        for row in rows:
            del self.rows[row.id]
        for episode in recomputed:
            self.add(episode, {})

    def read(self, want: Want) -> list[StoredReading]:
        readings = sorted(self.stored_of[want.series_id or MAIN].items())
        low = -1 if want.from_us is None else want.from_us
        high = self.now_us + 1 if want.to_us is None else min(want.to_us, self.now_us + 1)
        found = [reading for reading in readings if low <= reading[0] < high]
        return found[-want.limit :] if want.newest else found[: want.limit]

    def restart(self, *, keeps_cache: bool) -> None:
        match, companions = self.state.match, self.state.companions
        if self.row is None:
            self.state = PairState.begin(match, self.history.era_from, companions)
            return
        stored = msgspec.json.decode(self.row, type=StoredState)
        self.state = PairState(match, stored, stored.evaluated_to, must_write=False, companions=companions)

    def check(self) -> None:
        if self.state.is_beginning:
            return
        era_from, horizon_us = self.state.stored.era_from, max(self.horizon_us, self.state.stored.horizon_us or 0)
        come = {
            number: [each for each in arrived if each[0] <= self.now_us] for number, arrived in self.arrived_of.items()
        }
        in_era = [reading for reading in come[MAIN] if era_from is None or reading[0] >= era_from]
        companions = [(each, come[each.series_id]) for each in self.state.companions]
        expected = TimedOracle(self.rule, in_era, companions, horizon_us, self.inherited).episodes()
        second = second_oracle.episodes(self.rule, in_era, companions, horizon_us, self.inherited)
        assert second == expected, "the oracles differ"
        assert self.episodes() == expected


def _companion_readings(rng: Random) -> list[StoredReading]:
    """Return readings in order of time, on the same grid as those of the series, with values that last for a while."""
    t, value, readings = FIRST_US - 10 * UNIT_US, 2.0, list[StoredReading]()
    for _ in range(rng.randint(0, 25)):
        t += rng.choice((1, 2, 2, 6, 20)) * UNIT_US // 2
        if rng.random() < 0.5:
            value = rng.randrange(0, 11) / 2
        readings.append((t + (rng.choice((-1, 1)) if rng.random() < 0.1 else 0), value))
    assert all(a < b for (a, _), (b, _) in pairwise(readings))
    return readings
