"""Dashboard Cold chain report: what was measured each day, and for how long it was out of range."""

from grafana.generate import panels as p
from grafana.generate import sql
from grafana.generate.dashboard import Json, dashboard
from grafana.generate.operations import PAGE, TO_ALERT
from grafana.generate.variables import one_of, some_of, text

#: Longer ranges estimate how much of an hour was out of range where it crossed a limit.
EXACT = "35 days"
IS_METRIC = f"metric = {sql.value_of('metric')}"
IS_PICKED = f"{IS_METRIC} AND {sql.picked('sensor', 'sensor')}"
METRIC = one_of(
    "metric",
    "Metric",
    "The metric to report.",
    "SELECT metric FROM series_view GROUP BY metric ORDER BY metric = 'temperature' DESC, metric LIMIT 1000",
)
SENSOR = some_of(
    "sensor",
    "Sensor",
    "The sensors to report.",
    f"SELECT sensor FROM series_view WHERE {IS_METRIC} ORDER BY sensor LIMIT 10000",
    "sensor",
)


def _limit(variable: str) -> str:
    """Return a typed limit as a number, or null for an empty one; anything else is an error that the panel shows."""
    return f"nullif(trim(replace(${{{variable}:sqlstring}}, ',', '.')), '')::float8"


CHOSEN = sql.query(
    """
    SELECT series_id, sensor, <<low>> AS low, <<high>> AS high
      FROM series_view
     WHERE <<picked>> AND received_at IS NOT NULL
     ORDER BY sensor
     LIMIT 50
    """,
    low=_limit("low"),
    high=_limit("high"),
    picked=IS_PICKED,
)


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "tidegauge-cold-chain",
        "Tidegauge cold chain report",
        "Smallest, mean and greatest value of each day and the minutes out of range, for up to 50 sensors, to be"
        " printed or downloaded as CSV. Days are in UTC.",
        since="now-30d",
        # Days are in UTC: in another zone their times would name the day before.
        timezone="utc",
        variables=[
            METRIC,
            SENSOR,
            text("low", "Lowest allowed", "Values below are out of range; empty for no such limit.", "2"),
            text("high", "Highest allowed", "Values above are out of range; empty for no such limit.", "8"),
            PAGE,
        ],
        alerts=sql.annotations(IS_PICKED),
        panels=[*_totals(), _days_chart(), _days(), _alerts()],
    )


def _totals() -> list[Json]:
    total = sql.beyond(
        CHOSEN,
        'SELECT sum(minutes_beyond) AS "Out of range" FROM beyond HAVING count(*) > 0 LIMIT 1',
        EXACT,
    )
    share = sql.beyond(
        CHOSEN,
        'SELECT sum(minutes_beyond) / nullif(sum(minutes), 0) AS "Share" FROM beyond HAVING count(*) > 0 LIMIT 1',
        EXACT,
    )
    extremes = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), sample AS (
          <<samples>>
        )
        SELECT min(min) AS "Min", sum(sum) / nullif(sum(n), 0) AS "Mean", max(max) AS "Max"
          FROM sample
        HAVING count(*) > 0
         LIMIT 1
        """,
        chosen=CHOSEN,
        samples=sql.samples("n", "sum", "min", "max", raw=False),
    )
    measured = p.stat(
        "Min, mean, max",
        "The smallest, mean and greatest value of all chosen sensors over this range.",
        (12, 4),
        [p.table_of(extremes)],
        unit=None,
        every_column=True,
    )
    return [
        p.stat(
            "Minutes out of range",
            "Minutes that the chosen sensors together spent out of range, as they are counted in the table below.",
            (6, 4),
            [p.table_of(total)],
            unit="m",
            steps={1: "orange", 60: "red"},
        ),
        p.stat(
            "Share of time out of range",
            "The same as a share of the hours with readings.",
            (6, 4),
            [p.table_of(share)],
            unit=p.SHARE,
            steps={0.001: "orange", 0.01: "red"},
        ),
        p.with_unit(p.over_range(measured, 100), _unit()),
    ]


def _days_chart() -> Json:
    days = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        )
        SELECT bucket AS "time", min(min) AS "Min", sum(sum) / sum(n) AS "Mean", max(max) AS "Max",
               (SELECT min(low) FROM chosen) AS "Lowest allowed", (SELECT max(high) FROM chosen) AS "Highest allowed"
          FROM reading_1d
         WHERE $__timeFilter(bucket) AND series_id = ANY (ARRAY(SELECT series_id FROM chosen))
         GROUP BY bucket
         ORDER BY bucket
         LIMIT 4000
        """,
        chosen=CHOSEN,
    )
    dashed = {"fill": "dash", "dash": [10, 6]}
    panel = p.chart(
        "Days",
        "The smallest, mean and greatest value of each day over all chosen sensors, with the allowed range.",
        (24, 9),
        [p.series_of(days)],
        unit=None,
        custom={"lineInterpolation": "stepAfter"},
        overrides=[
            p.fields("/ allowed$/", custom__lineStyle=dashed, color={"mode": "fixed", "fixedColor": "red"}),
            p.field("Max", custom__fillBelowTo="Min", custom__fillOpacity=15),
        ],
    )
    return p.with_unit(panel, _unit())


