-- Sensors with their state and latest values, and what operators change of them.

-- name: list_sensors
-- $1 after this name ('' for the first page), $2 at most so many, $3 one name or null for all, $4 whether retired
-- sensors are listed
SELECT listed.sensor AS name, listed.display_name, listed.tags, listed.gateway, page.owner, listed.last_time AS last_seen,
       listed.received_at, listed.state, listed.level, listed.expected_interval, listed.notes, listed.retired_at,
       ARRAY(SELECT alias.name FROM sensor_alias AS alias WHERE alias.sensor_id = listed.sensor_id ORDER BY created_at)
           AS old_names,
       (SELECT jsonb_object_agg(metric, jsonb_build_object(
                   'value', last_value, 'time_us', to_us(last_time), 'unit', unit
               ) ORDER BY metric)
          FROM series_view
         WHERE series_view.sensor_id = listed.sensor_id AND received_at IS NOT NULL) AS latest
  FROM (
      SELECT id, owner FROM sensor
       WHERE name > $1::text AND ($3::text IS NULL OR id = (SELECT find_sensor($3))) AND ($4 OR retired_at IS NULL)
         AND deleted_at IS NULL
       ORDER BY name
       LIMIT $2
  ) AS page
  JOIN sensor_view AS listed ON listed.sensor_id = page.id
 ORDER BY listed.sensor;

-- name: list_gateways
-- Offline ones first.
SELECT seen.gateway AS name, seen.key, seen.last_upload_at AS last_upload, seen.last_taken_at AS last_taken, seen.sensors,
       seen.uploads, seen.accepted, seen.duplicates, seen.conflicts, seen.rejected_by_code AS rejected,
       seen.rejected AS rejected_count, seen.skew_s, seen.lateness_s, seen.state, seen.clock, gateway.unknown_fields,
       gateway.unknown_fields_at
  FROM gateway_view AS seen
  JOIN gateway ON gateway.name = seen.gateway AND gateway.api_key = seen.key
 ORDER BY seen.state = 'offline' DESC, seen.gateway, seen.key;

-- name: list_refused_uploads
-- $1 gateway, $2 largest number; the newest first
SELECT at, api_key AS key, path, error, rejected AS rejected_count, by_code, listed AS rejected, body
  FROM gateway_refusal
 WHERE gateway = $1
 ORDER BY id DESC
 LIMIT $2;

-- name: find_gateway
-- $1 name, also in another form than that in which it is stored; null if there is none
SELECT name FROM gateway WHERE name IN ($1, tidy_name($1)) ORDER BY name = $1 DESC LIMIT 1;

-- name: measure_gateways
-- $1 largest number of gateways, those that have uploaded last. One row for each, whichever keys it uploads with; skew and
-- lateness are those of its newest upload.
SELECT found.name, found.last_upload_at, found.duplicates, found.conflicts, found.skew_s, found.lateness_s,
       coalesce((SELECT jsonb_object_agg(code, n)
                   FROM (SELECT each.key AS code, sum(each.value::bigint) AS n
                           FROM gateway, jsonb_each_text(gateway.rejected_by_code) AS each
                          WHERE gateway.name = found.name
                          GROUP BY 1) AS summed), '{}') AS rejected_by_code,
       coalesce(own.sensors, 0) AS sensors
  FROM (
      SELECT name, max(last_upload_at) AS last_upload_at, sum(duplicates)::bigint AS duplicates,
             sum(conflicts)::bigint AS conflicts, (array_agg(skew_s ORDER BY last_upload_at DESC))[1] AS skew_s,
             (array_agg(lateness_s ORDER BY last_upload_at DESC))[1] AS lateness_s
        FROM gateway
       GROUP BY name
       ORDER BY last_upload_at DESC
       LIMIT $1
  ) AS found
  LEFT JOIN (
      SELECT coalesce(gateway, created_by) AS name, count(*) AS sensors
        FROM sensor
       WHERE retired_at IS NULL AND deleted_at IS NULL
       GROUP BY 1
  ) AS own USING (name);

-- name: list_limits
-- $1 sensor
SELECT metric, rule, level, side, number
  FROM limit_view
 WHERE sensor = (SELECT name FROM sensor WHERE id = find_sensor($1))
 ORDER BY metric, rule, number;

-- name: lock_changes
-- Changes of sensors happen one at a time.
SELECT version FROM sensor_version FOR UPDATE;

-- name: count_version
-- Makes every process load its sensors again before its next flush.
UPDATE sensor_version SET version = version + 1;

-- name: look_up_sensor
-- $1 name, present or old one
SELECT id, name, owner, retired_at IS NOT NULL AS is_retired FROM sensor WHERE id = (SELECT find_sensor($1));

-- name: lock_sensor
-- $1 sensor id
SELECT id FROM sensor WHERE id = $1 FOR NO KEY UPDATE;

-- name: lock_series_of_sensor
-- $1 sensor id
SELECT id FROM series WHERE sensor_id = $1 ORDER BY id FOR NO KEY UPDATE;

-- name: list_old_names
-- $1 sensor id
SELECT name FROM sensor_alias WHERE sensor_id = $1 ORDER BY created_at;

