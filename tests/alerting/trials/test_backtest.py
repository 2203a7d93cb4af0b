"""Backtests on a real database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.episodes.machine import Episode, Step
from app.alerting.episodes.samples import ValueOf
from app.alerting.language.files import parse_rules
from app.alerting.rules.matching import RuleBook, compile_terms
from app.alerting.rules.model import Clear, LevelRule, Override, Rule, RuleSet, Selector, Terms, When
from app.alerting.trials import backtest
from app.alerting.trials.backtest import NotMigratedError, run_backtest
from app.alerting.trials.sql import SQL
from app.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US, from_us
from app.db.aggregates import RAW_RETENTION
from app.db.pool import connect
from app.errors import DatabaseUnavailableError
from tests.conftest import Database

M = MINUTE_US
#: 2026-07-01T12:00:00Z
NOW = 1_782_907_200_000_000
WARM = Rule(
    "warm",
    Selector(metric="temperature"),
    Terms((LevelRule("warning", Above(8), 2 * M), LevelRule("critical", Above(12))), unit="°C", clear=Clear(Below(7))),
)
FAST = Rule(
    "fast", Selector(metric="temperature"), Terms((LevelRule("info", Above(3)),), value=ValueOf("delta", 2 * M))
)


class Store:
    """Writes readings to the tables that ingest fills, without the checks of ingest."""

    def __init__(self, database: Database) -> None:
        self.pool = database.pool

    async def add(
        self,
        sensor: str,
        readings: Sequence[tuple[int, float]],
        metric: str = "temperature",
        unit: str | None = None,
        **labels: Any,
    ) -> int:
        sensor_id = await self.pool.fetchval(
            "INSERT INTO sensor (name, tags, gateway, created_by) VALUES ($1, $2, $3, 'test') RETURNING id",
            sensor,
            labels.get("tags", {}),
            labels.get("gateway"),
        )
        series_id: int = await self.pool.fetchval(
            "INSERT INTO series (sensor_id, metric, unit) VALUES ($1, $2, $3) RETURNING id", sensor_id, metric, unit
        )
        rows = [(series_id, from_us(us), float(value)) for us, value in readings]
        await self.pool.copy_records_to_table("reading", records=rows, columns=["series_id", "time", "value"])
        _, newest, value = max(rows, key=lambda row: row[1])
        await self.pool.execute("INSERT INTO series_state VALUES ($1, $2, $3, now())", series_id, newest, value)
        return series_id


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


async def backtested(
    database: Database, *rules: Rule, since_us: int = DAY_US, now_us: int = NOW, **options: Any
) -> backtest.Backtest:
    """Run a backtest of the rules on a read-only connection."""
    connection = await connect(database.dsn, default_transaction_read_only="on")
    try:
        return await run_backtest(connection, RuleBook(RuleSet(rules)), now_us - since_us, now_us, **options)
    finally:
        await connection.close()


def minutes(start_us: int, *values: float) -> list[tuple[int, float]]:
    return [(start_us + n * M, value) for n, value in enumerate(values)]


async def test_backtest_finds_episodes_in_the_order_in_which_they_fired(database: Database, store: Store) -> None:
    start = NOW - HOUR_US
    await store.add("cellar", minutes(start, 5, 9, 9, 9, 13, 6, 5), unit="K", tags={"room": "cold"})
    await store.add("attic", minutes(start, 5, 5, 9, 10, 9.5))
    await store.add("roof", minutes(start, 99, 99, 99), metric="pressure")
    result = await backtested(database, WARM, FAST)
    assert (result.from_us, result.to_us, result.series, result.readings) == (NOW - DAY_US, NOW, 2, 12)
    assert [(each.rule, each.sensor, each.unit, each.peak) for each in result.episodes] == [
        ("fast", "cellar", "K", 4.0),
        ("fast", "attic", None, 5.0),
        ("warm", "cellar", "°C", 13.0),
        ("fast", "cellar", "K", 4.0),
        ("warm", "attic", "°C", 10.0),
    ]
    warm = result.episodes[2]
    assert warm.episode == Episode(
        start + M, start + 3 * M, start + 5 * M, (Step("warning", start + 3 * M), Step("critical", start + 4 * M))
    )
    assert (warm.metric, warm.seen_to_us, warm.touches) == ("temperature", start + 6 * M, ())
    assert result.episodes[4].episode.is_open


async def test_backtest_applies_selectors_and_overrides_to_each_series(database: Database, store: Store) -> None:
    start = NOW - HOUR_US
    terms = Terms((LevelRule("warning", Above(8)),))
    cold = Override(Selector(id="freezer-*"), Terms((LevelRule("warning", Above(-10)),)))
    rule = Rule("r", Selector(tags={"site": "harbour"}, gateway="g"), terms, overrides=(cold,))
    for sensor, site, gateway in (
        ("freezer-1", "harbour", "g"),
        ("shelf", "harbour", "g"),
        ("freezer-2", "hill", "g"),
        ("freezer-3", "harbour", None),
    ):
        await store.add(sensor, minutes(start, 0), tags={"site": site}, gateway=gateway)
    result = await backtested(database, rule)
    assert [each.sensor for each in result.episodes] == ["freezer-1"]
    assert result.series == 2


async def test_backtest_finds_the_same_episodes_when_it_reads_in_small_pages(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        # The readings cover three chunks of the hypertable.
        values = [9.0 if n % 7 in (1, 2, 3, 4) else 5.0 for n in range(60)]
        await store.add(f"s{number}", [(NOW - 3 * DAY_US + n * HOUR_US, value) for n, value in enumerate(values)])
    whole = await backtested(database, WARM, since_us=4 * DAY_US)
    monkeypatch.setattr(backtest, "READINGS_AT_ONCE", 7)
    monkeypatch.setattr(backtest, "SERIES_AT_ONCE", 2)
    assert await backtested(database, WARM, since_us=4 * DAY_US) == whole
    assert (whole.series, whole.readings, len(whole.episodes)) == (5, 300, 45)


async def test_window_covers_readings_from_before_the_start_without_counting_them(
    database: Database, store: Store
) -> None:
    await store.add("a", [(NOW - DAY_US - M, 1.0), (NOW - DAY_US, 5.0), (NOW, 5.0)])
    result = await backtested(database, FAST)
    assert [each.episode.fired_at for each in result.episodes] == [NOW - DAY_US]
    assert result.readings == 2


async def test_episodes_are_marked_when_readings_from_before_the_start_matter(database: Database, store: Store) -> None:
    start = NOW - DAY_US
    await store.add("begins", minutes(start, 9, 9, 9, 5))
    await store.add("goes on", [(start - HOUR_US, 9.0), *minutes(start, 9, 9, 9, 5, 9, 9, 9)])
    result = await backtested(database, WARM)
    assert [(each.sensor, each.touches) for each in result.episodes] == [
        ("begins", ()),
        ("goes on", ("start",)),
        ("goes on", ()),
    ]


async def test_episodes_are_marked_when_an_era_of_the_same_rule_began_there(database: Database, store: Store) -> None:
    start = NOW - HOUR_US
    same = compile_terms(WARM.terms).digest()
    for sensor, digest in (("same", same), ("other", "0" * 64)):
        series_id = await store.add(sensor, minutes(start, 5, 9, 9, 9, 5))
        await database.pool.execute(
            "INSERT INTO alert_state (rule, series_id, era, era_from, rule_hash) VALUES ('warm', $1, 2, $2, $3)",
            series_id,
            from_us(start + 2 * M),
            digest,
        )
    result = await backtested(database, WARM)
    assert {each.sensor: each.touches for each in result.episodes} == {"same": ("era",), "other": ()}


async def test_episodes_are_marked_when_retention_may_have_deleted_readings_that_matter(
    database: Database, store: Store
) -> None:
    edge = NOW - RAW_RETENTION // timedelta(microseconds=1)
    await store.add("a", [*minutes(edge + M, 9, 9, 9, 5), *minutes(edge + HOUR_US, 9, 9, 9, 5)])
    result = await backtested(database, WARM, since_us=500 * DAY_US)
    assert [each.touches for each in result.episodes] == [("retention",), ()]


async def test_backtest_leaves_out_readings_whose_time_has_not_come(database: Database, store: Store) -> None:
    await store.add("a", [(NOW + 5 * SECOND_US, 13.0)])
    await store.add("b", [(NOW + 9 * M, 13.0)])
    assert [each.sensor for each in (await backtested(database, WARM)).episodes] == ["a"]


async def test_progress_counts_series(database: Database, store: Store) -> None:
    await store.add("old", [(NOW - 2 * DAY_US, 1.0)])
    for sensor in ("a", "b"):
        await store.add(sensor, [(NOW - SECOND_US, 1.0)])
    reported: list[tuple[int, int]] = []
    await backtested(database, WARM, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(0, 2), (1, 2), (2, 2)]


async def test_backtest_of_an_empty_database_finds_nothing(database: Database) -> None:
    result = await backtested(database, *parse_rules({"x.yml": "version: 1\n"}, {}).rules)
    assert (result.series, result.readings, result.episodes) == (0, 0, ())


async def test_backtest_is_refused_when_the_database_is_not_migrated(empty_dsn: str) -> None:
    connection = await connect(empty_dsn)
    with pytest.raises(NotMigratedError, match='"series_state" does not exist; run tidegauge migrate'):
        await run_backtest(connection, RuleBook(RuleSet()), 0, NOW)
    await connection.close()
    with pytest.raises(DatabaseUnavailableError, match="connection is closed"):
        await run_backtest(connection, RuleBook(RuleSet()), 0, NOW)


async def test_every_query_can_be_prepared(database: Database) -> None:
    async with database.pool.acquire() as connection:
        for statement in SQL.values():
            await connection.prepare(statement)


async def test_readings_come_in_order_of_time_from_chunks_of_the_span_only(database: Database, store: Store) -> None:
    series_id = await store.add("a", [(NOW - day * DAY_US, 1.0) for day in range(20)])
    span = from_us(NOW - 2 * DAY_US), from_us(NOW)
    async with database.pool.acquire() as connection:
        # With so few rows the planner might choose a sort or a sequential scan.
        await connection.execute("SET enable_sort = off; SET enable_seqscan = off")
        lines = await connection.fetch(f"EXPLAIN {SQL['list_readings_between']}", series_id, *span)
    plan = "\n".join(line[0] for line in lines)
    assert plan.count(" on _hyper_") == 3
    assert "Sort" not in plan


async def test_backtest_holds_values_to_its_end_and_looks_at_a_second_metric(database: Database, store: Store) -> None:
    levels = (LevelRule("warning", Above(8), 10 * M),)
    held = Rule("held", Selector(metric="temperature"), Terms(levels, max_gap_us=HOUR_US, holds=True))
    door = When("door", Equals(0.0), HOUR_US, ("room",))
    shut = Rule("shut", Selector(metric="temperature"), Terms(levels, max_gap_us=HOUR_US, holds=True, when=(door,)))
    await store.add("cellar", minutes(NOW - 30 * M, 5, 9), tags={"room": "a"})
    await store.add("too late", minutes(NOW - 10 * M, 5, 9))
    await store.add("gate", [(NOW - 40 * M, 1.0), (NOW - 15 * M, 0.0)], metric="door", tags={"room": "a"})
    result = await backtested(database, held, shut)
    found = [
        (each.rule, each.sensor, each.episode.started_at - NOW, each.episode.fired_at - NOW, each.peak)
        for each in result.episodes
    ]
    assert found == [("held", "cellar", -29 * M, -19 * M, 9.0), ("shut", "cellar", -15 * M, -5 * M, 9.0)]
