"""Cost of evaluation: with a short and a long history, with long windows, and for calm values under the example rules.

The processor's time is that of this process, without the database's.
"""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from time import perf_counter, process_time

import msgspec

from app.alerting.conditions.above import Above
from app.alerting.episodes.samples import ValueOf
from app.alerting.evaluation.evaluator import evaluate
from app.alerting.evaluation.progress import EvaluationProgress
from app.alerting.language.files import load_unsent
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import Clear, LevelRule, Rule, RuleSet, Selector, Terms
from app.auth.keys import ApiKey
from app.clock import HOUR_US, MINUTE_US, SECOND_US, now_us
from app.commands.processes.server import GC_THRESHOLDS
from app.db.pool import Connection, connect
from app.ingest.flush.batch import Batch
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.upload import Upload
from app.model import Reading
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

SERIES = 10_000
GROUPS = 50
#: More than the windows of the averages span, so that the last evaluations are typical.
TICKS = 8
#: Sensors at 1 Hz under rules with long windows.
WINDOW_SERIES = 200
#: Values second by second: neighbours ten minutes or three hours apart differ by less than the values at large.
WAVE = (0.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0)
EXAMPLE_RULES = Path(__file__).parents[2] / "rules"
KEY = ApiKey("bench", frozenset({"ingest"}))


class Cost(msgspec.Struct, frozen=True):
    """The cost of one evaluation."""

    seconds: float
    cpu_s: float
    values: int


class Site:
    """A database that takes readings, and an evaluator."""

    def __init__(self, connection: Connection, rules: RuleSet) -> None:
        self.connection = connection
        self.book = RuleBook(rules)
        self.progress = EvaluationProgress()
        self._registry = SeriesRegistry()

    async def store(self, readings: Sequence[Reading]) -> None:
        """Store readings in one flush."""
        upload = Upload(Readings.of(readings), Rejected(), now_us(), KEY)
        await self._registry.register(self.connection, [upload])
        await self._registry.describe(self.connection, [upload])
        await write_flush(self.connection, Batch([upload], self._registry.series_of), self._registry, by_copy=True)

    async def evaluate(self, values: int) -> Cost:
        """Evaluate all that is new."""
        started, cpu_before, rows = perf_counter(), process_time(), 1
        while rows:
            async with self.connection.transaction():
                rows = (await evaluate(self.connection, self.book, {}, self.progress)).dirty_rows
        return Cost(perf_counter() - started, process_time() - cpu_before, values)


def two_rules_each() -> RuleSet:
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


