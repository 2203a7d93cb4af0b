"""The tests' expansion of macros, compared with results of Grafana."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.grafana.macros import (
    GRAFANA_11_6,
    GRAFANA_12_0,
    GRAFANA_12_4,
    GRAFANA_12_4_2,
    GRAFANA_13,
    Choice,
    Grafana,
    View,
    expand,
    interval_text,
)

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = View(START, START + timedelta(days=1))


@pytest.mark.parametrize(
    ("span", "points", "interval"),
    [
        (timedelta(minutes=5), 500, "1s"),
        (timedelta(hours=1), 500, "5s"),
        (timedelta(hours=24), 500, "2m"),
        (timedelta(hours=24), 1_000, "1m"),
        (timedelta(days=90), 500, "3h"),
        (timedelta(days=730), 500, "1d"),
        (timedelta(days=36_500), 50, "1y"),
    ],
)
def test_interval_is_rounded_as_in_grafana_when_range_and_width_vary(
    span: timedelta, points: int, interval: str
) -> None:
    view = View(START, START + span, points)
    assert interval_text(view.interval_ms) == interval


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFilter(bucket)", "bucket BETWEEN '2026-03-02T12:00:00Z' AND '2026-03-03T12:00:00Z'"),
        ("time >= $__timeFrom()", "time >= '2026-03-02T12:00:00Z'"),
        ("time < $__timeTo()", "time < '2026-03-03T12:00:00Z'"),
        ("$__timeGroup(time, '5m') AS t", "time_bucket('300.000s',time) AS t"),
        ("$__timeGroup(time, '5m'), 1", "time_bucket('300.000s',time) AS \"time\", 1"),
        ("$__timeGroupAlias(s.bucket, $__interval), 1", "time_bucket('120.000s',s.bucket) AS \"time\", 1"),
        ("$__interval_ms < 10000", "120000 < 10000"),
        ("$__unixEpochFrom()", "1772452800"),
        ("name IN ($sensor)", "name IN ('O''Hara','pi 2')"),
        ("name IN ([[sensor]])", "name IN ('O''Hara','pi 2')"),
        ("name IN (${sensor:sqlstring})", "name IN ('O''Hara','pi 2')"),
        ("name = ${yard:sqlstring}", "name = 'back\\slash \\\"yard\\\" $5'"),
        ("name IN (${every:sqlstring})", "name IN (name)"),
        ("LIMIT $lines", "LIMIT 50"),
        ("${sensor:csv}", "O'Hara,pi 2"),
        ("/?q=${yard:percentencode}", "/?q=back%5Cslash%20%22yard%22%20%245"),
    ],
)
def test_query_is_expanded_when_it_has_variables_and_macros(sql: str, expanded: str) -> None:
    choices = {
        "sensor": Choice(("O'Hara", "pi 2")),
        "yard": Choice(('back\\slash "yard" $5',), multi=False),
        "every": Choice(verbatim="name"),
        "lines": Choice(("50",), multi=False),
    }
    assert expand(sql, DAY, choices) == expanded


@pytest.mark.parametrize(
    ("grafana", "expanded"),
    [(GRAFANA_11_6, "(warm)"), (GRAFANA_12_0, "('warm')"), (GRAFANA_12_4, "(warm)"), (GRAFANA_13, "(warm)")],
    ids=lambda value: value.name if isinstance(value, Grafana) else "",
)
def test_plain_variable_is_quoted_or_not_by_version_when_its_row_is_repeated(grafana: Grafana, expanded: str) -> None:
    choices = {"metric": Choice(("warm",), repeated=True)}
    assert expand("($metric)", DAY, choices, grafana) == expanded
    assert expand("(${metric})", DAY, choices, grafana) == expanded
    assert expand("(${metric:sqlstring})", DAY, choices, grafana) == "('warm')"


@pytest.mark.parametrize(
    ("grafana", "expanded"),
    [
        (GRAFANA_11_6, "'a--b' -- note\n,'c'"),
        (GRAFANA_12_4_2, "'a\n,'c'"),
        (GRAFANA_12_4, "'a--b' \n,'c'"),
        (GRAFANA_13, "'a--b' \n,'c'"),
    ],
    ids=lambda value: value.name if isinstance(value, Grafana) else "",
)
def test_comments_are_cut_by_version_when_a_query_or_a_value_has_dashes(grafana: Grafana, expanded: str) -> None:
    assert expand("${name:sqlstring} -- note\n,'c'", DAY, {"name": Choice(("a--b",))}, grafana) == expanded


@pytest.mark.parametrize("sql", ["$nobody", "${sensor:lucene}", "$__timeShift(time)", "$__timeGroup(time, soon)"])
def test_query_is_refused_when_grafana_would_not_expand_it(sql: str) -> None:
    with pytest.raises(ValueError):
        expand(sql, DAY, {"sensor": Choice(("pi1",))})


def test_value_that_looks_like_a_macro_is_refused_when_chosen() -> None:
    with pytest.raises(ValueError, match="unknown macro cost"):
        expand("${sensor:sqlstring}", DAY, {"sensor": Choice(("a $cost(x)",))})
