"""The evaluator on a real database, compared with the oracle."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Literal

import pytest

from app.alerting.conditions.above import Above
from app.alerting.episodes.machine import Episode, Level, SeriesRule, Step
from app.alerting.episodes.samples import ValueOf
from app.alerting.evaluation import dirty, evaluator, source
from app.alerting.evaluation.evaluator import evaluate
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.auth.keys import ApiKey
from app.clock import DAY_US, HOUR_US, MINUTE_US, now_us
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.upload import Upload
from app.model import Reading
from tests.alerting.histories import FIRST_US, Evaluate, History, Restart, random_history
from tests.alerting.histories import Upload as Arrival
from tests.alerting.oracle import oracle_episodes
from tests.alerting.rule_pool import as_rule
from tests.conftest import Database

KEY = ApiKey("test", frozenset({"ingest"}))


class EvaluatorRun:
    """A database with many series, one rule for each, and `arrived`, their readings in order of arrival."""

    def __init__(self, connection: Connection, histories: Sequence[History], shift_us: int) -> None:
        self.connection = connection
        self.histories = histories
        self.shift_us = shift_us
        self.book = RuleBook(
            RuleSet(tuple(as_rule(f"r{n}", f"s{n}", history.rule) for n, history in enumerate(histories)))
        )
        self.arrived: list[list[tuple[int, float]]] = [[] for _ in histories]
        self.registry = SeriesRegistry()
        self.progress = EvaluationProgress()

    async def upload(self, batches: Sequence[tuple[int, Arrival]]) -> None:
        """Store some series' arrivals as one flush."""
        readings = []
        for number, arrival in batches:
            for t, value in arrival.readings:
                self.arrived[number].append((t, value))
                readings.append(Reading(f"s{number}", t + self.shift_us, {"m": value}))
        upload = Upload(Readings.of(readings), Rejected(), now_us(), KEY)
        await self.registry.register(self.connection, [upload])
        batch = Batch([upload], self.registry.series_of)
        await write_flush(self.connection, batch, self.registry, by_copy=False)

    async def evaluate(self) -> None:
        while True:
            async with self.connection.transaction():
                evaluation = await evaluate(self.connection, self.book, {}, self.progress)
            if not evaluation.dirty_rows:
                return

    async def restart(self, rng: Random) -> None:
        """Discard the progress in memory, and in half of the cases also the stored caches."""
        self.progress = EvaluationProgress()
        if rng.random() < 0.5:
            await self.connection.execute("UPDATE alert_state SET cache = NULL")

    async def episodes(self, number: int) -> list[Episode]:
        rows = await self.connection.fetch(
            """SELECT to_us(started_at) AS started, to_us(fired_at) AS fired, to_us(resolved_at) AS resolved, steps
                 FROM alert_episode WHERE rule = $1 AND reason IS NULL ORDER BY fired_at""",
            f"r{number}",
        )
        shift = self.shift_us
        return [
            Episode(
                row["started"] - shift,
                row["fired"] - shift,
                None if row["resolved"] is None else row["resolved"] - shift,
                tuple(Step(level, t - shift) for level, t in row["steps"]),
            )
            for row in rows
        ]

    async def check(self) -> None:
        for number, history in enumerate(self.histories):
            assert await self.episodes(number) == oracle_episodes(history.rule, self.arrived[number]), number


@asynccontextmanager
async def evaluator_run(database: Database, seed: int, count: int, shift_us: int) -> AsyncIterator[EvaluatorRun]:
    connection = await connect(database.dsn)
    try:
        yield EvaluatorRun(connection, [random_history(seed * 1_000 + n) for n in range(count)], shift_us)
    finally:
        await connection.close()


def use_small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each evaluation take few rows, fetch few readings at a time and leave most of the work to the next one."""
    monkeypatch.setattr(dirty, "ROWS_LIMIT", 2)
    monkeypatch.setattr(dirty, "FRESH_BYTES", 150)
    monkeypatch.setattr(dirty, "LATE_BYTES", 100)
    monkeypatch.setattr(source, "READINGS_LIMIT", 130)
    monkeypatch.setattr(evaluator, "FETCH_LIMIT", 12)


async def apply_all(run: EvaluatorRun, rng: Random) -> None:
    """Apply the actions of all histories interleaved, with uploads of several series in one flush."""
    waiting = [[each for each in history.actions if not hasattr(each, "rule")] for history in run.histories]
    while any(waiting):
        batches: list[tuple[int, Arrival]] = []
        for number in rng.sample(range(len(waiting)), k=min(6, len(waiting))):
            if not waiting[number]:
                continue
            action = waiting[number].pop(0)
            if isinstance(action, Arrival):
                batches.append((number, action))
            elif isinstance(action, Restart) and rng.random() < 0.1:
                await run.restart(rng)
            elif isinstance(action, Evaluate) and rng.random() < 0.5:
                await run.evaluate()
        if batches:
            await run.upload(batches)
    await run.evaluate()


# The newest reading is two days, two hours or no time ago, so that readings count as late, as fresh, and as both.
@pytest.mark.parametrize("age_us", [2 * DAY_US, 2 * HOUR_US, 0])
@pytest.mark.parametrize(("seed", "has_small_limits"), [(1, False), (2, False), (3, True)])
async def test_episodes_agree_with_the_oracle_when_uploads_are_shuffled_and_the_process_restarts(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int, has_small_limits: bool, age_us: int
) -> None:
    if has_small_limits:
        use_small_limits(monkeypatch)
    latest = max(
        t
        for n in range(40)
        for each in random_history(seed * 1_000 + n).actions
        if isinstance(each, Arrival)
        for t, _ in each.readings
    )
    shift_us = now_us() - age_us - latest
    assert latest > FIRST_US
    async with evaluator_run(database, seed, 40, shift_us) as run:
        await apply_all(run, Random(seed))
        await run.check()


@pytest.mark.parametrize("kind", ["last", "avg", "min", "max", "delta", "rate", "range"])
async def test_calm_readings_are_not_replayed_from_the_second_evaluation_on_when_another_process_takes_over(
    database: Database, kind: Literal["last", "avg", "min", "max", "delta", "rate", "range"]
) -> None:
    rule = SeriesRule(ValueOf(kind, 0 if kind == "last" else 10 * MINUTE_US), (Level("warning", Above(100.0)),))
    connection = await connect(database.dsn)
    try:
        run = EvaluatorRun(connection, [History(rule, None, 128, 0, True, ())], now_us() - 14 * MINUTE_US)
        replayed = []
        for minute in range(14):
            await run.upload([(0, Arrival(((minute * MINUTE_US, float(minute % 3)),)))])
            if minute == 11:
                run.progress = EvaluationProgress()
            async with connection.transaction():
                replayed.append((await evaluate(connection, run.book, {}, run.progress)).replayed)
        assert replayed[11:] == [1, 0, 0]
        assert sum(replayed[1:11]) == 0 if kind == "last" else replayed[10] == 0
        await run.check()
    finally:
        await connection.close()
