-- Queries of the checks for missing data and for clocks of gateways.
-- Times are microseconds since 1970 (from_us, to_us) unless a comment says otherwise.

-- name: list_watched
-- All series with readings of sensors in use, for the check for missing data, without those of which only history was
-- imported.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway,
       coalesce(sensor.gateway, sensor.created_by) AS uploader,
       extract(epoch FROM sensor.expected_interval)::float8 AS expected_s, to_us(state.received_at) AS received_us,
       (extract(epoch FROM series.silent_after) * 1000000)::bigint AS silent_after_us, series.limits,
       series.rule_unit
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
   AND NOT state.only_imported;

-- name: get_now
-- The database's clock, in microseconds since 1970.
SELECT to_us(clock_timestamp());

-- name: update_series_watch
-- $1 series ids, $2 how long each may be silent, $3 limits as JSON, $4 units by the rules. Locks the rows in order of
-- id, as uploads do that bring units.
WITH locked AS MATERIALIZED (
    SELECT id FROM series WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE series
   SET silent_after = new.after_us * INTERVAL '1 microsecond', limits = new.limits::jsonb, rule_unit = new.rule_unit
  FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[]) AS new (id, after_us, limits, rule_unit)
  JOIN locked USING (id)
 WHERE series.id = new.id;

-- name: update_gateway_watch
-- $1 names of gateways, $2 how long each may be silent by a rule of its own, null without one.
UPDATE gateway
   SET offline_after = new.after_us * INTERVAL '1 microsecond'
  FROM unnest($1::text[], $2::bigint[]) AS new (name, after_us)
 WHERE gateway.name = new.name AND offline_after IS DISTINCT FROM new.after_us * INTERVAL '1 microsecond';

-- name: list_upload_intervals
-- The median time between uploads of each gateway, in seconds.
SELECT name, percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) AS median_s
  FROM gateway
 CROSS JOIN unnest(intervals_s) AS interval_s
 GROUP BY name;

-- name: list_open_no_data
-- Open alerts of missing data, and open marks of series without data; `gateway` is set for a whole gateway.
SELECT episode.id, episode.rule, episode.series_id, episode.gateway,
       sensor.retired_at IS NOT NULL AS is_retired, sensor.deleted_at IS NOT NULL AS is_deleted
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
 WHERE episode.kind = 'no_data' AND episode.resolved_at IS NULL;

-- name: list_gateways_back
-- When gateways that had been offline last sent data again, within the last 7 days.
SELECT gateway, to_us(max(resolved_at)) AS us
  FROM alert_episode
 WHERE kind = 'no_data' AND gateway IS NOT NULL AND resolved_at > now() - INTERVAL '7 days'
 GROUP BY gateway;

-- name: list_no_data_with_new_readings
-- $1 ids of series with new readings. The open alerts of missing data of these series and of their gateways, if a
-- reading was received after the alert fired.
SELECT episode.id, episode.rule, episode.series_id
  FROM alert_episode AS episode
 WHERE episode.kind = 'no_data' AND episode.resolved_at IS NULL
   AND EXISTS (SELECT
                 FROM series_state AS state
                 JOIN series ON series.id = state.series_id
                 JOIN sensor ON sensor.id = series.sensor_id
                WHERE state.series_id = ANY($1::int[]) AND state.received_at > episode.fired_at
                  AND (state.series_id = episode.series_id OR sensor.gateway = episode.gateway));

-- name: count_change_of_open
-- $1 rules, $2 series ids. Increases the revision of their open episodes, because a further message may be needed.
UPDATE alert_episode AS episode
   SET revision = revision + 1
  FROM unnest($1::text[], $2::int[]) AS changed (rule, series_id)
 WHERE episode.rule = changed.rule AND episode.series_id = changed.series_id
   AND episode.kind = 'threshold' AND episode.resolved_at IS NULL AND episode.reason IS NULL;

-- name: insert_no_data
-- $1 rule, $2 series id or null, $3 gateway or null, $4 time since which data are missing, $5 level, $6 reason,
-- $7 the rule's unit
INSERT INTO alert_episode (rule, series_id, gateway, kind, started_at, fired_at, steps, level, reason, unit)
VALUES ($1, $2, $3, 'no_data', from_us($4), now(), '[]', $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: list_skews
-- Of each gateway that has uploaded within days, the skews of the last uploads by the key that it used last, and the times
-- of these uploads, oldest first.
SELECT DISTINCT ON (name) name, skews_s,
       ARRAY(SELECT to_us(at) FROM unnest(skews_at) WITH ORDINALITY AS each (at, place) ORDER BY place) AS times_us
  FROM gateway
 WHERE last_upload_at > now() - INTERVAL '7 days'
 ORDER BY name, last_upload_at DESC;

-- name: list_open_clock_alerts
SELECT id, gateway FROM alert_episode WHERE kind = 'clock' AND resolved_at IS NULL;

-- name: insert_clock_alert
-- $1 rule, $2 gateway, $3 time of the first upload with a wrong clock, $4 level, $5 what is wrong
INSERT INTO alert_episode (rule, gateway, kind, started_at, fired_at, steps, level, reason)
VALUES ($1, $2, 'clock', from_us($3), now(), '[]', $4, $5)
RETURNING id;