-- name: forget_old_names
-- $1 sensor id, $2 names that stay
DELETE FROM sensor_alias WHERE sensor_id = $1 AND name <> ALL($2::text[]);

-- name: list_metrics
-- $1 sensor id
SELECT metric FROM series WHERE sensor_id = $1 ORDER BY metric;

-- name: rename_sensor
-- $1 sensor id, $2 new name. The old name stays an alias; the new one may have been an alias of the same sensor.
WITH dropped AS (
    DELETE FROM sensor_alias WHERE sensor_id = $1 AND name = $2
), kept AS (
    INSERT INTO sensor_alias (name, sensor_id) SELECT name, id FROM sensor WHERE id = $1
)
UPDATE sensor SET name = $2 WHERE id = $1;

-- name: rename_in_silences
-- $1 old name, $2 new name. Renames the sensor in silences that name exactly this one, without a wildcard.
UPDATE silence SET matchers = jsonb_set(matchers, '{sensor}', to_jsonb($2::text))
 WHERE matchers ->> 'sensor' = $1 AND ends_at > now() AND $1 !~ '[*?]' AND $2 !~ '[*?]';

-- name: set_sensor_fields
-- $1 sensor id; for each field whether it is given, then its value: $2 and $3 display name, $4 and $5 notes, $6 and $7
-- expected interval, $8 and $9 tags; without tags, those of the uploads count again; $11 and $12 owner. $10 whether the
-- sensor is retired, null for no change.
UPDATE sensor
   SET display_name = CASE WHEN $2 THEN $3::text ELSE display_name END,
       notes = CASE WHEN $4 THEN $5::text ELSE notes END,
       expected_interval = CASE WHEN $6 THEN $7::interval ELSE expected_interval END,
       set_tags = CASE WHEN $8 THEN $9::jsonb ELSE set_tags END,
       tags = CASE WHEN $8 THEN coalesce($9::jsonb, uploaded_tags) ELSE tags END,
       owner = CASE WHEN $11 THEN $12::text ELSE owner END,
       retired_at = CASE $10::boolean WHEN TRUE THEN coalesce(retired_at, now()) WHEN FALSE THEN NULL ELSE retired_at END
 WHERE id = $1;

-- name: set_units
-- $1 sensor id, $2 metrics, $3 units. A null lets the next upload that brings a unit set it.
UPDATE series
   SET unit = new.unit, unit_at = CASE WHEN new.unit IS NULL THEN TIMESTAMPTZ 'infinity' ELSE '-infinity' END
  FROM unnest($2::text[], $3::text[]) AS new (metric, unit)
 WHERE series.sensor_id = $1 AND series.metric = new.metric;

-- name: evaluate_again
-- $1 sensor id. Lets the evaluation look at the newest reading of each series again, by the rules that now select it.
INSERT INTO dirty (series_ids, from_times, to_times, late)
SELECT array_agg(series_id), array_agg(last_time), array_agg(last_time), TRUE
  FROM series_state
 WHERE series_id IN (SELECT id FROM series WHERE sensor_id = $1)
HAVING count(*) > 0;

-- name: mark_deleted
-- $1 sensor id. Hides the sensor and frees its names; its records of the replaced server go at once.
WITH freed AS (
    DELETE FROM sensor_alias WHERE sensor_id = $1 RETURNING name
), dropped AS (
    DELETE FROM legacy_reading
     WHERE sensor IN (SELECT name FROM freed) OR sensor = (SELECT name FROM sensor WHERE id = $1)
)
UPDATE sensor SET deleted_at = now(), deleted_name = name, name = NULL WHERE id = $1;

-- name: has_deleted
SELECT EXISTS (SELECT FROM sensor WHERE deleted_at IS NOT NULL);

-- name: list_not_emptied
-- $1 largest number. Deleted sensors that may still have readings; those deleted first come first.
SELECT sensor.id, array_remove(array_agg(series.id), NULL) AS series_ids
  FROM sensor
  LEFT JOIN series ON series.sensor_id = sensor.id
 WHERE sensor.deleted_at IS NOT NULL AND sensor.emptied_at IS NULL
 GROUP BY sensor.id
 ORDER BY sensor.deleted_at, sensor.id
 LIMIT $1;

-- name: mark_emptied
-- $1 sensor ids
UPDATE sensor SET emptied_at = now() WHERE id = ANY($1::int[]);

-- name: drop_emptied
-- Drops the sensors without readings, and everything that refers to them. A sensor stays while people still have to be
-- told about its alerts, but at most for a day.
WITH dropped AS (
    DELETE FROM sensor
     WHERE deleted_at IS NOT NULL AND emptied_at IS NOT NULL
       AND (deleted_at < now() - INTERVAL '1 day'
            OR NOT EXISTS (SELECT FROM alert_episode JOIN series ON series.id = alert_episode.series_id
                            WHERE series.sensor_id = sensor.id AND NOT alert_episode.settled))
    RETURNING id, deleted_name
), states AS (
    DELETE FROM series_state WHERE series_id IN (SELECT series.id FROM series JOIN dropped ON dropped.id = sensor_id)
)
SELECT deleted_name AS name FROM dropped ORDER BY deleted_name;
