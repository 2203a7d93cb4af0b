"""The tests' expansion of macros, compared with results of Grafana."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.grafana.macros import Choice, View, expand, interval_text

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
        ("$__timeGroup(time, '5m')", "time_bucket('300.000s',time)"),
        ("$__timeGroupAlias(s.bucket, $__interval), 1", "time_bucket('120.000s',s.bucket) AS \"time\", 1"),
        ("$__interval_ms < 10000", "120000 < 10000"),
        ("name IN ($sensor)", "name IN ('O''Hara','pi 2')"),
        ("name IN (${sensor})", "name IN ('O''Hara','pi 2')"),
        ("name IN ($every)", "name IN (SELECT name FROM sensor)"),
        ("LIMIT $lines", "LIMIT 50"),
    ],
)
def test_query_is_expanded_when_it_has_variables_and_macros(sql: str, expanded: str) -> None:
    choices = {
        "sensor": Choice(("O'Hara", "pi 2")),
        "every": Choice(verbatim="SELECT name FROM sensor"),
        "lines": Choice(("50",), multi=False),
    }
    assert expand(sql, DAY, choices) == expanded


@pytest.mark.parametrize("sql", ["$nobody", "${sensor:sqlstring}", "$__timeShift(time)", "$__timeGroup(time, soon)"])
def test_query_is_refused_when_grafana_would_not_expand_it(sql: str) -> None:
    with pytest.raises(ValueError):
        expand(sql, DAY, {"sensor": Choice(("pi1",))})
