"""Dashboard Data quality: whether gateways upload, how late, and what is missing."""

from grafana.generate import panels as p
from grafana.generate import sql
from grafana.generate.dashboard import Json, dashboard
from grafana.generate.operations import GATEWAY, IS_PICKED, TO_SENSOR

#: Wide enough for the relation that fits the range, small enough for thousands of sensors.
POINTS = 20
_ALIVE = f"SELECT series_id, sensor, metric, gateway FROM series_view WHERE received_at IS NOT NULL AND {IS_PICKED}"
CHOSEN = f"{_ALIVE} ORDER BY sensor, metric LIMIT 20000"


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "tidegauge-data-quality",
        "Tidegauge data quality",
        "Uptime and lateness of gateways, duplicates and refusals, missing hours, and days that wait for a refresh.",
        since="now-7d",
        variables=[GATEWAY],
        alerts=sql.annotations(IS_PICKED),
        panels=[
            *_counts(),
            _uptime(),
            _outages(),
            _gateways(),
            _readings(),
            _missing(),
            _late_days(),
        ],
    )


def _counts() -> list[Json]:
    return [
        _share("Duplicates", "duplicates", "Readings that were stored before, as a share of all that ever arrived."),
        _share("Refused readings", "rejected", "Readings that were refused, as a share of all that ever arrived."),
        _worst("Worst lateness", "lateness_s", "Age of the oldest reading in the last upload of the latest gateway."),
        _worst("Worst clock skew", "abs(skew_s)", "Greatest difference between a gateway's clock and the server's."),
        p.stat(
            "Gateways offline",
            "Gateways all of whose sensors are silent.",
            (4, 4),
            [
                p.table_of(
                    f"SELECT count(*) AS \"Gateways offline\" FROM gateway_view WHERE state = 'offline' AND {IS_PICKED}"
                    " LIMIT 1"
                )
            ],
            unit=p.COUNT,
            steps={1: "red"},
        ),
        p.stat(
            "Days to refresh",
            "Days with late readings that the aggregates do not show yet; they are refreshed within seconds.",
            (4, 4),
            [p.table_of('SELECT count(DISTINCT day) AS "Days to refresh" FROM late_day_view LIMIT 1')],
            unit=p.COUNT,
            steps={10: "orange"},
        ),
    ]


def _share(title: str, column: str, description: str) -> Json:
    text = sql.query(
        """
        SELECT (sum(<<column>>) / nullif(sum(accepted + duplicates + rejected), 0))::float8 AS "<<title>>"
          FROM gateway_view
         WHERE <<picked>>
         LIMIT 1
        """,
        column=column,
        title=title,
        picked=IS_PICKED,
    )
    steps = {0.05: "orange", 0.5: "red"}
    return p.stat(title, description, (4, 4), [p.table_of(text)], unit=p.SHARE, steps=steps)


def _worst(title: str, column: str, description: str) -> Json:
    text = f'SELECT max({column}) AS "{title}" FROM gateway_view WHERE {IS_PICKED} LIMIT 1'
    return p.stat(title, description, (4, 4), [p.table_of(text)], unit=p.AGE, steps={300: "orange", 3600: "red"})


def _uptime() -> Json:
    text = sql.query(
        """
        WITH known AS (
          SELECT gateway, greatest(min(first_upload_at), $__timeFrom()) AS since, least(now(), $__timeTo()) AS until
            FROM gateway_view
           WHERE <<picked>>
           GROUP BY gateway
          HAVING min(first_upload_at) < least(now(), $__timeTo())
        ), outage AS (
          SELECT gateway, range_agg(tstzrange(started_at, greatest(started_at, resolved_at))) AS times
            FROM alert_view
           WHERE <<offline>>
           GROUP BY gateway
        )
        SELECT gateway AS "Gateway",
               1 - coalesce((
                 SELECT sum(extract(epoch FROM upper(part) - lower(part)))
                   FROM unnest(outage.times * tstzmultirange(tstzrange(since, until))) AS part
               ) / nullif(extract(epoch FROM until - since), 0), 0)::float8 AS "Uptime"
          FROM known
          LEFT JOIN outage USING (gateway)
         ORDER BY 2, 1
         LIMIT 50
        """,
        picked=IS_PICKED,
        offline=sql.alerts_in_range(sql.OFFLINE),
    )
    return p.bars(
        "Uptime of each gateway",
        "The share of this range, counted from a gateway's first upload, in which it was not reported offline; the 50"
        " worst.",
        (8, 10),
        [p.table_of(text)],
        unit=p.SHARE,
        scheme="continuous-RdYlGr",
        limits=(0, 1),
    )


def _outages() -> Json:
    return p.timeline(
        "Outages of each gateway",
        "When each gateway was reported offline; the 40 gateways with the longest outages of this range.",
        (16, 10),
        p.series_of(sql.timeline("gateway", f"{sql.OFFLINE} AND {IS_PICKED}")),
    )


