-- Sensors with their state and latest values.

-- name: list_sensors
-- $1 after this name ('' for the first page), $2 at most so many, $3 one name or null for all, $4 whether retired
-- sensors are listed
SELECT listed.sensor AS name, listed.display_name, listed.tags, listed.gateway, listed.last_time AS last_seen,
       listed.received_at, listed.state, listed.level, listed.expected_interval, listed.notes, listed.retired_at,
       (SELECT jsonb_object_agg(metric, jsonb_build_object(
                   'value', last_value, 'time_us', to_us(last_time), 'unit', unit
               ) ORDER BY metric)
          FROM series_view
         WHERE series_view.sensor_id = listed.sensor_id AND received_at IS NOT NULL) AS latest
  FROM (
      SELECT id FROM sensor
       WHERE name > $1::text AND ($3::text IS NULL OR name = $3) AND ($4 OR retired_at IS NULL)
       ORDER BY name
       LIMIT $2
  ) AS page
  JOIN sensor_view AS listed ON listed.sensor_id = page.id
 ORDER BY listed.sensor;

-- name: list_gateways
-- Offline ones first.
SELECT gateway AS name, key, last_upload_at AS last_upload, sensors, uploads, accepted, duplicates, rejected, skew_s,
       lateness_s, state
  FROM gateway_view
 ORDER BY state = 'offline' DESC, gateway, key;

-- name: list_limits
-- $1 sensor
SELECT metric, rule, level, side, number FROM limit_view WHERE sensor = $1 ORDER BY metric, rule, number;
