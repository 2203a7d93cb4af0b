"""The newest value and the extremes of alerts that last for hours: those of all readings within, to the exact time."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.alerting.listing.sql import SQL
from tests.conftest import Database
from tests.trends.storage import store_series

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INSERT = """
INSERT INTO alert_episode (rule, series_id, started_at, fired_at, resolved_at, steps, level)
VALUES ('warm', $1, $2, $2, $3, '[]', 'warning') RETURNING id
"""
RAW = """
SELECT min(value) AS lowest, max(value) AS highest, (array_agg(value ORDER BY time DESC))[1] AS value
  FROM reading WHERE series_id = $1 AND time >= $2 AND time <= $3
"""


@pytest.mark.parametrize("seed", range(3))
async def test_extremes_are_those_of_all_readings_within_when_an_alert_lasts_for_hours(
    database: Database, seed: int
) -> None:
    random = Random(seed)
    rows = [(START + number * MINUTE, random.gauss(0, 10)) for number in range(-60, 600)]
    series_id = await store_series(database.pool, "s", "t", rows)
    ends = [START + minutes * MINUTE for minutes in (0, 59, 60, 61, 119, 120, 121, 400, 540)]
    lengths = set()
    for started in (START, START + MINUTE, START - MINUTE, START + 30 * MINUTE):
        for ended in (each for each in ends if each > started):
            alert = await database.pool.fetchval(INSERT, series_id, started, ended)
            (found,) = await database.pool.fetch(SQL["list_alerts"], [alert])
            expected = await database.pool.fetchrow(RAW, series_id, started, ended)
            assert expected is not None
            assert {name: found[name] for name in ("lowest", "highest", "value")} == dict(expected), (started, ended)
            lengths.add(ended - started)
    assert len(lengths) > 20


async def test_alert_has_no_values_when_its_readings_are_gone(database: Database) -> None:
    series_id = await store_series(database.pool, "s", "t", [(START - MINUTE, 1.0)])
    alert = await database.pool.fetchval(INSERT, series_id, START, START + 300 * MINUTE)
    (found,) = await database.pool.fetch(SQL["list_alerts"], [alert])
    assert (found["lowest"], found["highest"], found["value"]) == (None, None, None)
