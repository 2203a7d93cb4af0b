"""Dashboard Operations: what is wrong now, and what was."""

from grafana.generate import panels as p
from grafana.generate import sql
from grafana.generate.dashboard import Json, dashboard
from grafana.generate.variables import some_of, text

PAGE = text(
    "page", "Page", "Address of Tidegauge's own page, for links to it; the setting PUBLIC_URL.", "http://localhost:8000"
)
GATEWAY = some_of(
    "gateway",
    "Gateway",
    "Gateways to show; (none) stands for sensors whose uploads name no gateway.",
    sql.query(
        """
        SELECT <<gateway>> FROM series_view
        UNION
        SELECT gateway FROM gateway_view
         ORDER BY 1
         LIMIT 1000
        """,
        gateway=sql.GATEWAY,
    ),
    sql.GATEWAY,
)
IS_PICKED = sql.picked(sql.GATEWAY, "gateway")
TO_SENSOR = "/d/tidegauge-sensor?${__url_time_range}&var-sensor=${__data.fields.Sensor:percentencode}"
TO_ALERT = "${page:raw}/#/alert/${__data.fields.ID}"


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "tidegauge-operations",
        "Tidegauge operations",
        "Open alerts, silent sensors, gateways that are offline, and messages that were not delivered.",
        since="now-24h",
        variables=[GATEWAY, PAGE],
        alerts=sql.annotations(IS_PICKED),
        panels=[
            *_counts(),
            _open_alerts(),
            _episodes(),
            _latest(),
            _gateways(),
            _failed_deliveries(),
        ],
    )


def _counts() -> list[Json]:
    red, orange = {1.0: "red"}, {1.0: "orange"}
    return [
        _count("Open alerts", "Alerts that fire now, of any level.", "alert_view", "state = 'firing'", orange),
        _count(
            "Critical alerts",
            "Alerts that fire now at the level critical or disaster.",
            "alert_view",
            "state = 'firing' AND level_rank(level) >= level_rank('critical')",
            red,
        ),
        _count("Sensors in alert", "Sensors with an open alert.", "sensor_view", "state = 'alert'", orange),
        _count(
            "Silent sensors",
            "Sensors all of whose metrics brought nothing new for longer than their rules, or their usual interval,"
            " allow.",
            "sensor_view",
            "state = 'silent'",
            orange,
        ),
        _count(
            "Gateways offline",
            "Gateways all of whose sensors are silent.",
            "gateway_view",
            "state = 'offline'",
            red,
        ),
        p.stat(
            "Failed deliveries",
            "Messages of this range that were given up, or whose last attempt failed, over all channels.",
            (4, 4),
            [p.table_of(_FAILED_COUNT)],
            unit=p.COUNT,
            steps=red,
        ),
    ]


def _count(title: str, description: str, view: str, condition: str, steps: dict[float, str]) -> Json:
    counted = sql.query(
        """
        SELECT count(*) AS "<<title>>"
          FROM <<view>>
         WHERE <<condition>> AND <<picked>>
         LIMIT 1
        """,
        title=title,
        view=view,
        condition=condition,
        picked=IS_PICKED,
    )
    return p.stat(title, description, (4, 4), [p.table_of(counted)], unit=p.COUNT, steps=steps)


def _open_alerts() -> Json:
    listed = sql.query(
        """
        WITH open AS (
          SELECT id, level, rule, sensor, metric, gateway, value, peak, condition, threshold, unit, started_at, acked_by
            FROM alert_view
           WHERE state = 'firing' AND <<picked>>
           ORDER BY level_rank(level) DESC, started_at
           LIMIT 500
        )
        SELECT level AS "Level", rule AS "Rule", sensor AS "Sensor", metric AS "Metric", value AS "Now",
               peak AS "Peak", concat_ws(' ', condition, threshold #>> '{}') AS "Limit", unit AS "Unit",
               started_at AS "Since", gateway AS "Gateway", acked_by AS "Acknowledged by", id AS "ID"
          FROM open
         ORDER BY level_rank(level) DESC, started_at
         LIMIT 500
        """,
        picked=IS_PICKED,
    )
    return p.table(
        "Open alerts in detail",
        "Alerts that fire now, worst first, then oldest first, with what their rules compare. A sensor leads to its"
        " dashboard, an ID to Tidegauge's page.",
        (24, 9),
        p.table_of(listed),
        overrides=[
            p.colored("Level", p.LEVEL_COLORS),
            p.linked("Sensor", "Dashboard of this sensor", TO_SENSOR),
            p.linked("ID", "Alert on the page", TO_ALERT),
            p.fields("/^(Now|Peak)$/", decimals=2),
            p.field("Since", unit="dateTimeFromNow"),
        ],
    )


