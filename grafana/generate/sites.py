"""Dashboard Sites: many sensors of one metric, compared by site, or by any other tag."""

from grafana.generate import panels as p
from grafana.generate import sql
from grafana.generate.dashboard import Json, dashboard
from grafana.generate.operations import GATEWAY
from grafana.generate.variables import one_of, some_of

_SITE = f"coalesce(tags ->> {sql.value_of('tag')}, '{sql.NONE}')"
IS_METRIC = f"metric = {sql.value_of('metric')}"
IS_PICKED = f"{IS_METRIC} AND {sql.picked(sql.GATEWAY, 'gateway')} AND {sql.picked('site', 'site')}"
#: Wide enough for the relation that fits the range, small enough for thousands of sensors.
POINTS = 20

TAG = one_of(
    "tag",
    "Tag",
    "The tag by which sensors are grouped.",
    sql.query(
        """
        SELECT 'site' AS tag
        UNION
        SELECT tag FROM sensor_view CROSS JOIN LATERAL jsonb_object_keys(tags) AS tag
         ORDER BY 1
         LIMIT 200
        """
    ),
    "site",
)
SITES = some_of(
    "site",
    "Site",
    "Values of the tag; (none) stands for sensors without it.",
    f"SELECT DISTINCT {_SITE} FROM sensor_view ORDER BY 1 LIMIT 1000",
    "site",
)
METRIC = one_of(
    "metric",
    "Metric",
    "The metric to compare.",
    "SELECT DISTINCT metric FROM series_view ORDER BY metric LIMIT 1000",
)


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "tidegauge-sites",
        "Tidegauge sites",
        "One metric over many sensors: means of sites, a heatmap, the ten highest and lowest, and the time beyond"
        " limits.",
        since="now-7d",
        variables=[TAG, SITES, GATEWAY, METRIC],
        alerts=sql.annotations(IS_PICKED, f"(SELECT *, {_SITE} AS site FROM alert_view) AS placed"),
        panels=[
            _means(),
            _summary(),
            _heatmap(),
            _ten("Highest ten", "greatest", "DESC"),
            _ten("Lowest ten", "smallest", "ASC"),
            _beyond(),
        ],
    )


def _chosen(columns: str, limit: int = 20_000) -> str:
    """Return the query for the chosen series."""
    return sql.query(
        """
        SELECT <<columns>>
          FROM (SELECT *, <<site>> AS site FROM series_view) AS placed
         WHERE <<picked>> AND received_at IS NOT NULL
         ORDER BY sensor
         LIMIT <<limit>>
        """,
        columns=columns,
        site=_SITE,
        picked=IS_PICKED,
        limit=str(limit),
    )


def _means() -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), shown AS (
          SELECT site FROM chosen GROUP BY site ORDER BY site LIMIT 40
        ), sample AS (
          <<samples>>
        ), newest AS (
          SELECT $__timeGroup(bucket, $__interval) AS time, site AS metric, sum(sum) / sum(n) AS value
            FROM sample
            JOIN chosen USING (series_id)
           WHERE site IN (SELECT site FROM shown)
           GROUP BY 1, 2
           ORDER BY 1 DESC, 2
           LIMIT 20000
        )
        <<newest>>
        """,
        newest=sql.newest(20_000),
        chosen=_chosen("series_id, site"),
        samples=sql.samples("n", "sum", raw=False),
    )
    panel = p.chart(
        "Mean of each site",
        "Mean over all readings of a site's sensors, for the first 40 sites by name.",
        (16, 10),
        [p.series_of(text)],
        unit=None,
        min_interval="1m",
    )
    return p.with_unit(panel | {"maxDataPoints": 100}, _unit())


def _summary() -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), sample AS (
          <<samples>>
        )
        SELECT site AS "Site", count(DISTINCT series_id) AS "Sensors", min(min) AS "Min", sum(sum) / sum(n) AS "Mean",
               max(max) AS "Max"
          FROM sample
          JOIN chosen USING (series_id)
         GROUP BY site
         ORDER BY site
         LIMIT 500
        """,
        chosen=_chosen("series_id, site"),
        samples=sql.samples("n", "sum", "min", "max", raw=False),
    )
    panel = p.table(
        "Sites",
        "Each site with its sensors that reported in this range, and their smallest, mean and greatest value.",
        (8, 10),
        p.table_of(text),
        overrides=[p.field("Sensors", unit=p.COUNT), p.fields("/^(Min|Mean|Max)$/", decimals=2)],
    )
    return p.with_unit(p.over_range(panel, POINTS), _unit(), "/^(Min|Mean|Max)$/")


def _heatmap() -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), sample AS (
          <<samples>>
        ), newest AS (
          SELECT $__timeGroup(bucket, $__interval) AS time, sensor AS metric, sum(sum) / sum(n) AS value
            FROM sample
            JOIN chosen USING (series_id)
           GROUP BY 1, 2
           ORDER BY 1 DESC, 2
           LIMIT 20000
        )
        <<newest>>
        """,
        newest=sql.newest(20_000),
        chosen=_chosen("series_id, sensor", 50),
        samples=sql.samples("n", "sum", raw=False),
    )
    panel = p.heatmap(
        "Sensors over time",
        "The mean of each sensor in each stretch of time as a colour, for the first 50 sensors by name. An empty cell"
        " means that nothing arrived.",
        (24, 14),
        p.series_of(text),
    )
    return p.with_unit(panel, _unit())


def _ten(title: str, which: str, order: str) -> Json:
    text = sql.query(
        """
        WITH chosen AS (
          <<chosen>>
        ), sample AS (
          <<samples>>
        )
        SELECT sensor AS "Sensor", sum(sum) / sum(n) AS "Mean"
          FROM sample
          JOIN chosen USING (series_id)
         GROUP BY series_id, sensor
         ORDER BY 2 <<order>>, 1
         LIMIT 10
        """,
        chosen=_chosen("series_id, sensor"),
        samples=sql.samples("n", "sum", raw=False),
        order=order,
    )
    panel = p.bars(
        title,
        f"The ten sensors with the {which} mean over this range.",
        (8, 11),
        [p.table_of(text)],
        unit=None,
    )
    return p.with_unit(p.over_range(panel, POINTS), _unit())


def _beyond() -> Json:
    chosen = sql.query(
        """
        SELECT series_id, sensor, max(number) FILTER (WHERE side = 'below') AS low,
               min(number) FILTER (WHERE side = 'above') AS high
          FROM limit_view
          JOIN (
            <<chosen>>
          ) AS picked USING (series_id)
         WHERE side IN ('below', 'above')
         GROUP BY series_id, sensor
         ORDER BY sensor
         LIMIT 500
        """,
        chosen=_chosen("series_id"),
    )
    text = sql.beyond(
        chosen,
        """
        SELECT sensor AS "Sensor", sum(minutes_beyond) / nullif(sum(minutes), 0) AS "Beyond a limit"
          FROM beyond
          JOIN chosen USING (series_id)
         GROUP BY series_id, sensor
         ORDER BY 2 DESC NULLS LAST, 1
         LIMIT 20
        """,
        "2 days",
    )
    return p.bars(
        "Time beyond a limit",
        "The share of the hours with readings that each sensor spent beyond the tightest limit of the rules that watch"
        " it; the 20 worst. Up to two days are judged by the minute, hours of longer ranges by their extremes.",
        (8, 11),
        [p.table_of(text)],
        unit=p.SHARE,
        limits=(0, 1),
    )


def _unit() -> str:
    return sql.unit(IS_METRIC)
