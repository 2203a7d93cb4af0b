-- Backtests: every statement only reads. Times are microseconds since 1970 (from_us, to_us), except where noted.

-- name: count_series_since
-- $1 series without a reading since this time are left out
SELECT count(*) FROM series_state WHERE last_time >= from_us($1::bigint);

-- name: list_series_since
-- $1 series without a reading since this time are left out, $2 ids greater than this, $3 limit
SELECT series.id, series.metric, series.unit, sensor.name AS sensor, sensor.tags, sensor.gateway
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE state.last_time >= from_us($1::bigint) AND state.series_id > $2
   AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY state.series_id
 LIMIT $3;

-- name: list_second_series
-- $1 metrics. The series of sensors in use.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE series.metric = ANY($1::text[]) AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;

-- name: list_eras
-- $1 series ids; an era without a beginning is left out
SELECT rule, series_id, rule_hash, to_us(era_from) AS era_from_us
  FROM alert_state
 WHERE series_id = ANY($1::int[]) AND era_from IS NOT NULL;

-- name: list_readings_between
-- $1 series id, $2 from (timestamptz), $3 to (timestamptz, excluded)
SELECT to_us(time) AS us, value
  FROM reading
 WHERE series_id = $1 AND time >= $2::timestamptz AND time < $3::timestamptz
 ORDER BY time;

-- name: has_readings_between
-- $1 series id, $2 from (timestamptz), $3 to (timestamptz, excluded)
SELECT EXISTS (
    SELECT FROM reading WHERE series_id = $1 AND time >= $2::timestamptz AND time < $3::timestamptz
);

-- name: list_series_with_spacing
-- $1 from, $2 to. The series of sensors in use that have readings, with the median time between the newest of these in
-- that time, and between the uploads of their gateway, in seconds.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway, spacing.s AS spacing_s,
       upload.s AS upload_s
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 CROSS JOIN LATERAL (
      SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM gap)::float8) AS s
        FROM (
            SELECT lead(time) OVER (ORDER BY time) - time AS gap
              FROM (SELECT time
                      FROM reading
                     WHERE series_id = series.id AND time >= from_us($1::bigint) AND time <= from_us($2::bigint)
                     ORDER BY time DESC
                     LIMIT 100) AS newest
        ) AS gaps
 ) AS spacing
  LEFT JOIN LATERAL (
      SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) AS s
        FROM gateway
       CROSS JOIN unnest(intervals_s) AS interval_s
       WHERE gateway.name = coalesce(sensor.gateway, sensor.created_by)
 ) AS upload ON TRUE
 WHERE sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;
