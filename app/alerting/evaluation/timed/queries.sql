-- Queries for rules that hold values or have a second metric.
-- Times are microseconds since 1970 (from_us, to_us) unless a comment says otherwise.

-- name: list_due
-- The series of which a held sample is still to come, and when the first one is due.
SELECT series_id, to_us(min(next_due)) AS due_us FROM alert_state WHERE next_due IS NOT NULL GROUP BY series_id;

-- name: list_timed_series
-- $1 metrics, or null for all. The series of sensors in use.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway,
       coalesce(sensor.gateway, sensor.created_by) AS uploader
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE ($1::text[] IS NULL OR series.metric = ANY($1)) AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;

-- name: list_upload_latenesses
-- When each gateway uploaded last, and how late the readings of its last uploads were, in seconds.
SELECT name, to_us(max(last_upload_at)) AS last_us,
       coalesce(array_agg(late.s) FILTER (WHERE late.s IS NOT NULL), '{}') AS latenesses_s
  FROM gateway
  LEFT JOIN LATERAL unnest(gateway.latenesses_s) AS late (s) ON TRUE
 GROUP BY name;
