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
