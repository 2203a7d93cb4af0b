"""SQL that several dashboards share.

Each variable is written `${name:sqlstring}`: the plain `$name` is not quoted in repeated rows by Grafana 11.6 and by
12.0.8, 12.1.5, 12.2.3, 12.3.1 and later ones. That format also writes a double quote as `\\"`, hence `picked`.
No query has a comment: Grafana would expand macros in it.
"""

from textwrap import dedent, indent

#: Stands for sensors without a gateway, and for sensors without the chosen tag.
NONE = "(none)"
GATEWAY = f"coalesce(gateway, '{NONE}')"

#: relation, its time column, widths of a point in milliseconds that it answers: from, and below. With 500 points
#: that is raw readings up to 83 minutes, minutes up to 5 days, hours up to 8 months, days beyond.
LEVELS = (
    ("reading", "time", 0, 10_000),
    ("reading_1m", "bucket", 10_000, 900_000),
    ("reading_1h", "bucket", 900_000, 43_200_000),
    ("reading_1d", "bucket", 43_200_000, None),
)
_WEEK = "INTERVAL '168 hours'"
#: The ranks of levels, the worst first.
_RANKS = (5, 4, 3, 2, 1)
#: When an alert of `alert_view` ended: by its readings, or when somebody closed it; null while it is open.
ENDED = "coalesce(resolved_at, CASE WHEN state = 'resolved' THEN closed_at END)"
#: Of alerts, those about gateways whose sensors are all silent; a wrong clock is no outage.
OFFLINE = "kind = 'no_data' AND sensor IS NULL AND gateway IS NOT NULL"


def query(text: str, **parts: str) -> str:
    """Return SQL with `<<name>>` replaced by `parts`; a part of several lines keeps the indent of its place."""
    lines = []
    for line in dedent(text).strip().splitlines():
        name = line.strip().removeprefix("<<").removesuffix(">>")
        if line.strip() == f"<<{name}>>":
            lines.append(indent(parts[name], line[: len(line) - len(line.lstrip())]))
            continue
        for part, value in parts.items():
            line = line.replace(f"<<{part}>>", value)
        lines.append(line)
    return "\n".join(lines)


def picked(column: str, variable: str) -> str:
    """Return the condition that a column has one of a variable's values.

    The second half is for values with a double quote. With All both halves compare the column with itself. The planner
    takes a CASE for true of every second row; for an OR of comparisons it expects one row, and joins by nested loops.
    """
    values = f"${{{variable}:sqlstring}}"
    escaped = f"""replace({column}, '"', '\\"')"""
    return f"CASE WHEN {column} IN ({values}) THEN TRUE ELSE {escaped} IN ({values}) END"


def value_of(variable: str) -> str:
    """Return the value of a variable of one value."""
    return f"""replace(${{{variable}:sqlstring}}, '\\"', '"')"""


def newest(most: int) -> str:
    """Return the end of a query whose part `newest` holds its newest points: all of them, oldest first."""
    return f'SELECT time AS "time", metric, value\n  FROM newest\n ORDER BY 1, 2\n LIMIT {most}'


def samples(*columns: str, raw: bool = True, weeks_ago: bool = False) -> str:
    """Return a query for points of the series in `chosen`, from the one relation that fits the width of a point.

    Without `raw` the minutes answer the shortest ranges too. With `weeks_ago` the points are those of a week before,
    moved to this range.
    """
    branches = []
    for relation, time, least_ms, below_ms in LEVELS if raw else LEVELS[1:]:
        bounds = [f"$__interval_ms >= {least_ms}"] if least_ms and (raw or relation != "reading_1m") else []
        bounds += [f"$__interval_ms < {below_ms}"] if below_ms else []
        moved = f"{time} + {_WEEK}" if weeks_ago else time
        values = [_sample(column) if relation == "reading" else column for column in columns]
        branches.append(
            f"SELECT {moved} AS bucket, series_id, {', '.join(values)}\n"
            f"  FROM {relation}\n"
            f" WHERE {' AND '.join(bounds)} AND {_in_range(time, weeks_ago)}\n"
            "   AND series_id = ANY (ARRAY(SELECT series_id FROM chosen))"
        )
    return "\nUNION ALL\n".join(branches)


def unit(condition: str) -> str:
    """Return the query for the unit that most series under a condition have, as Grafana's name of a unit."""
    return query(
        """
        SELECT 'suffix:' || unit AS unit
          FROM series_view
         WHERE unit IS NOT NULL AND <<condition>>
         GROUP BY unit
         ORDER BY count(*) DESC, unit
         LIMIT 1
        """,
        condition=condition,
    )


def alerts_in_range(condition: str) -> str:
    """Return the conditions on `alert_view` for alerts that touch the range and were not withdrawn."""
    return (
        "state <> 'retracted' AND started_at <= $__timeTo()"
        f" AND (resolved_at IS NULL OR resolved_at >= $__timeFrom()) AND {condition}"
    )


def annotations(condition: str, alerts: str = "alert_view") -> str:
    """Return the query for alerts as regions of a chart, the newest 500; `alerts` stands in for the view."""
    return query(
        """
        SELECT started_at AS "time", least(coalesce(<<ended>>, now()), $__timeTo()) AS timeend,
               concat_ws(' ', rule || ':', coalesce(sensor, gateway), metric) AS text, level AS tags
          FROM <<view>>
         WHERE <<alerts>>
         ORDER BY started_at DESC
         LIMIT 500
        """,
        view=alerts,
        ended=ENDED,
        alerts=alerts_in_range(condition),
    )


