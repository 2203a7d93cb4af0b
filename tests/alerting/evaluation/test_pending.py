"""Readings that are ahead of now: stored at once, but they do not count before their time has come."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.alerting.evaluation.dirty import LateRows, take_dirty
from app.clock import MINUTE_US, SECOND_US, now_us
from app.model import SeriesId
from app.summaries import Summaries, Summary, pack, unpack
from tests.alerting.harness import AlertingHarness, running_harness
from tests.conftest import Database

SLOW = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 5m}}
    notify: []
"""


@pytest.fixture
async def harness(database: Database, tmp_path: Path) -> AsyncIterator[AlertingHarness]:
    async with running_harness(database, tmp_path) as harness:
        await harness.use_rules(SLOW)
        yield harness


async def pass_minutes(harness: AlertingHarness, minutes: float) -> None:
    """Let an evaluation see a later time, as if minutes had passed since now."""
    await harness.pool.execute("UPDATE evaluation_clock SET seen = now() + $1 * INTERVAL '1 minute'", float(minutes))


async def latest(harness: AlertingHarness) -> list[float]:
    return [row["last_value"] for row in await harness.pool.fetch("SELECT last_value FROM series_state")]


async def fired(harness: AlertingHarness) -> list[Any]:
    rows = await harness.pool.fetch(
        "SELECT round(extract(epoch FROM fired_at - started_at) / 60)::int AS after FROM alert_episode"
    )
    return [row["after"] for row in rows]


async def test_reading_from_the_future_is_not_the_latest_until_its_time_has_come(harness: AlertingHarness) -> None:
    await harness.upload("freezer-1", (1, 4), (-9, 30))
    await harness.alerting.tick(harness.pool, 1)
    assert await latest(harness) == [4]
    assert await harness.pool.fetchval("SELECT count(*) FROM reading") == 2
    await pass_minutes(harness, 10)
    await harness.alerting.tick(harness.pool, 1)
    assert await latest(harness) == [30]


async def test_for_is_not_reached_by_readings_from_the_future(harness: AlertingHarness) -> None:
    await harness.upload("freezer-1", (1, 9), (-9, 9))
    await harness.alerting.tick(harness.pool, 1)
    assert await fired(harness) == []
    await pass_minutes(harness, 10)
    await harness.alerting.tick(harness.pool, 1)
    assert await fired(harness) == [10]
    assert await harness.pool.fetchval("SELECT count(*) FROM dirty") == 0


async def test_reading_that_arrives_between_now_and_a_pending_one_counts_in_order_of_time(
    harness: AlertingHarness,
) -> None:
    await harness.upload("freezer-1", (1, 9), (-9, 9))
    await harness.alerting.tick(harness.pool, 1)
    await harness.upload("freezer-1", (0.5, 1))
    await harness.alerting.tick(harness.pool, 1)
    await pass_minutes(harness, 10)
    await harness.alerting.tick(harness.pool, 1)
    assert await fired(harness) == []


async def test_series_is_known_when_the_time_of_its_first_reading_has_come(harness: AlertingHarness) -> None:
    await harness.upload("freezer-1", (-2, 9))
    await harness.alerting.tick(harness.pool, 1)
    assert await latest(harness) == []
    await pass_minutes(harness, 3)
    await harness.alerting.tick(harness.pool, 1)
    assert await latest(harness) == [9]


async def test_clock_that_is_set_back_takes_nothing_back(harness: AlertingHarness) -> None:
    await pass_minutes(harness, 10)
    await harness.upload("freezer-1", (1, 9), (-9, 9))
    await harness.alerting.tick(harness.pool, 1)
    assert await fired(harness) == [10]
    # The database's clock has been behind what was seen all along.
    await harness.upload("freezer-1", (-8, 9))
    await harness.alerting.tick(harness.pool, 1)
    assert await fired(harness) == [9]


async def test_row_is_split_where_its_readings_are_ahead_of_now(database: Database) -> None:
    now = now_us()
    run = Summary(3, now - MINUTE_US, now + MINUTE_US, 1.0, 9.0, MINUTE_US)
    ahead = Summary(1, now + 5 * SECOND_US + 1, now + 5 * SECOND_US + 1, 2.0, 2.0, 0)
    at_limit = Summary(1, now + 5 * SECOND_US, now + 5 * SECOND_US, 3.0, 3.0, 0)
    packed = pack(Summaries.of([(SeriesId(1), run), (SeriesId(2), ahead), (SeriesId(3), at_limit)]))
    async with database.pool.acquire() as connection:
        await connection.execute("INSERT INTO dirty (summaries, late, at) VALUES ($1, FALSE, '-infinity')", packed)
        taken = await take_dirty(connection, LateRows(), now)
        assert sorted(taken.news) == [1, 3]
        assert [taken.news[SeriesId(1)].is_cut, taken.news[SeriesId(3)].is_cut] == [True, False]
        assert taken.news[SeriesId(1)].ranges == [(now - MINUTE_US, now + 5 * SECOND_US)]
        await taken.finish(connection, set())
        (row,) = await connection.fetch("SELECT summaries, matures, to_us(at) - $1 AS wait_us FROM dirty", now)
        assert (row["matures"], row["wait_us"]) == (True, SECOND_US)
        left = dict(unpack(row["summaries"]).items())
        assert (left[SeriesId(1)].first_us, left[SeriesId(1)].last_us) == (now + 5 * SECOND_US + 1, now + MINUTE_US)
        assert left[SeriesId(2)] == ahead
        assert (await take_dirty(connection, LateRows(), now)).rows == []