def _gateways() -> Json:
    text = sql.query(
        """
        SELECT gateway AS "Gateway", key AS "Key", state AS "State", last_upload_at AS "Last upload",
               usual_interval_s AS "Usual interval", lateness_s AS "Lateness", skew_s AS "Clock skew", clock AS "Clock",
               sensors AS "Sensors", uploads AS "Uploads", accepted AS "Accepted", duplicates AS "Duplicates",
               (duplicates::float8 / nullif(accepted + duplicates, 0)) AS "Duplicate share", conflicts AS "Conflicts",
               rejected AS "Refused"
          FROM gateway_view
         WHERE <<picked>>
         ORDER BY lateness_s DESC NULLS LAST, gateway, key
         LIMIT 500
        """,
        picked=IS_PICKED,
    )
    return p.table(
        "Gateways, latest first",
        "Each gateway and API key since its first upload. Lateness is the age of the oldest reading in the last upload,"
        " clock skew the time of receipt less the newest time in it: below zero its clock is ahead. Conflicts are"
        " duplicates with another value than the stored one.",
        (24, 9),
        p.table_of(text),
        overrides=[
            p.colored("State", p.STATE_COLORS),
            p.field("Last upload", unit="dateTimeFromNow"),
            p.fields("/^(Usual interval|Lateness|Clock skew)$/", unit=p.AGE, decimals=0),
            p.fields("/^(Sensors|Uploads|Accepted|Duplicates|Conflicts|Refused)$/", unit=p.COUNT),
            p.field("Duplicate share", unit=p.SHARE, decimals=1),
        ],
    )


def _readings() -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), shown AS (
          SELECT <<gateway>> AS name FROM chosen GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 30
        ), sample AS (
          <<samples>>
        ), newest AS (
          SELECT $__timeGroup(bucket, $__interval) AS time, <<gateway>> AS metric,
                 (sum(n) * 60000 / $__interval_ms)::float8 AS value
            FROM sample
            JOIN chosen USING (series_id)
           WHERE <<gateway>> IN (SELECT name FROM shown)
           GROUP BY 1, 2
           ORDER BY 1 DESC, 2
           LIMIT 20000
        )
        <<newest>>
        """,
        newest=sql.newest(20_000),
        chosen=CHOSEN,
        gateway=sql.GATEWAY,
        samples=sql.samples("n", raw=False),
    )
    return p.chart(
        "Readings per minute of each gateway",
        "Stored readings by the time they were taken at, one a metric, by the gateway of their sensor; the 30 gateways"
        " with the most series.",
        (24, 9),
        [p.series_of(text)],
        unit=p.COUNT,
        custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}},
        min_interval="1m",
    ) | {"maxDataPoints": 100}


def _missing() -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), span AS (
          SELECT time_bucket('1 hour', $__timeFrom()::timestamptz) + INTERVAL '1 hour' AS since,
                 time_bucket('1 hour', least(now(), $__timeTo())) AS until
        ), whole AS (
          SELECT since, until, extract(epoch FROM until - since) / 3600 AS hours FROM span WHERE until > since
        ), found AS (
          SELECT series_id, min(bucket) AS first, max(bucket) AS last, count(*) AS hours
            FROM reading_1h
           WHERE $__timeFilter(bucket) AND bucket >= (SELECT since FROM whole) AND bucket < (SELECT until FROM whole)
             AND series_id = ANY (ARRAY(SELECT series_id FROM chosen))
           GROUP BY series_id
        )
        SELECT chosen.sensor AS "Sensor", chosen.metric AS "Metric", chosen.gateway AS "Gateway",
               (1 - coalesce(found.hours, 0) / whole.hours)::float8 AS "Missing",
               (whole.hours - coalesce(found.hours, 0))::float8 AS "Missing hours",
               found.first AS "First hour", found.last AS "Last hour"
          FROM whole
         CROSS JOIN chosen
          LEFT JOIN found USING (series_id)
         WHERE coalesce(found.hours, 0) < whole.hours
         ORDER BY 4 DESC, 1, 2
         LIMIT 100
        """,
        chosen=CHOSEN,
    )
    return p.table(
        "Hours without readings",
        "Series for which whole hours of this range hold no reading, the 100 worst. A sensor that reports less often"
        " than once an hour is always listed.",
        (16, 10),
        p.table_of(text),
        overrides=[
            p.linked("Sensor", "Dashboard of this sensor", TO_SENSOR),
            p.field("Missing", unit=p.SHARE, decimals=1),
            p.field("Missing hours", unit="h", decimals=0),
        ],
    )


def _late_days() -> Json:
    return p.table(
        "Late days",
        "Days that got readings after their aggregates were built, and wait to be refreshed, with how often.",
        (8, 10),
        p.table_of(
            'SELECT day::text AS "Day", count(*) AS "Uploads" FROM late_day_view'
            " GROUP BY day ORDER BY day DESC LIMIT 400"
        ),
        overrides=[p.field("Uploads", unit=p.COUNT)],
    )
