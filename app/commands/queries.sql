-- What `tidegauge doctor` counts and lists.

-- name: count_stored
SELECT (SELECT count(*) FROM sensor WHERE deleted_at IS NULL) AS sensors,
       (SELECT count(*) FROM api_key WHERE revoked_at IS NULL) AS live_keys;

-- name: summarise_gateways
-- One row for each gateway, whichever keys it has uploaded with. Its clock is judged by the newest upload.
SELECT gateway, max(last_upload_at) AS last_upload_at, max(last_taken_at) AS last_taken_at,
       bool_or(state = 'offline') AS is_offline, (array_agg(skew_s ORDER BY last_upload_at DESC))[1] AS skew_s,
       bool_or(clock <> 'ok') AS is_clock_wrong, sum(duplicates)::bigint AS duplicates, sum(conflicts)::bigint AS conflicts,
       sum(rejected)::bigint AS rejected,
       (SELECT string_agg(format('%s %s', n, code), ', ' ORDER BY n DESC)
          FROM (SELECT each.key AS code, sum(each.value::bigint) AS n
                  FROM gateway_view AS own, jsonb_each_text(own.rejected_by_code) AS each
                 WHERE own.gateway = gateway_view.gateway
                 GROUP BY 1) AS summed) AS by_code,
       (SELECT array_agg(DISTINCT each ORDER BY each)
          FROM gateway AS own, jsonb_object_keys(own.unknown_fields) AS each
         WHERE own.name = gateway_view.gateway AND own.unknown_fields_at > now() - INTERVAL '1 day') AS unknown_fields
  FROM gateway_view
 GROUP BY gateway
 ORDER BY gateway;

-- name: count_sensor_states
SELECT count(*) FILTER (WHERE state <> 'retired') AS in_use,
       count(*) FILTER (WHERE state = 'silent') AS silent,
       count(*) FILTER (WHERE state = 'alert') AS with_alert
  FROM sensor_view;

-- name: count_readings_of_sensor
-- $1 name; counted by days, so that a long history costs little
SELECT coalesce(sum(n), 0)::bigint
  FROM reading_1d
 WHERE series_id IN (SELECT id FROM series WHERE sensor_id = find_sensor($1));
