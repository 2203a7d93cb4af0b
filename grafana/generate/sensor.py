"""Dashboard Sensor: one sensor, a section for each of its metrics. Alert messages link here."""

from grafana.generate import panels as p
from grafana.generate import sql
from grafana.generate.dashboard import Json, dashboard, link
from grafana.generate.operations import PAGE, TO_ALERT
from grafana.generate.variables import one_of, some_of

IS_SENSOR = f"sensor = {sql.value_of('sensor')}"
IS_METRIC = sql.picked("metric", "metric")
#: In the repeated section the variable has one value; with All in a panel alone it would have several.
CHOSEN = f"SELECT series_id FROM series_view WHERE {IS_SENSOR} AND {IS_METRIC} LIMIT 50"

SENSOR = one_of(
    "sensor",
    "Sensor",
    "The sensor to show.",
    "SELECT DISTINCT sensor FROM series_view ORDER BY sensor LIMIT 10000",
)
METRIC = some_of(
    "metric",
    "Metric",
    "Metrics of this sensor; each has a section of its own.",
    f"SELECT metric FROM series_view WHERE {IS_SENSOR} ORDER BY metric LIMIT 1000",
    "metric",
)


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "tidegauge-sensor",
        "Tidegauge sensor",
        "One sensor: latest values, trends with their range, limits and alerts. Short ranges show readings, longer ones"
        " minutes, hours or days.",
        since="now-24h",
        variables=[SENSOR, METRIC, PAGE],
        alerts=sql.annotations(f"{IS_SENSOR} AND {IS_METRIC}"),
        links=[
            link("Open on the page", "${page:raw}/#/sensor/${sensor:percentencode}", "This sensor on Tidegauge's page")
        ],
        panels=[
            *_head(),
            _alerts(),
            p.row("${metric}", repeat="metric"),
            _summary(),
            _trend(),
        ],
    )


def _head() -> list[Json]:
    state = f"SELECT state FROM sensor_view WHERE {IS_SENSOR} LIMIT 1"
    received = sql.query(
        """
        SELECT extract(epoch FROM now() - max(received_at))::float8 AS "Received"
          FROM series_view
         WHERE <<sensor>>
        HAVING max(received_at) IS NOT NULL
         LIMIT 1
        """,
        sensor=IS_SENSOR,
    )
    firing = f"SELECT count(*) AS \"Open alerts\" FROM alert_view WHERE state = 'firing' AND {IS_SENSOR} LIMIT 1"
    known = sql.query(
        """
        SELECT coalesce(display_name, sensor) AS "Name", gateway AS "Gateway",
               (SELECT string_agg(key || '=' || value, ', ' ORDER BY key) FROM jsonb_each_text(tags)) AS "Tags",
               extract(epoch FROM expected_interval)::float8 AS "Expected every", notes AS "Notes"
          FROM sensor_view
         WHERE <<sensor>>
         LIMIT 1
        """,
        sensor=IS_SENSOR,
    )
    return [
        p.stat(
            "State",
            "The first that holds of retired, alert, silent, late and ok.",
            (4, 4),
            [p.table_of(state)],
            unit=p.BARE,
            colors=p.STATE_COLORS,
        ),
        p.stat("Received", "Time since anything new arrived.", (4, 4), [p.table_of(received)], unit=p.AGE),
        p.stat(
            "Open alerts",
            "Alerts of this sensor that fire now.",
            (4, 4),
            [p.table_of(firing)],
            unit=p.COUNT,
            steps={1: "red"},
        ),
        p.table(
            "About this sensor",
            "What is known of the sensor: its name, tags and the interval at which it is expected to report.",
            (12, 4),
            p.table_of(known),
            overrides=[p.field("Expected every", unit=p.AGE)],
        ),
    ]


def _alerts() -> Json:
    listed = sql.query(
        """
        SELECT level AS "Level", rule AS "Rule", metric AS "Metric", state AS "State", started_at AS "Started",
               <<ended>> AS "Ended",
               extract(epoch FROM coalesce(<<ended>>, now()) - started_at)::float8 AS "Duration",
               threshold #>> '{}' AS "Limit", unit AS "Unit", acked_by AS "Acknowledged by", id AS "ID"
          FROM alert_view
         WHERE <<alerts>>
         ORDER BY started_at DESC
         LIMIT 200
        """,
        ended=sql.ENDED,
        alerts=sql.alerts_in_range(f"{IS_SENSOR} AND {IS_METRIC}"),
    )
    return p.table(
        "Alerts",
        "Alerts of this sensor in this range, newest first. An ID leads to Tidegauge's page.",
        (24, 6),
        p.table_of(listed),
        overrides=[
            p.colored("Level", p.LEVEL_COLORS),
            p.linked("ID", "Alert on the page", TO_ALERT),
            p.field("Duration", unit=p.AGE),
        ],
    )


