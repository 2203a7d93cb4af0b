"""Backtests: the episodes that rules make of stored readings; nothing is sent, nothing is written.

Each series is read once for all its rules, in order of time and a few thousand readings at a time, so that memory
does not grow with the span of time. Windows also cover readings from before the start; the machines start clear.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import asyncpg
import msgspec

from app.alerting.episodes.machine import Episode
from app.alerting.episodes.samples import StoredReading
from app.alerting.episodes.timed import Companion, Timing
from app.alerting.evaluation.progress import hash_with
from app.alerting.rules.companions import CompanionIndex, CompanionSeries
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.trials.backtest_run import Edge, Edges, RuleRun
from app.alerting.trials.sql import SQL
from app.clock import PENDING_AFTER_US, from_us
from app.db.aggregates import RAW_RETENTION
from app.db.pool import DATABASE_ERRORS, Connection
from app.errors import AppError, DatabaseUnavailableError
from app.model import MetricName, ReportProgress, SensorName, SeriesId, Tags

SERIES_AT_ONCE = 500
READINGS_AT_ONCE = 5_000


class NotMigratedError(AppError):
    """The database lacks a table that a backtest reads."""

    code = "not_migrated"
    title = "The database is not up to date"


class BacktestEpisode(msgspec.Struct, frozen=True):
    """One episode that a rule makes of a series."""

    rule: str
    sensor: SensorName
    metric: MetricName
    #: The rule's unit, else the series' own.
    unit: str | None
    episode: Episode
    #: Value of the sample that is farthest past the lowest level's limit.
    peak: float
    #: Time of the newest reading, up to which the duration of an open episode is counted.
    seen_to_us: int
    touches: tuple[Edge, ...]


class Backtest(msgspec.Struct, frozen=True):
    """The result of a backtest."""

    from_us: int
    to_us: int
    #: Number of series that have readings and match a rule.
    series: int
    readings: int
    #: In the order in which they fired.
    episodes: tuple[BacktestEpisode, ...]


async def run_backtest(
    connection: Connection,
    book: RuleBook,
    from_us: int,
    now_us: int,
    progress: ReportProgress = lambda done, total: None,
) -> Backtest:
    """Run rules over the readings since `from_us`; raise NotMigratedError or DatabaseUnavailableError."""
    try:
        return await _Backtesting(connection, book, from_us, now_us).run(progress)
    except asyncpg.UndefinedTableError as error:
        raise NotMigratedError(f"{error}; run tidegauge migrate") from error
    except DATABASE_ERRORS as error:
        raise DatabaseUnavailableError(str(error)) from error


class _TestedSeries(msgspec.Struct, frozen=True):
    """The properties of a series that rules match."""

    id: SeriesId
    sensor: SensorName
    metric: MetricName
    unit: str | None
    tags: Tags
    gateway: str | None


#: Series, rule and hash of the rule → start of the era in microseconds.
_Eras = Mapping[tuple[SeriesId, str, str], int]


class _Backtesting:
    """One run of a backtest."""

    def __init__(self, connection: Connection, book: RuleBook, from_us: int, now_us: int) -> None:
        self._connection = connection
        self._book = book
        self._from_us = from_us
        self._now_us = now_us
        self._retention_us = now_us - RAW_RETENTION // timedelta(microseconds=1)
        self._companions = CompanionIndex(())
        self._series = 0
        self._readings = 0
        self._episodes: list[BacktestEpisode] = []

    async def run(self, progress: ReportProgress) -> Backtest:
        total = await self._connection.fetchval(SQL["count_series_since"], self._from_us)
        if self._book.second_metrics:
            rows = await self._connection.fetch(SQL["list_second_series"], list(self._book.second_metrics))
            self._companions = CompanionIndex([CompanionSeries(**row) for row in rows])
        done, last_id = 0, 0
        progress(done, total)
        while page := await self._list_series(last_id):
            eras = await self._list_eras(page)
            for series in page:
                await self._test(series, eras)
                done += 1
                progress(done, total)
            last_id = page[-1].id
        found = sorted(self._episodes, key=lambda each: (each.episode.fired_at, each.rule, each.sensor, each.metric))
        return Backtest(self._from_us, self._now_us, self._series, self._readings, tuple(found))

    async def _list_series(self, after: int) -> list[_TestedSeries]:
        rows = await self._connection.fetch(SQL["list_series_since"], self._from_us, after, SERIES_AT_ONCE)
        return [_TestedSeries(**row) for row in rows]

    async def _list_eras(self, page: Sequence[_TestedSeries]) -> _Eras:
        rows = await self._connection.fetch(SQL["list_eras"], [series.id for series in page])
        return {(row["series_id"], row["rule"], row["rule_hash"]): row["era_from_us"] for row in rows}

    async def _test(self, series: _TestedSeries, eras: _Eras) -> None:
        matches = self._book.matches(series.sensor, series.metric, series.tags, series.gateway)
        if not matches:
            return
        self._series += 1
        companions = [self._companions_of(series, match) for match in matches]
        runs = [await self._begin(match, found) for match, found in zip(matches, companions, strict=True)]
        window_us = max(match.series_rule.value.window_us for match in matches)
        newest = 0
        async for readings in self._pages(series.id, self._from_us - window_us):
            newest = readings[-1][0]
            self._readings += sum(t >= self._from_us for t, _ in readings)
            for run in runs:
                for t, value in readings:
                    run.push(t, value)
        for run in runs:
            run.finish()
        if any(run.has_episodes for run in runs):
            hashes = [hash_with(match.rule_hash, found) for match, found in zip(matches, companions, strict=True)]
            await self._collect(series, matches, hashes, runs, newest, eras)

    def _companions_of(self, series: _TestedSeries, match: Match) -> tuple[Companion, ...]:
        return self._companions.companions(series.sensor, series.tags, match.series_rule, [])

    async def _begin(self, match: Match, companions: tuple[Companion, ...]) -> RuleRun:
        """Begin the run of a rule. The companions of a timed one are read as a whole."""
        rule = match.series_rule
        if not match.is_timed:
            return RuleRun(rule, self._from_us)
        readings = [
            [reading async for page in self._pages(each.series_id, self._from_us - each.max_age_us) for reading in page]
            for each in companions
        ]
        return RuleRun(rule, self._from_us, Timing(self._now_us, companions), readings)

    async def _collect(
        self,
        series: _TestedSeries,
        matches: Sequence[Match],
        hashes: Sequence[str],
        runs: Sequence[RuleRun],
        newest: int,
        eras: _Eras,
    ) -> None:
        has_past = await self._has_past(series.id)
        for match, rule_hash, run in zip(matches, hashes, runs, strict=True):
            rule = match.rule.name
            # An era under another hash is of no use: that rule was different, and so were its episodes.
            era_us = eras.get((series.id, rule, rule_hash))
            self._episodes.extend(
                BacktestEpisode(
                    rule=rule,
                    sensor=series.sensor,
                    metric=series.metric,
                    unit=match.terms.unit or series.unit,
                    episode=found.episode,
                    peak=found.peak,
                    seen_to_us=newest,
                    touches=found.touches,
                )
                for found in run.found(Edges(self._retention_us, has_past, era_us))
            )

    async def _pages(self, series_id: SeriesId, from_us_: int) -> AsyncIterator[list[StoredReading]]:
        """Yield a series' readings, page by page, through a cursor, which reads one chunk after another."""
        until = from_us(self._now_us + PENDING_AFTER_US + 1)
        async with self._connection.transaction(readonly=True):
            cursor = await self._connection.cursor(SQL["list_readings_between"], series_id, from_us(from_us_), until)
            while rows := await cursor.fetch(READINGS_AT_ONCE):
                yield [(row["us"], row["value"]) for row in rows]

    async def _has_past(self, series_id: SeriesId) -> bool:
        oldest, start = from_us(self._retention_us), from_us(self._from_us)
        return bool(await self._connection.fetchval(SQL["has_readings_between"], series_id, oldest, start))