def long_windows() -> RuleSet:
    """Make rules that never fire for the values of WAVE, but need every reading to know that."""
    values = ((ValueOf("rate", 10 * MINUTE_US), 20.0), (ValueOf("delta", 3 * HOUR_US), 2.0))
    return RuleSet(
        tuple(
            Rule(f"{value.kind}-m", Selector(metric="m"), Terms((LevelRule("warning", Above(above)),), value))
            for value, above in values
        )
    )


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the costs with much history beside those with little, and the CPU time for calm values."""
    gc.set_threshold(*GC_THRESHOLDS)
    async with run.database() as dsn:
        yield await _history(dsn, run)
    async with run.database() as dsn:
        yield await _windows(dsn)
    for sensors, readings_each in ((170, 20), (3_333, 1)):
        async with run.database() as dsn:
            yield await _calm(dsn, sensors, readings_each, run)


async def _history(dsn: str, run: Run) -> Row:
    """Measure the evaluation of one new reading of each series, with little and much history."""
    connection = await connect(dsn, idle_in_transaction_session_timeout="0")
    rng = Random(1)

    def readings(at_us: int) -> list[Reading]:
        """Return one reading of every series; about one in fifty is past a threshold."""
        return [
            Reading(f"s{n}", at_us, {"m": 100.0 if rng.random() < 0.02 else 50.0}, {"group": str(n % GROUPS)})
            for n in range(SERIES)
        ]

    start_us = now_us() - 2 * TICKS * MINUTE_US
    little = await _repeat(Site(connection, two_rules_each()), readings, start_us, MINUTE_US)
    await connection.execute(
        """INSERT INTO reading SELECT id, now() - INTERVAL '1 day' - i * INTERVAL '3 hours', 50
             FROM series, generate_series(1, $1::int) AS i""",
        run.count(100 * TICKS),
    )
    # So that autovacuum after the bulk insert does not slow down the evaluations measured next.
    await connection.execute("VACUUM (ANALYZE) reading", timeout=300)
    much = await _repeat(Site(connection, two_rules_each()), readings, start_us + TICKS * MINUTE_US, MINUTE_US)
    await connection.close()
    shape = f"{SERIES:,} series × 1 reading, two rules a series, evaluator alone"
    return _beside("one evaluation, 100 × the history", shape, much, little)


async def _windows(dsn: str) -> Row:
    """Measure the evaluation of one second of readings under long windows, with little and much history."""
    connection = await connect(dsn, idle_in_transaction_session_timeout="0")

    def readings(at_us: int) -> list[Reading]:
        value = WAVE[at_us // SECOND_US % len(WAVE)]
        return [Reading(f"w{n}", at_us, {"m": value}) for n in range(WINDOW_SERIES)]

    async def fill(from_us: int, to_us: int) -> None:
        await connection.execute(
            """INSERT INTO reading SELECT id, from_us(us), ($3::float8[])[1 + us / 1000000 % 7]
                 FROM series, generate_series($1::bigint, $2::bigint, 1000000) AS us WHERE metric = 'm'""",
            from_us,
            to_us,
            list(WAVE),
            timeout=300,
        )
        await connection.execute("VACUUM (ANALYZE) reading", timeout=300)

    start_us = now_us() // SECOND_US * SECOND_US - 10 * MINUTE_US
    await Site(connection, RuleSet()).store(readings(start_us - 4 * HOUR_US))
    await fill(start_us - 150 * SECOND_US, start_us - 1)
    little = await _repeat(Site(connection, long_windows()), readings, start_us, SECOND_US)
    await fill(start_us - 3 * HOUR_US - SECOND_US, start_us - 151 * SECOND_US)
    much = await _repeat(Site(connection, long_windows()), readings, start_us + TICKS * SECOND_US, SECOND_US)
    await connection.close()
    shape = f"{WINDOW_SERIES} series × 1 reading, rate 10m and delta 3h, 3 h stored at 1 Hz, evaluator alone"
    return _beside("one evaluation of rate and delta", shape, much, little)


async def _calm(dsn: str, sensors: int, readings_each: int, run: Run) -> Row:
    """Measure the CPU time for a million calm values of three metrics under the example rules."""
    connection = await connect(dsn, idle_in_transaction_session_timeout="0")
    rng = Random(3)

    def readings(at_us: int) -> list[Reading]:
        return [
            Reading(
                f"calm-{n}",
                at_us + number * SECOND_US // 2,
                {
                    "temperature": 20 + 0.3 * rng.random(),
                    "humidity": 50 + 2 * rng.random(),
                    "pressure": 1_013 + 0.3 * rng.random(),
                },
                {"site": f"s{n % 5}"},
            )
            for n in range(sensors)
            for number in range(readings_each)
        ]

    site, start_us, costs = Site(connection, load_unsent(EXAMPLE_RULES)), now_us() - 20 * MINUTE_US, []
    for tick in range(run.count(40, 4)):
        new = readings(start_us + tick * 30 * SECOND_US)
        await site.store(new)
        costs.append(await site.evaluate(3 * len(new)))
    await connection.close()
    typical = costs[-15:]
    return Row(
        name="evaluation of calm values: its CPU",
        shape=f"{3 * sensors:,} series × {readings_each} a flush, the example rules, evaluator alone",
        figure=sum(cost.cpu_s for cost in typical) / sum(cost.values for cost in typical) * 1e6,
        unit="s a million",
    )


async def _repeat(site: Site, readings: Callable[[int], list[Reading]], start_us: int, every_us: int) -> Cost:
    """Return the cost of evaluating one new reading of each series once all is as usual."""
    costs = []
    for tick in range(TICKS):
        new = readings(start_us + tick * every_us)
        await site.store(new)
        costs.append(await site.evaluate(len(new)))
    return min(costs[-3:], key=lambda cost: cost.seconds)


def _beside(name: str, shape: str, much: Cost, little: Cost) -> Row:
    return Row(
        name=name,
        shape=shape,
        figure=much.seconds,
        unit="s",
        beside="little history",
        beside_figure=little.seconds,
        goal=Goal("≤", 1.25),
    )