def _summary() -> Json:
    numbers = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), sample AS (
          <<samples>>
        )
        SELECT (SELECT max(last_value) FROM series_view WHERE series_id IN (SELECT series_id FROM chosen)) AS "Last",
               min(min) AS "Min", sum(sum) / nullif(sum(n), 0) AS "Mean", max(max) AS "Max"
          FROM sample
         LIMIT 1
        """,
        chosen=CHOSEN,
        samples=sql.samples("n", "sum", "min", "max"),
    )
    panel = p.stat(
        "${metric}: last, min, mean, max",
        "The newest value whatever the range, and the smallest, mean and greatest value of the range.",
        (5, 10),
        [p.table_of(numbers)],
        unit=None,
        every_column=True,
    )
    return p.with_unit(p.over_range(panel, 500) | {"interval": "1s"}, _unit())


def _trend() -> Json:
    panel = p.chart(
        "${metric}",
        "Mean, with the band from the smallest to the greatest value, the limits of the rules, and the mean of the same"
        " time last week. Regions are alerts. A gap of more than three points, or longer than the series may be silent,"
        " breaks the line.",
        (19, 10),
        [p.series_of(_TREND), p.series_of(_LAST_WEEK, "week"), p.series_of(_LIMITS, "limits")],
        unit=None,
        overrides=[
            p.field("Min", custom__lineWidth=0, custom__showPoints="never", color=_fixed("blue"), **_UNLISTED),
            p.field(
                "Max",
                custom__lineWidth=0,
                custom__showPoints="never",
                custom__fillBelowTo="Min",
                custom__fillOpacity=20,
                color=_fixed("blue"),
                **_UNLISTED,
            ),
            p.field("Mean", custom__lineWidth=2, color=_fixed("blue")),
            p.lines_of("week", custom__lineStyle={"fill": "dash", "dash": [4, 6]}, color=_fixed("gray")),
            p.lines_of(
                "limits",
                custom__lineStyle={"fill": "dash", "dash": [10, 6]},
                custom__showPoints="never",
                color=_fixed("red"),
            ),
        ],
    )
    return p.with_unit(panel, _unit())


def _unit() -> str:
    return sql.unit(f"{IS_SENSOR} AND {IS_METRIC}")


def _fixed(color: str) -> Json:
    return {"mode": "fixed", "fixedColor": color}


_UNLISTED = {"custom__hideFrom": {"legend": True, "tooltip": False, "viz": False}}
_TREND = sql.query(
    """
    WITH chosen AS (
      <<chosen>>
    ), sample AS (
      <<samples>>
    ), point AS (
      SELECT $__timeGroup(bucket, $__interval) AS time, min(min) AS min, max(max) AS max, sum(sum) / sum(n) AS mean
        FROM sample
       GROUP BY 1
    ), spaced AS (
      SELECT time, min, max, mean, lead(time) OVER (ORDER BY time) - time AS gap
        FROM point
    )
    SELECT time, min AS "Min", max AS "Max", mean AS "Mean"
      FROM spaced
    UNION ALL
    SELECT time + gap / 2, NULL, NULL, NULL
      FROM spaced
     WHERE gap > greatest(
       (SELECT max(silent_after) FROM series_view WHERE series_id IN (SELECT series_id FROM chosen)),
       3 * greatest($__interval_ms, <<width>>) * INTERVAL '1 millisecond'
     )
     ORDER BY 1
     LIMIT 5000
    """,
    chosen=CHOSEN,
    samples=sql.samples("n", "sum", "min", "max"),
    width="CASE WHEN $__interval_ms < 10000 THEN 0 WHEN $__interval_ms < 900000 THEN 60000"
    " WHEN $__interval_ms < 43200000 THEN 3600000 ELSE 86400000 END",
)
_LAST_WEEK = sql.query(
    """
    WITH chosen AS (
      <<chosen>>
    ), sample AS (
      <<samples>>
    )
    SELECT $__timeGroupAlias(bucket, $__interval), sum(sum) / sum(n) AS "Same time last week"
      FROM sample
     GROUP BY 1
     ORDER BY 1
     LIMIT 5000
    """,
    chosen=CHOSEN,
    samples=sql.samples("n", "sum", weeks_ago=True),
)
_LIMITS = sql.query(
    """
    SELECT edge.time AS "time", rule || ' ' || level || ' ' || side AS metric, max(number) AS value
      FROM limit_view
     CROSS JOIN (VALUES ($__timeFrom()::timestamptz), ($__timeTo()::timestamptz)) AS edge (time)
     WHERE <<sensor>> AND <<metric>>
     GROUP BY 1, 2
     ORDER BY 1, 2
     LIMIT 100
    """,
    sensor=IS_SENSOR,
    metric=IS_METRIC,
)