def _days() -> Json:
    listed = sql.beyond(
        CHOSEN,
        """
        SELECT time_bucket('1 day', bucket) AS "Day", sensor AS "Sensor", min(min) AS "Min",
               sum(sum) / sum(n) AS "Mean", max(max) AS "Max", sum(n)::bigint AS "Readings",
               count(*) AS "Hours with readings", sum(minutes_beyond) AS "Out of range"
          FROM beyond
          JOIN chosen USING (series_id)
         GROUP BY 1, series_id, sensor
         ORDER BY 1 DESC, 2
         LIMIT 20000
        """,
        EXACT,
    )
    panel = p.table(
        "Each day",
        "A row for each sensor and day with readings, newest first. A minute is out of range when any reading in it is."
        " Where an hour has gaps, its minutes with readings stand for all of it. Ranges of more than 35 days estimate"
        " the hours that cross a limit.",
        (24, 16),
        p.table_of(listed),
        overrides=[
            p.field("Day", unit="time:YYYY-MM-DD"),
            p.fields("/^(Min|Mean|Max)$/", decimals=2),
            p.fields("/^(Readings|Hours with readings)$/", unit=p.COUNT),
            p.field(
                "Out of range",
                unit="m",
                decimals=0,
                custom__cellOptions={"type": "color-text"},
                thresholds={
                    "mode": "absolute",
                    "steps": [{"color": "green", "value": None}, {"color": "red", "value": 1}],
                },
                color={"mode": "thresholds"},
            ),
        ],
    )
    return p.with_unit(panel, _unit(), "/^(Min|Mean|Max)$/")


def _alerts() -> Json:
    listed = sql.query(
        """
        SELECT started_at AS "Started", <<ended>> AS "Ended",
               extract(epoch FROM coalesce(<<ended>>, now()) - started_at)::float8 AS "Duration",
               level AS "Level", sensor AS "Sensor", rule AS "Rule", threshold #>> '{}' AS "Limit",
               acked_by AS "Acknowledged by", acked_at AS "Acknowledged", id AS "ID"
          FROM alert_view
         WHERE <<alerts>>
         ORDER BY started_at DESC
         LIMIT 500
        """,
        ended=sql.ENDED,
        alerts=sql.alerts_in_range(IS_PICKED),
    )
    return p.table(
        "Alerts",
        "Alerts of the chosen sensors in this range, newest first, with who acknowledged them.",
        (24, 8),
        p.table_of(listed),
        overrides=[
            p.colored("Level", p.LEVEL_COLORS),
            p.linked("ID", "Alert on the page", TO_ALERT),
            p.field("Duration", unit=p.AGE),
        ],
    )


def _unit() -> str:
    return sql.unit(IS_METRIC)
