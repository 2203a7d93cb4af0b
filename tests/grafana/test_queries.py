"""Every query of every dashboard, run with the role that Grafana uses, on readings with known results."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db.pool import Connection, Pool
from tests.conftest import Database
from tests.grafana.dashboards import FOLDER, PATHS, Query, load, queries, variables
from tests.grafana.macros import Choice, View, expand

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SPANS = (timedelta(minutes=5), timedelta(days=1), timedelta(days=90), timedelta(days=730))
QUOTED = "O'Hara's shed"
BACKSLASH = 'back\\slash "yard"'
ALL = Choice(verbatim="SELECT name FROM sensor")
TEMPERATURE = Choice(("temperature",))
#: Sensor, gateway, expected interval, time since its last reading arrived.
SENSORS = (
    ("pi1", "gateway-1", timedelta(minutes=1), timedelta(minutes=1)),
    (QUOTED, "gateway-1", timedelta(minutes=10), timedelta(hours=1)),
    (BACKSLASH, None, None, timedelta(minutes=10)),
)
#: Sensor, metric, unit, time, value.
READINGS = (
    ("pi1", "temperature", None, datetime(2026, 1, 1, 6, tzinfo=UTC), 100.0),
    ("pi1", "temperature", None, datetime(2026, 3, 1, 18, tzinfo=UTC), -5.0),
    ("pi1", "temperature", None, datetime(2026, 3, 2, 11, 56, tzinfo=UTC), 10.0),
    ("pi1", "temperature", None, datetime(2026, 3, 2, 11, 57, tzinfo=UTC), 20.0),
    ("pi1", "temperature", None, datetime(2026, 3, 2, 11, 57, 30, tzinfo=UTC), 40.0),
    ("pi1", "temperature", None, datetime(2026, 3, 2, 11, 59, tzinfo=UTC), 30.0),
    (QUOTED, "temperature", None, datetime(2026, 3, 2, 11, 57, 10, tzinfo=UTC), 7.0),
    (QUOTED, "humidity", None, datetime(2026, 3, 2, 11, 57, 10, tzinfo=UTC), 55.5),
    (BACKSLASH, "water's level", "m", datetime(2026, 3, 2, 11, 58, tzinfo=UTC), 1.25),
)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Connection]:
    """A connection with the role that Grafana uses, to a database with the readings."""
    await _store(database.pool)
    connection = await asyncpg.connect(database.reader_dsn)
    yield connection
    await connection.close()


async def test_every_query_returns_rows_that_grafana_accepts_when_ranges_and_choices_vary(
    reader: Connection,
) -> None:
    sensors = (ALL, Choice((QUOTED,)), Choice(("pi1", QUOTED, BACKSLASH)), Choice(("nobody",)))
    metrics = (Choice(verbatim="SELECT metric FROM series"), TEMPERATURE, Choice(("humidity", "water's level")))
    for path in PATHS:
        dashboard = load(path)
        for query, span, sensor, metric in product(queries(dashboard), SPANS, sensors, metrics):
            choices = {**_defaults(path), "sensor": sensor, "metric": metric}
            _check_frame(query, await reader.fetch(expand(query.sql, _view(query, span), choices)))


async def test_every_panel_has_rows_when_all_is_chosen(reader: Connection) -> None:
    for path in PATHS:
        for query in queries(load(path)):
            sql = expand(query.sql, _view(query, timedelta(days=90)), _defaults(path))
            assert await reader.fetch(sql), query


async def test_variables_offer_the_stored_names_when_the_dashboard_opens(reader: Connection) -> None:
    offered = {}
    for name, variable in variables(load(FOLDER / "overview.json")).items():
        if variable["type"] == "query":
            offered[name] = [row[0] for row in await reader.fetch(variable["query"])]
    assert sorted(offered["sensor"]) == [QUOTED, BACKSLASH, "pi1"]
    assert offered["metric"] == ["humidity", "temperature", "water's level"]


async def test_latest_values_are_the_newest_of_the_chosen_sensors_when_shown(reader: Connection) -> None:
    day = timedelta(days=1)
    assert await _rows(reader, "Latest temperature", day) == [(NOON - timedelta(minutes=1), "pi1", 30.0)]
    assert await _rows(reader, "Latest temperature", day, sensor=Choice((QUOTED,))) == [
        (datetime(2026, 3, 2, 11, 57, 10, tzinfo=UTC), QUOTED, 7.0)
    ]
    assert await _rows(reader, "Latest humidity", day, sensor=ALL) == [
        (datetime(2026, 3, 2, 11, 57, 10, tzinfo=UTC), QUOTED, 55.5)
    ]
    assert await _rows(reader, "Latest humidity", day, sensor=Choice(("pi1",))) == []
    assert await _rows(reader, "Newest reading", day, sensor=Choice(("nobody",))) == []


async def test_lines_are_means_weighted_by_readings_when_zoomed(reader: Connection) -> None:
    lines = {
        timedelta(minutes=5): [("11:56:00", 10.0), ("11:57:00", 20.0), ("11:57:30", 40.0), ("11:59:00", 30.0)],
        timedelta(days=1): [("18:00:00", -5.0), ("11:56:00", pytest.approx(70 / 3)), ("11:58:00", 30.0)],
        timedelta(days=90): [("06:00:00", 100.0), ("18:00:00", -5.0), ("09:00:00", 25.0)],
        timedelta(days=730): [("00:00:00", 100.0), ("00:00:00", -5.0), ("00:00:00", 25.0)],
    }
    for span, points in lines.items():
        rows = await _rows(reader, "$metric: mean over time", span, sensor=Choice(("pi1",)), metric=TEMPERATURE)
        assert [(f"{time:%H:%M:%S}", value) for time, _, value in rows] == points, span
        assert {name for _, name, _ in rows} == {"pi1"}
        rows = await _rows(reader, "All metrics over time", span, sensor=Choice(("pi1",)))
        assert [(f"{time:%H:%M:%S}", value) for time, _, value in rows] == points, span
        assert {name for _, name, _ in rows} == {"temperature · pi1"}


async def test_mean_per_sensor_covers_the_whole_range_when_zoomed(reader: Connection) -> None:
    means = {
        timedelta(minutes=5): (25.0, 10.0, 40.0, 4),
        timedelta(days=1): (19.0, -5.0, 40.0, 5),
        timedelta(days=90): (32.5, -5.0, 100.0, 6),
        timedelta(days=730): (32.5, -5.0, 100.0, 6),
    }
    for span, pi1 in means.items():
        rows = await _rows(reader, "$metric: mean per sensor", span, metric=TEMPERATURE)
        assert sorted(rows) == [(QUOTED, 7.0, 7.0, 7.0, 1), ("pi1", *pi1)], span
        assert await _rows(reader, "Readings", span, metric=TEMPERATURE) == [(pi1[3] + 1,)], span


async def test_band_and_rate_cover_all_sensors_together_when_a_day_is_shown(reader: Connection) -> None:
    evening, morning = datetime(2026, 3, 1, 18, tzinfo=UTC), datetime(2026, 3, 2, 11, 56, tzinfo=UTC)
    assert await _rows(reader, "$metric: range", timedelta(days=1), metric=TEMPERATURE) == [
        (evening, -5.0, -5.0, -5.0),
        (morning, 7.0, 40.0, 19.25),
        (morning + timedelta(minutes=2), 30.0, 30.0, 30.0),
    ]
    assert await _rows(reader, "Readings per minute", timedelta(days=1), metric=TEMPERATURE) == [
        (evening, 0.2),
        (datetime(2026, 3, 2, 11, 55, tzinfo=UTC), 1.0),
    ]


async def test_lines_are_limited_when_there_are_many_sensors(reader: Connection) -> None:
    one = Choice(("1",), multi=False)
    rows = await _rows(reader, "$metric: mean over time", timedelta(days=1), lines=one, metric=TEMPERATURE)
    assert {name for _, name, _ in rows} == {QUOTED}


async def test_stale_sensors_are_counted_and_listed_when_there_are_some(reader: Connection) -> None:
    day = timedelta(days=1)
    assert await _rows(reader, "Sensors", day) == [(3,)]
    assert await _rows(reader, "Stale sensors", day) == [(1,)]
    assert await _rows(reader, "Stale sensors", day, sensor=Choice(("pi1",))) == [(0,)]
    silent = await _rows(reader, "Stale sensors in detail", day)
    assert [(name, gateway, round(float(age) / 60), float(every)) for name, gateway, age, every in silent] == [
        (QUOTED, "gateway-1", 60, 600.0)
    ]
    gateways = await _rows(reader, "Gateways", day)
    assert [row[:3] for row in gateways] == [("none named", 1, 0), ("gateway-1", 2, 1)]


async def test_last_readings_have_value_unit_and_state_when_listed(reader: Connection) -> None:
    rows = await _rows(
        reader, "Last readings", timedelta(minutes=5), metric=Choice(verbatim="SELECT metric FROM series")
    )
    at = datetime(2026, 3, 2, 11, 57, 10, tzinfo=UTC)
    assert rows == [
        ("pi1", "temperature", 30.0, "°C", datetime(2026, 3, 2, 11, 59, tzinfo=UTC), "gateway-1", "online"),
        (BACKSLASH, "water's level", 1.25, "m", datetime(2026, 3, 2, 11, 58, tzinfo=UTC), None, "online"),
        (QUOTED, "humidity", 55.5, "%", at, "gateway-1", "stale"),
        (QUOTED, "temperature", 7.0, "°C", at, "gateway-1", "stale"),
    ]


async def test_unit_is_that_of_the_series_or_of_a_known_metric_when_shown(reader: Connection) -> None:
    for metric, unit in {"temperature": "suffix:°C", "humidity": "suffix:%", "water's level": "suffix:m"}.items():
        rows = await _rows(reader, "$metric: range", timedelta(days=1), ref="unit", metric=Choice((metric,)))
        assert rows == [(unit,)]


async def _rows(
    reader: Connection, panel: str, span: timedelta, ref: str = "A", **choices: Choice
) -> list[tuple[Any, ...]]:
    """Run one query of the overview, with the default of each variable that is not in `choices`; return the rows."""
    path = FOLDER / "overview.json"
    (query,) = (query for query in queries(load(path)) if (query.panel, query.ref) == (panel, ref))
    sql = expand(query.sql, _view(query, span), {**_defaults(path), **choices})
    return [tuple(row) for row in await reader.fetch(sql)]


def _view(query: Query, span: timedelta) -> View:
    return View(NOON - span, NOON, query.max_data_points, query.min_interval_ms)


def _defaults(path: Path) -> dict[str, Choice]:
    """Return a choice for each variable: All if the variable has it, else its stored value."""
    return {
        name: Choice(verbatim=variable["allValue"])
        if variable["includeAll"]
        else Choice((variable["current"]["value"],), variable["multi"])
        for name, variable in variables(load(path)).items()
    }


def _check_frame(query: Query, rows: Sequence[asyncpg.Record]) -> None:
    """Check that an answer has the form that Grafana's PostgreSQL data source requires."""
    for row in rows:
        assert all(isinstance(value, str | int | float | Decimal | datetime | None) for value in row), query
    if query.format == "time_series" and rows:
        assert next(iter(rows[0].keys())) == "time", query
        times = [row["time"] for row in rows]
        assert None not in times, query
        assert times == sorted(times), query
        keys = [(row["time"], row.get("metric")) for row in rows]
        assert len(set(keys)) == len(keys), query


async def _store(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.executemany(
            "INSERT INTO sensor (name, gateway, expected_interval, created_by) VALUES ($1, $2, $3, 'test')",
            [(name, gateway, expected) for name, gateway, expected, _ in SENSORS],
        )
        await connection.executemany(
            "INSERT INTO series (sensor_id, metric, unit) SELECT id, $2, $3 FROM sensor WHERE name = $1",
            list({(sensor, metric, unit) for sensor, metric, unit, _, _ in READINGS}),
        )
        await connection.executemany(
            "INSERT INTO reading (series_id, time, value) SELECT series.id, $3, $4 FROM series "
            "JOIN sensor ON sensor.id = sensor_id WHERE name = $1 AND metric = $2",
            [(sensor, metric, time, value) for sensor, metric, _, time, value in READINGS],
        )
        await connection.executemany(
            "INSERT INTO series_state (series_id, last_time, last_value, received_at) "
            "SELECT series.id, max(time), last(value, time), now() - $2::interval FROM series "
            "JOIN sensor ON sensor.id = sensor_id JOIN reading ON series_id = series.id "
            "WHERE name = $1 AND time > '2025-01-01' GROUP BY series.id",
            [(name, silence) for name, _, _, silence in SENSORS],
        )