def _episodes() -> Json:
    condition = f"sensor IS NOT NULL AND {IS_PICKED}"
    return p.timeline(
        "Alerts of each sensor",
        "When each sensor was in alert, and the worst level at the time; the 40 sensors with the worst and longest"
        " alerts of this range.",
        (24, 11),
        p.series_of(sql.timeline("sensor", condition)),
    )


def _latest() -> Json:
    listed = sql.query(
        """
        WITH known AS (
          SELECT sensor_id, state, level
            FROM sensor_view
           WHERE state <> 'retired' AND <<picked>>
        )
        SELECT CASE WHEN known.state IN ('silent', 'late') THEN series_view.state ELSE known.state END AS "State",
               known.level AS "Level", series_view.sensor AS "Sensor", series_view.metric AS "Metric",
               series_view.last_value AS "Value", series_view.unit AS "Unit", series_view.last_time AS "Time",
               extract(epoch FROM now() - series_view.received_at)::float8 AS "Received",
               series_view.gateway AS "Gateway"
          FROM known
          JOIN series_view USING (sensor_id)
         WHERE series_view.received_at IS NOT NULL
         ORDER BY level_rank(known.level) DESC NULLS LAST, array_position(ARRAY['silent', 'late'], series_view.state),
                  series_view.received_at, series_view.sensor, series_view.metric
         LIMIT 500
        """,
        picked=IS_PICKED,
    )
    return p.table(
        "Latest values, worst first",
        "The newest value of each series: sensors in alert first, then silent, late and the rest, at most 500 rows."
        " Received is the time since anything new arrived.",
        (14, 12),
        p.table_of(listed),
        overrides=[
            p.colored("State", p.STATE_COLORS),
            p.colored("Level", p.LEVEL_COLORS),
            p.linked("Sensor", "Dashboard of this sensor", TO_SENSOR),
            p.field("Value", decimals=2),
            p.field("Received", unit=p.AGE, decimals=0),
        ],
    )


def _gateways() -> Json:
    listed = sql.query(
        """
        SELECT state AS "State", gateway AS "Gateway", last_upload_at AS "Last upload", sensors AS "Sensors",
               usual_interval_s AS "Usual interval", lateness_s AS "Lateness", clock AS "Clock", skew_s AS "Clock skew"
          FROM gateway_view
         WHERE <<picked>>
         ORDER BY state = 'offline' DESC, last_upload_at, gateway, key
         LIMIT 500
        """,
        picked=IS_PICKED,
    )
    return p.table(
        "Gateways, offline first",
        "Each gateway with its last upload. It is offline once every sensor that came through it is silent.",
        (10, 12),
        p.table_of(listed),
        overrides=[
            p.colored("State", p.STATE_COLORS),
            p.field("Last upload", unit="dateTimeFromNow"),
            p.field("Sensors", unit=p.COUNT),
            p.fields("/^(Usual interval|Lateness|Clock skew)$/", unit=p.AGE, decimals=0),
        ],
    )


_FAILED = "(state IN ('failed', 'dead') OR error IS NOT NULL AND state <> 'sent') AND $__timeFilter(created_at)"
_FAILED_COUNT = f'SELECT count(*) AS "Failed deliveries"\n  FROM delivery_view\n WHERE {_FAILED}\n LIMIT 1'


def _failed_deliveries() -> Json:
    listed = sql.query(
        """
        SELECT state AS "State", channel AS "Channel", group_key AS "Group", error AS "Error", attempts AS "Attempts",
               created_at AS "Created", finished_at AS "Given up", id AS "ID"
          FROM delivery_view
         WHERE <<failed>>
         ORDER BY created_at DESC
         LIMIT 200
        """,
        failed=_FAILED,
    )
    return p.table(
        "Failed deliveries in detail",
        "Messages of this range that were given up, or whose last attempt failed, newest first, for all gateways.",
        (24, 8),
        p.table_of(listed),
        overrides=[p.colored("State", p.STATE_COLORS), p.field("Attempts", unit=p.COUNT)],
    )
