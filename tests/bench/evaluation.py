"""Time of one evaluation of 10,000 series under 100 rules, two rules a series, with a short and a long history."""

import gc
from collections.abc import AsyncIterator
from random import Random
from time import perf_counter

from app.alerting.conditions.above import Above
from app.alerting.episodes.samples import ValueOf
from app.alerting.evaluation.evaluator import evaluate
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import Clear, LevelRule, Rule, RuleSet, Selector, Terms
from app.auth.keys import ApiKey
from app.clock import MINUTE_US, now_us
from app.commands.processes.server import GC_THRESHOLDS
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch
from app.ingest.flush.transaction import write_flush
from app.ingest.series import SeriesRegistry
from app.ingest.upload import Readings, Rejected, Upload
from app.model import Reading
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

SERIES = 10_000
GROUPS = 50
#: More than the windows of the averages span, so that the last evaluations are typical.
TICKS = 8
KEY = ApiKey("bench", frozenset({"ingest"}))


def rules() -> RuleSet:
    """Make two rules for each of the fifty groups of sensors: on the value, and on the average of five minutes."""
    levels = (LevelRule("warning", Above(95.0), MINUTE_US), LevelRule("critical", Above(99.0)))
    return RuleSet(
        tuple(
            Rule(
                f"{value.kind}-{group}",
                Selector(metric="m", tags={"group": str(group)}),
                Terms(levels, value, clear=Clear(), max_gap_us=10 * MINUTE_US),
            )
            for group in range(GROUPS)
            for value in (ValueOf("last"), ValueOf("avg", 5 * MINUTE_US))
        )
    )


async def store(connection: Connection, registry: SeriesRegistry, at_us: int, rng: Random) -> None:
    """Store one reading of every series; about one in fifty is past a threshold."""
    readings = [
        Reading(f"s{n}", at_us, {"m": 100.0 if rng.random() < 0.02 else 50.0}, {"group": str(n % GROUPS)})
        for n in range(SERIES)
    ]
    upload = Upload(Readings.of(readings), Rejected(), now_us(), KEY)
    await registry.register(connection, [upload])
    await registry.describe(connection, [upload])
    await write_flush(connection, Batch([upload], registry.series_of), registry, by_copy=True)


async def _measure(connection: Connection, registry: SeriesRegistry, start_us: int) -> float:
    """Return the time of evaluating one new reading of each series once all windows are full, in seconds."""
    book, progress, rng, times = RuleBook(rules()), EvaluationProgress(), Random(1), []
    for tick in range(TICKS):
        await store(connection, registry, start_us + tick * MINUTE_US, rng)
        started = perf_counter()
        async with connection.transaction():
            evaluation = await evaluate(connection, book, {}, progress)
        times.append(perf_counter() - started)
        assert evaluation.pairs == 2 * SERIES
    return min(times[-3:])


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the time with a long history beside that with a short one."""
    gc.set_threshold(*GC_THRESHOLDS)
    async with run.database() as dsn:
        connection = await connect(dsn, idle_in_transaction_session_timeout="0")
        registry = SeriesRegistry()
        start_us = now_us() - 2 * TICKS * MINUTE_US
        little = await _measure(connection, registry, start_us)
        await connection.execute(
            """INSERT INTO reading SELECT id, now() - INTERVAL '1 day' - i * INTERVAL '3 hours', 50
                 FROM series, generate_series(1, $1::int) AS i""",
            run.count(100 * TICKS),
        )
        # So that autovacuum after the bulk insert does not slow down the evaluations measured next.
        await connection.execute("VACUUM (ANALYZE) reading", timeout=300)
        much = await _measure(connection, registry, start_us + TICKS * MINUTE_US)
        await connection.close()
    yield Row(
        name="one evaluation, 100 × the history",
        shape=f"{SERIES:,} series × 1 reading, two rules a series, evaluator alone",
        figure=much,
        unit="s",
        beside="little history",
        beside_figure=little,
        goal=Goal("≤", 1.25),
    )
