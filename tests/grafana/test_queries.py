"""Every query of every dashboard, run as the role that Grafana uses, on readings whose answers are known."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db.pool import Connection
from tests.conftest import Database
from tests.grafana import seed
from tests.grafana.dashboards import FOLDER, PATHS, Query, load, queries, variables
from tests.grafana.macros import VERSIONS, Choice, Grafana, View, expand
from tests.grafana.seed import BACKSLASH, DAY, DOLLAR, GATE, HOUR, MINUTE, NOON, PLAIN, QUOTED, WATER

SPANS = (HOUR, DAY, 30 * DAY, 365 * DAY)
TEMPERATURE = Choice(("temperature",))
ALL = Choice()
every_dashboard = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[Connection]:
    """Store the small world, then connect as the role that Grafana uses."""
    await seed.store(database.pool)
    connection = await asyncpg.connect(database.reader_dsn)
    yield connection
    await connection.close()


@every_dashboard
async def test_every_query_gives_rows_that_grafana_takes_when_ranges_choices_and_versions_vary(
    path: Path, reader: Connection
) -> None:
    dashboard = load(path)
    run: set[str] = set()
    for query, span, choices, grafana in product(queries(dashboard), SPANS, _choices(dashboard), VERSIONS):
        sql = expand(query.sql, _view(query, span), _inside(query, choices), grafana)
        if sql not in run:
            run.add(sql)
            _check_frame(query, await reader.fetch(sql))


@every_dashboard
async def test_every_panel_shows_something_when_all_is_chosen(path: Path, reader: Connection) -> None:
    dashboard = load(path)
    choices = _defaults(dashboard) | {"sensor": Choice((PLAIN,), multi=False), "metric": TEMPERATURE}
    for query in queries(dashboard):
        assert await reader.fetch(expand(query.sql, _view(query, 8 * DAY), _inside(query, choices))), query


@every_dashboard
async def test_variables_offer_values_when_the_dashboard_opens(path: Path, reader: Connection) -> None:
    dashboard = load(path)
    for name, variable in variables(dashboard).items():
        if variable["type"] == "query":
            choices = _defaults(dashboard) | {"sensor": Choice((QUOTED,), multi=False)}
            rows = await reader.fetch(expand(variable["query"], View(NOON, NOON), choices))
            assert rows, name
            assert all(isinstance(row[0], str) for row in rows), name


@every_dashboard
async def test_rows_stay_few_when_the_fleet_is_large_and_the_range_long(path: Path, database: Database) -> None:
    await seed.store_fleet(database.pool, 150, 12 * HOUR, 365 * DAY)
    dashboard = load(path)
    choices = _defaults(dashboard) | {"sensor": Choice(("fleet-0001",), multi=False), "metric": TEMPERATURE}
    reader = await asyncpg.connect(database.reader_dsn)
    try:
        for query, span in product(queries(dashboard), SPANS):
            rows = await reader.fetch(expand(query.sql, _view(query, span), _inside(query, choices)))
            _check_frame(query, rows)
    finally:
        await reader.close()


@pytest.mark.parametrize("name", [PLAIN, QUOTED, BACKSLASH, DOLLAR])
async def test_a_sensor_is_found_by_its_name_when_the_name_is_awkward(reader: Connection, name: str) -> None:
    sensor = {"sensor": Choice((name,), multi=False)}
    assert await _rows(reader, "sensor", "State", DAY, **sensor) != []
    (metric, *_) = [row[0] for row in await _offered(reader, "sensor", "metric", sensor)]
    rows = await _rows(reader, "sensor", "${metric}", DAY, metric=Choice((metric,)), **sensor)
    assert rows[0][0].tzinfo is not None
    latest = await _rows(reader, "operations", "Latest values, worst first", DAY)
    assert name in {row[2] for row in latest}


@pytest.mark.parametrize("grafana", VERSIONS, ids=lambda grafana: grafana.name)
async def test_plain_variable_fails_in_a_repeated_section_when_grafana_does_not_quote_it(
    reader: Connection, grafana: Grafana
) -> None:
    """The reason why every query writes `${metric:sqlstring}`."""
    choices = {"metric": Choice(("temperature",), repeated=True)}
    formatted = expand(
        "SELECT 1 FROM series_view WHERE metric IN (${metric:sqlstring})", View(NOON, NOON), choices, grafana
    )
    assert await reader.fetch(formatted) != []
    plain = expand("SELECT 1 FROM series_view WHERE metric IN ($metric)", View(NOON, NOON), choices, grafana)
    if grafana.quotes_one_text:
        assert plain == formatted
    else:
        with pytest.raises(asyncpg.UndefinedColumnError):
            await reader.fetch(plain)


async def test_variables_offer_what_is_stored_when_they_hang_on_each_other(reader: Connection) -> None:
    offered = await _offered(reader, "sensor", "sensor", {})
    assert {row[0] for row in offered} == {PLAIN, QUOTED, BACKSLASH, DOLLAR}
    offered = await _offered(reader, "sensor", "metric", {"sensor": Choice((BACKSLASH,), multi=False)})
    assert [row[0] for row in offered] == [WATER]
    offered = await _offered(reader, "operations", "gateway", {})
    assert {row[0] for row in offered} == {"(none)", "gateway-1", GATE}
    offered = await _offered(reader, "sites", "tag", {})
    assert {row[0] for row in offered} == {"site", 'room "x"'}
    offered = await _offered(reader, "sites", "site", {"tag": Choice(("site",), multi=False)})
    assert {row[0] for row in offered} == {"(none)", "north", "O'Hara's"}
    offered = await _offered(reader, "sites", "site", {"tag": Choice(('room "x"',), multi=False)})
    assert {row[0] for row in offered} == {"(none)", "$1"}


async def test_operations_counts_what_is_wrong_when_gateways_are_chosen(reader: Connection) -> None:
    titles = ("Open alerts", "Critical alerts", "Sensors in alert", "Silent sensors", "Gateways offline")
    for gateway, counts in ((ALL, [1, 1, 1, 1, 0]), (Choice((GATE, "(none)")), [0, 0, 0, 0, 0])):
        found = [await _rows(reader, "operations", title, DAY, gateway=gateway) for title in titles]
        assert [rows[0][0] for rows in found] == counts
    assert await _rows(reader, "operations", "Failed deliveries", DAY) == [(3,)]
    detail = await _rows(reader, "operations", "Failed deliveries in detail", DAY)
    assert [(row[0], row[3]) for row in detail] == [
        ("dead", "chat not found"),
        ("failed", "timed out after 10 s"),
        ("waiting", "429, retry after 30 s"),
    ]


async def test_open_alerts_say_value_limit_and_unit_when_listed(reader: Connection) -> None:
    ((*facts, number),) = await _rows(reader, "operations", "Open alerts in detail", DAY)
    assert facts == [
        "critical", "warm", PLAIN, "temperature", 30.0, None, "above 8", "°C", NOON - 4 * MINUTE, "gateway-1", None,
    ]  # fmt: skip
    assert isinstance(number, int)


async def test_latest_values_come_worst_first_when_listed(reader: Connection) -> None:
    rows = await _rows(reader, "operations", "Latest values, worst first", DAY)
    assert [row[:6] for row in rows] == [
        ("alert", "critical", PLAIN, "temperature", 30.0, "°C"),
        ("silent", None, QUOTED, "humidity", 55.5, "%"),
        ("silent", None, QUOTED, "temperature", 7.0, "°C"),
        ("ok", None, BACKSLASH, WATER, 1.25, "m"),
        ("ok", None, DOLLAR, "temperature", 6.0, "°C"),
    ]


async def test_timeline_gives_the_worst_level_at_each_change_when_alerts_overlap(reader: Connection) -> None:
    rows = await _rows(reader, "operations", "Alerts of each sensor", DAY)
    start = NOON - DAY
    assert [(time, value) for time, name, value in rows if name == DOLLAR] == [
        (start, 0),
        (NOON - 5 * HOUR, 2),
        (NOON - 4 * HOUR, 3),
        (NOON - 3 * HOUR, 3),
        (NOON - 2 * HOUR, 0),
    ]
    assert [(time, value) for time, name, value in rows if name == PLAIN] == [(start, 0), (NOON - 4 * MINUTE, 4)]
    assert {name for _, name, _ in rows} == {DOLLAR, PLAIN}, "what was withdrawn is not shown"


async def test_annotations_are_regions_of_the_chosen_sensor_when_alerts_touch_the_range(reader: Connection) -> None:
    sensor = {"sensor": Choice((DOLLAR,), multi=False)}
    rows = await _rows(reader, "sensor", ("Alerts", "Alerts"), 4 * HOUR, **sensor)
    assert rows == [
        (NOON - 4 * HOUR, NOON - 2 * HOUR, f"frost: {DOLLAR} temperature", "error"),
        (NOON - 5 * HOUR, NOON - 3 * HOUR, f"warm: {DOLLAR} temperature", "warning"),
    ]
    assert await _rows(reader, "sensor", ("Alerts", "Alerts"), HOUR, **sensor) == []
    rows = await _rows(reader, "sensor", ("Alerts", "Alerts"), HOUR, sensor=Choice((PLAIN,), multi=False))
    assert [row[1] for row in rows] == [NOON], "an open alert ends where the range does"


async def test_trend_shows_range_and_mean_when_zoomed(reader: Connection) -> None:
    points = {
        HOUR: [(NOON - 4 * MINUTE, 10, 10, 10), (NOON - 3 * MINUTE, 20, 20, 20),
               (NOON - 3 * MINUTE + timedelta(seconds=30), 40, 40, 40), (NOON - MINUTE, 30, 30, 30)],
        DAY: [(NOON - 18 * HOUR, -5, -5, -5), (NOON - 4 * MINUTE, 10, 40, pytest.approx(70 / 3)),
              (NOON - 2 * MINUTE, 30, 30, 30)],
        30 * DAY: [(NOON - 20 * DAY, 5, 5, 5), (NOON - 7 * DAY - HOUR, 3, 3, 3), (NOON - 18 * HOUR, -5, -5, -5),
                   (NOON - HOUR, 10, 40, 25)],
        365 * DAY: [(NOON - 200 * DAY - 12 * HOUR, 100, 100, 100), (NOON - 20 * DAY - 12 * HOUR, 5, 5, 5),
                    (NOON - 7 * DAY - 12 * HOUR, 3, 3, 3), (NOON - DAY - 12 * HOUR, -5, -5, -5),
                    (NOON - 12 * HOUR, 10, 40, 25)],
    }  # fmt: skip
    for span, expected in points.items():
        rows = await _rows(reader, "sensor", "${metric}", span, metric=TEMPERATURE)
        assert [row for row in rows if row[1] is not None] == expected, span
    rows = await _rows(reader, "sensor", "${metric}", DAY, metric=TEMPERATURE)
    assert [row[1] for row in rows] == [-5, None, 10, 30], "a gap breaks the line"


async def test_last_week_and_limits_lie_over_the_trend_when_shown(reader: Connection) -> None:
    rows = await _rows(reader, "sensor", ("${metric}", "week"), HOUR, metric=TEMPERATURE)
    assert rows == [(NOON - 4 * MINUTE, 3.0)]
    rows = await _rows(reader, "sensor", ("${metric}", "limits"), HOUR, metric=TEMPERATURE)
    assert rows == [
        (NOON - HOUR, "warm critical above", 25.0),
        (NOON - HOUR, "warm warning above", 8.0),
        (NOON, "warm critical above", 25.0),
        (NOON, "warm warning above", 8.0),
    ]


async def test_summary_covers_the_whole_range_when_zoomed(reader: Connection) -> None:
    panel = "${metric}: last, min, mean, max"
    for span, numbers in {HOUR: (10, 25, 40), DAY: (-5, 19, 40), 365 * DAY: (-5, pytest.approx(203 / 8), 100)}.items():
        assert await _rows(reader, "sensor", panel, span, metric=TEMPERATURE) == [(30, *numbers)], span
    assert await _rows(reader, "sensor", (panel, "unit"), DAY, metric=TEMPERATURE) == [("suffix:°C",)]


async def test_sites_compare_means_by_tag_when_chosen(reader: Connection) -> None:
    rows = await _rows(reader, "sites", "Sites", DAY, metric=Choice(("temperature",), multi=False))
    assert rows == [("O'Hara's", 1, 7, 7, 7), ("north", 2, -5, pytest.approx(105 / 7), 40)]
    rows = await _rows(
        reader, "sites", "Sites", DAY, metric=Choice(("temperature",), multi=False), site=Choice(("O'Hara's",))
    )
    assert [row[0] for row in rows] == ["O'Hara's"]
    metric = Choice(("temperature",), multi=False)
    assert [row[0] for row in await _rows(reader, "sites", "Highest ten", DAY, metric=metric)] == [
        PLAIN,
        QUOTED,
        DOLLAR,
    ]
    assert [row[0] for row in await _rows(reader, "sites", "Lowest ten", DAY, metric=metric)] == [DOLLAR, QUOTED, PLAIN]
    rows = await _rows(reader, "sites", "Sensors over time", DAY, metric=metric)
    assert {name for _, name, _ in rows} == {PLAIN, QUOTED, DOLLAR}


async def test_time_beyond_limits_is_judged_by_the_minute_when_an_hour_crosses_one(reader: Connection) -> None:
    rows = await _rows(reader, "sites", "Time beyond a limit", DAY, metric=Choice(("temperature",), multi=False))
    assert rows == [(DOLLAR, pytest.approx(0.5)), (PLAIN, pytest.approx(0.5))]


async def test_alert_that_somebody_closed_is_over_when_its_readings_are_still_beyond_the_limit(
    reader: Connection, database: Database
) -> None:
    await database.pool.execute(
        "UPDATE alert_episode SET closed_at = $1, closed_level = level WHERE resolved_at IS NULL", NOON - 2 * MINUTE
    )
    timeline = await _rows(reader, "operations", "Alerts of each sensor", HOUR)
    assert timeline == [(NOON - HOUR, PLAIN, 0), (NOON - 4 * MINUTE, PLAIN, 4), (NOON - 2 * MINUTE, PLAIN, 0)]
    assert await _rows(reader, "operations", "Open alerts in detail", HOUR) == []


async def test_uptime_leaves_out_outages_in_range_when_a_gateway_was_offline(reader: Connection) -> None:
    rows = await _rows(reader, "data-quality", "Uptime of each gateway", DAY)
    assert rows == [("gateway-1", pytest.approx(0.75)), (GATE, 1.0)]
    rows = await _rows(reader, "data-quality", "Outages of each gateway", 8 * HOUR)
    assert rows == [(NOON - 8 * HOUR, "gateway-1", 4), (NOON - 6 * HOUR, "gateway-1", 0)]


async def test_data_quality_shows_shares_lateness_and_missing_hours_when_opened(reader: Connection) -> None:
    assert await _rows(reader, "data-quality", "Duplicates", DAY) == [(0.05,)]
    assert await _rows(reader, "data-quality", "Refused readings", DAY) == [(0.25,)]
    assert await _rows(reader, "data-quality", "Worst lateness", DAY) == [(7200.0,)]
    assert await _rows(reader, "data-quality", "Worst clock skew", DAY) == [(400.0,)]
    assert await _rows(reader, "data-quality", "Days to refresh", DAY) == [(2,)]
    late = await _rows(reader, "data-quality", "Late days", DAY)
    assert late == [(str(NOON.date()), 2), (str((NOON - DAY).date()), 1)]
    missing = await _rows(reader, "data-quality", "Hours without readings", DAY, gateway=Choice(("gateway-1",)))
    assert [(sensor, metric, round(hours)) for sensor, metric, _, _, hours, _, _ in missing] == [
        (QUOTED, "humidity", 22),
        (QUOTED, "temperature", 22),
        (PLAIN, "temperature", 21),
    ]


async def test_cold_chain_counts_minutes_out_of_range_when_days_are_reported(reader: Connection) -> None:
    limits = {"low": Choice(("2",), multi=False), "high": Choice(("8",), multi=False)}
    rows = await _rows(reader, "cold-chain", "Each day", 30 * DAY, sensor=Choice((PLAIN, DOLLAR)), **limits)
    day = NOON - 12 * HOUR
    assert rows == [
        (day, DOLLAR, 4, 5, 6, 2, 2, 0),
        (day, PLAIN, 10, 25, 40, 4, 1, 60),
        (day - DAY, PLAIN, -5, -5, -5, 1, 1, 60),
        (day - 7 * DAY, PLAIN, 3, 3, 3, 1, 1, 0),
        (day - 20 * DAY, PLAIN, 5, 5, 5, 1, 1, 0),
    ]
    pi1 = {"sensor": Choice((PLAIN,))}
    assert await _rows(reader, "cold-chain", "Minutes out of range", 30 * DAY, **pi1, **limits) == [(120.0,)]
    assert await _rows(reader, "cold-chain", "Share of time out of range", 30 * DAY, **pi1, **limits) == [(0.5,)]
    no_limits = {"low": Choice(("",), multi=False), "high": Choice((" ",), multi=False)}
    assert await _rows(reader, "cold-chain", "Minutes out of range", 30 * DAY, **no_limits) == [(0.0,)]
    half = {"low": Choice(("",), multi=False), "high": Choice(("39,5",), multi=False)}
    assert await _rows(reader, "cold-chain", "Minutes out of range", 30 * DAY, **pi1, **half) == [(20.0,)]
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await _rows(reader, "cold-chain", "Minutes out of range", DAY, high=Choice(("eight",), multi=False))


async def test_reader_sees_views_and_no_secrets_when_it_looks_around(reader: Connection) -> None:
    for table in ("api_key", "notification", "rule_set", "alert_episode", "gateway", "idempotency"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table} LIMIT 1")


async def _rows(
    reader: Connection, dashboard: str, panel: str | tuple[str, str], span: timedelta, **choices: Choice
) -> list[tuple[Any, ...]]:
    """Run one query, by panel or by panel and ref, with All or the first sensor unless chosen otherwise."""
    loaded = load(FOLDER / f"{dashboard}.json")
    title, ref = (panel, "A") if isinstance(panel, str) else panel
    (query,) = (query for query in queries(loaded) if (query.panel, query.ref) == (title, ref))
    known = _defaults(loaded)
    known |= {name: known[name] if choice is ALL else choice for name, choice in choices.items()}
    sql = expand(query.sql, _view(query, span), _inside(query, known))
    return [tuple(row) for row in await reader.fetch(sql)]


async def _offered(
    reader: Connection, dashboard: str, variable: str, choices: Mapping[str, Choice]
) -> list[asyncpg.Record]:
    loaded = load(FOLDER / f"{dashboard}.json")
    known = {**_defaults(loaded), **choices}
    return list(await reader.fetch(expand(variables(loaded)[variable]["query"], View(NOON, NOON), known)))


def _view(query: Query, span: timedelta) -> View:
    return View(NOON - span, NOON, query.max_data_points, query.min_interval_ms)


def _defaults(dashboard: dict[str, Any]) -> dict[str, Choice]:
    """Return All where a variable has it, its stored value, or what Grafana would find first."""
    first = {"sensor": PLAIN, "metric": "temperature"}
    chosen = {}
    for name, variable in variables(dashboard).items():
        if variable.get("includeAll"):
            chosen[name] = Choice(verbatim=variable["allValue"])
        else:
            chosen[name] = Choice((variable["current"].get("value") or first[name],), multi=False)
    return chosen


def _choices(dashboard: dict[str, Any]) -> list[dict[str, Choice]]:
    """Return All, one value, several awkward ones, and one that does not exist, for each variable."""
    awkward = {
        "sensor": (PLAIN, QUOTED, BACKSLASH, DOLLAR),
        "metric": ("temperature", WATER),
        "gateway": ("(none)", "gateway-1", GATE),
        "site": ("north", "O'Hara's", "$1"),
        "tag": ("site", 'room "x"'),
        "low": ("2", "", "-1,5"),
        "high": ("8", " ", "1e9"),
    }
    defaults = _defaults(dashboard)
    found = [defaults]
    for number in range(4):
        one = {
            name: Choice((awkward[name][number % len(awkward[name])],), multi=choice.multi)
            for name, choice in defaults.items()
            if name in awkward
        }
        found.append(defaults | one)
    several = {name: Choice(awkward[name]) for name, choice in defaults.items() if choice.multi and name in awkward}
    names = awkward.keys() - {"low", "high"}
    nothing = {name: Choice(("nobody",), multi=choice.multi) for name, choice in defaults.items() if name in names}
    return [*found, defaults | several, defaults | nothing]


def _inside(query: Query, choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the choices as they are inside a repeated section: one value, as a text."""
    name = query.repeated_for
    if name is None:
        return dict(choices)
    values = choices[name].values or ("temperature",)
    return {**choices, name: Choice(values[:1], repeated=True)}


def _check_frame(query: Query, rows: Sequence[asyncpg.Record]) -> None:
    """Check what Grafana's PostgreSQL data source demands of an answer, and the bound on its rows."""
    bound = re.search(r"LIMIT (\d+)$", query.sql)
    assert bound
    assert len(rows) <= int(bound[1]), query
    if query.format == "time_series" and "newest" not in query.sql:
        assert len(rows) < int(bound[1]), f"{query}: the bound cuts the end of the range"
    for row in rows:
        assert all(isinstance(value, str | int | float | Decimal | datetime | None) for value in row), query
    if query.format == "time_series" and rows:
        assert next(iter(rows[0].keys())) == "time", query
        times = [row["time"] for row in rows]
        assert None not in times, query
        assert times == sorted(times), query
        keys = [(row["time"], row.get("metric")) for row in rows]
        assert len(set(keys)) == len(keys), query