def timeline(name: str, condition: str) -> str:
    """Return the query for a state timeline of the 40 worst `name`s: the rank of the worst alert, 0 for none.

    It counts the open alerts of each rank in order of time. A join of edges with alerts takes minutes where the planner
    expects few alerts.
    """
    return query(
        """
        WITH shown AS (
          SELECT <<name>> AS name, level_rank(level) AS rank, greatest(started_at, $__timeFrom()) AS since,
                 <<ended>> AS ended
            FROM alert_view
           WHERE <<alerts>>
        ), within AS (
          SELECT name, rank, since, ended FROM shown WHERE ended IS NULL OR ended >= $__timeFrom()
        ), worst AS (
          SELECT name
            FROM within
           GROUP BY name
           ORDER BY max(rank) DESC, sum(least(ended, now(), $__timeTo()) - since) DESC, name
           LIMIT 40
        ), change AS (
          SELECT name, $__timeFrom()::timestamptz AS time, 0 AS rank, 0 AS step FROM worst
          UNION ALL
          SELECT name, since, rank, 1 FROM within
          UNION ALL
          SELECT name, ended, rank, -1 FROM within WHERE ended <= $__timeTo()
        ), edge AS (
          SELECT name, time, <<steps>>
            FROM change
           WHERE name IN (SELECT name FROM worst)
           GROUP BY name, time
        ), newest AS (
          SELECT time, name AS metric, CASE <<levels>> ELSE 0 END AS value
            FROM edge
          WINDOW past AS (PARTITION BY name ORDER BY time)
           ORDER BY 1 DESC, 2
           LIMIT 5000
        )
        <<newest>>
        """,
        newest=newest(5_000),
        name=name,
        ended=ENDED,
        alerts=alerts_in_range(condition),
        steps=", ".join(f"sum(step) FILTER (WHERE rank = {rank}) AS of_{rank}" for rank in _RANKS),
        levels=" ".join(f"WHEN sum(of_{rank}) OVER past > 0 THEN {rank}" for rank in _RANKS),
    )


def beyond(chosen: str, result: str, exact: str) -> str:
    """Return a query over `beyond`: for each hour and series of `chosen` the minutes in range and beyond its limits.

    `chosen` has series_id, low and high; a null limit is none. In an hour that crosses a limit the share of minutes
    with readings beyond it counts, in ranges of up to the interval `exact`. In longer ranges the share is estimated as
    if values were spread evenly between the smallest and the greatest: all minutes of a year are too many.
    """
    return query(
        """
        WITH chosen AS (
          <<chosen>>
        ), hour AS (
          SELECT one.series_id, one.bucket, low, high, one.n, one.sum, one.min, one.max,
                 greatest(extract(epoch FROM least(one.bucket + INTERVAL '1 hour', $__timeTo(), now())
                   - greatest(one.bucket, $__timeFrom())) / 60, 0)::float8 AS minutes,
                 CASE WHEN one.min > high OR one.max < low THEN 1
                      WHEN coalesce(one.max <= high, TRUE) AND coalesce(one.min >= low, TRUE) THEN 0
                 END AS share
            FROM reading_1h AS one
            JOIN chosen USING (series_id)
           WHERE one.series_id = ANY (ARRAY(SELECT series_id FROM chosen))
             AND one.bucket > $__timeFrom()::timestamptz - INTERVAL '1 hour' AND one.bucket <= $__timeTo()
        ), minute AS (
          SELECT hour.series_id, hour.bucket, avg(CASE WHEN one.max > high OR one.min < low THEN 1 ELSE 0 END) AS share
            FROM reading_1m AS one
            JOIN hour ON hour.series_id = one.series_id AND hour.bucket = time_bucket('1 hour', one.bucket)
           WHERE hour.share IS NULL
             AND $__timeTo()::timestamptz - $__timeFrom()::timestamptz <= INTERVAL '<<exact>>'
             AND one.series_id = ANY (ARRAY(SELECT series_id FROM hour WHERE share IS NULL))
             AND $__timeFilter(one.bucket)
           GROUP BY 1, 2
        ), beyond AS (
          SELECT series_id, bucket, n, sum, min, max, minutes,
                 minutes * coalesce(hour.share, minute.share,
                   (greatest(max - high, 0) + greatest(low - min, 0)) / (max - min))::float8 AS minutes_beyond
            FROM hour
            LEFT JOIN minute USING (series_id, bucket)
        )
        <<result>>
        """,
        chosen=dedent(chosen).strip(),
        result=dedent(result).strip(),
        exact=exact,
    )


def _sample(column: str) -> str:
    return "1::bigint AS n" if column == "n" else f"value AS {column}"


def _in_range(time: str, weeks_ago: bool) -> str:
    if not weeks_ago:
        return f"$__timeFilter({time})"
    start, end = (f"$__time{end}()::timestamptz - {_WEEK}" for end in ("From", "To"))
    return f"{time} BETWEEN {start} AND {end}"
