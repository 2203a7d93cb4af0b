-- The flush, registration of series, idempotency and gateways. Times are microseconds since 1970 (from_us).

-- name: get_sensor_version
SELECT version FROM sensor_version;

-- name: hold_sensors
-- Makes changes of sensors wait until the transaction ends.
SELECT version FROM sensor_version FOR SHARE;

-- name: find_series
-- $1 names, present or old ones. For a sensor without series, returns one row in which the series is null. The unit of
-- an operator counts as older than any reading.
SELECT given.name AS given_name, sensor.id, sensor.name, sensor.created_by, sensor.owner,
       sensor.retired_at IS NOT NULL AS is_retired,
       sensor.uploaded_tags::text AS tags, to_us(nullif(sensor.tags_at, '-infinity')) AS tags_us,
       sensor.gateway, to_us(nullif(sensor.gateway_at, '-infinity')) AS gateway_us,
       series.id AS series_id, series.metric,
       CASE series.unit_at WHEN 'infinity' THEN NULL
                           WHEN '-infinity' THEN -4611686018427387904
                           ELSE to_us(series.unit_at) END AS unit_us
  FROM unnest($1::text[]) AS given (name)
  JOIN sensor ON sensor.id = find_sensor(given.name)
  LEFT JOIN series ON series.sensor_id = sensor.id;

-- name: count_sensors_of_key
-- $1 label of the API key
SELECT count(*) FROM sensor WHERE created_by = $1 AND deleted_at IS NULL;

-- name: count_series_of_key
-- $1 label of the API key that registered the sensors
SELECT count(*) FROM series JOIN sensor ON sensor.id = sensor_id WHERE created_by = $1 AND deleted_at IS NULL;

-- name: list_gateways_of_key
-- $1 label of the API key
SELECT name FROM gateway WHERE api_key = $1;

-- name: insert_sensors
-- $1 names, $2 labels of the API keys that brought them, $3 the gateways, where they are named. Inserted in order of
-- name, so that processes never deadlock.
INSERT INTO sensor (name, created_by, owner)
SELECT name, created_by, owner
  FROM unnest($1::text[], $2::text[], $3::text[]) AS new (name, created_by, owner)
 WHERE NOT EXISTS (SELECT FROM sensor_alias AS alias WHERE alias.name = new.name)
 ORDER BY name
ON CONFLICT (name) DO NOTHING;

-- name: claim_sensors
-- $1 sensor ids, $2 gateway
UPDATE sensor SET owner = $2 WHERE id = ANY($1::int[]) AND owner IS NULL;

-- name: list_owners
-- $1 sensor ids
SELECT id, owner FROM sensor WHERE id = ANY($1::int[]);

-- name: upsert_foreign_sensors
-- $1 ids of sensors, $2 gateways that sent them, $3 times; in ascending order. A sensor that was just deleted is left out.
WITH gone AS (
     DELETE FROM foreign_sensor
      WHERE (sensor_id, gateway) IN (
            SELECT sensor_id, gateway FROM foreign_sensor
             WHERE seen_at < now() - INTERVAL '1 day'
               FOR UPDATE SKIP LOCKED
      )
)
INSERT INTO foreign_sensor AS known (sensor_id, gateway, seen_at)
SELECT sensor.id, new.gateway, from_us(new.us)
  FROM unnest($1::int[], $2::text[], $3::bigint[]) AS new (sensor_id, gateway, us)
  JOIN sensor ON sensor.id = new.sensor_id
 ORDER BY sensor.id, new.gateway
ON CONFLICT (sensor_id, gateway) DO UPDATE SET seen_at = greatest(known.seen_at, excluded.seen_at);

-- name: insert_series
-- $1 sensor ids, $2 metrics. A sensor that was just deleted gets none.
INSERT INTO series (sensor_id, metric)
SELECT sensor.id, new.metric
  FROM unnest($1::int[], $2::text[]) AS new (sensor_id, metric)
  JOIN sensor ON sensor.id = new.sensor_id AND sensor.deleted_at IS NULL
 ORDER BY sensor.id, new.metric
ON CONFLICT (sensor_id, metric) DO NOTHING;

-- name: update_sensor_tags
-- $1 sensor ids, $2 tags as PostgreSQL writes jsonb, $3 times of the readings that brought them. The tags of the newest
-- reading are kept; at equal times the greater text, so that the order of arrival does not matter.
UPDATE sensor SET uploaded_tags = new.tags::jsonb, tags = coalesce(set_tags, new.tags::jsonb), tags_at = from_us(new.us)
  FROM unnest($1::int[], $2::text[], $3::bigint[]) AS new (id, tags, us)
 WHERE sensor.id = new.id
   AND (from_us(new.us), new.tags COLLATE "C") > (sensor.tags_at, sensor.uploaded_tags::text COLLATE "C");

-- name: update_sensor_gateway
-- $1 sensor ids, $2 gateways, $3 times of the readings that came through them
UPDATE sensor SET gateway = new.gateway, gateway_at = from_us(new.us)
  FROM unnest($1::int[], $2::text[], $3::bigint[]) AS new (id, gateway, us)
 WHERE sensor.id = new.id
   AND (from_us(new.us), new.gateway COLLATE "C") > (sensor.gateway_at, coalesce(sensor.gateway, '') COLLATE "C");

-- name: update_series_unit
-- $1 series ids, $2 units, $3 times of the readings that brought them. The unit of the oldest reading is kept; at equal
-- times the smaller text, so that the order of arrival does not matter.
UPDATE series SET unit = new.unit, unit_at = from_us(new.us)
  FROM unnest($1::int[], $2::text[], $3::bigint[]) AS new (id, unit, us)
 WHERE series.id = new.id
   AND (from_us(new.us), new.unit COLLATE "C") < (series.unit_at, coalesce(series.unit, '') COLLATE "C");

-- name: lock_sensors
-- $1 ids. Locks the rows in order of id before the updates above, so that processes never deadlock.
SELECT id FROM sensor WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE;

-- name: lock_series
-- $1 ids. Locks the rows in order of id.
SELECT id FROM series WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE;

-- name: list_descriptions
-- $1 sensor ids
SELECT id, uploaded_tags::text AS tags, to_us(nullif(tags_at, '-infinity')) AS tags_us,
       gateway, to_us(nullif(gateway_at, '-infinity')) AS gateway_us
  FROM sensor
 WHERE id = ANY($1::int[]);

-- name: store_small_flush
-- $1 version of the sensors, $2 whether any decompression is allowed, $3 to $5 readings as in insert_readings, $6 to $19
-- as $2 to $15 of record_readings, $20 to $22 labels, keys and body hashes of answers, $23 the answers if all readings
-- are new and $24 whether these have a seq, $25 the answers if none is new
SELECT flush.seq, flush.legacy_ids, CASE WHEN flush.seq IS NULL THEN find_conflicts_1($3, $4, $5, 2) END AS conflicts
  FROM store_small_flush_3(
           $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
           $24, $25
       ) AS flush;

-- name: find_conflicts
-- $1 series ids, $2 times, $3 values, $4 largest number of days. The numbers, from 1, of the readings of the latest days
-- for which another value is stored.
SELECT find_conflicts_1($1, $2, $3, $4);

-- name: insert_readings
-- $1 series ids, $2 times, $3 values; sorted by UTC day, series and time. The series and times of what was new, in arrays,
-- because five thousand rows would take the client ten times as long.
WITH inserted AS (
    INSERT INTO reading (series_id, time, value)
    SELECT series_id, from_us(us), value
      FROM unnest($1::int[], $2::bigint[], $3::float8[]) AS new (series_id, us, value)
    ON CONFLICT (series_id, time) DO NOTHING
    RETURNING series_id, time
)
SELECT coalesce(array_agg(series_id), '{}') AS series_ids, coalesce(array_agg(to_us(time)), '{}') AS times_us
  FROM inserted;

-- name: count_stored
-- $1 series ids, $2 times, $3 the earliest time and $4 the latest
SELECT count(*)
  FROM unnest($1::int[], $2::bigint[]) AS asked (series_id, us)
  JOIN reading ON reading.series_id = asked.series_id AND reading.time = from_us(us)
 WHERE reading.time BETWEEN from_us($3) AND from_us($4);

-- name: record_readings
-- $1 number of new readings, $2 touched UTC days and $3 the oldest new time of each, $4 to $6 as in update_series_state,
-- $7 summaries of the new readings of series, packed as in app/summaries.py, and $8 whether the readings are late,
-- $9 parts of the payload of the feed row, $10 to $15 records of the replaced server: sensors, times, temperatures,
-- humidities, pressures and client addresses. Returns the version of the sensors as well, to save a round trip.
SELECT feed_id, legacy_ids, version
  FROM record_readings_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: update_series_state
-- $1 series ids in ascending order, $2 time and $3 value of the newest new reading of each
SELECT update_series_state_1($1, $2, $3);

-- name: touch_series_state
-- $1 series ids in ascending order. Readings that are pending were received, but are not the latest ones yet.
WITH locked AS MATERIALIZED (
    SELECT series_id FROM series_state WHERE series_id = ANY($1::int[]) ORDER BY series_id FOR NO KEY UPDATE
)
UPDATE series_state AS state SET received_at = now(), only_imported = FALSE
  FROM locked
 WHERE state.series_id = locked.series_id;

-- name: upsert_state_of_import
-- As update_series_state, for an imported file. A reading older than a day does not count as received now.
INSERT INTO series_state AS state (series_id, last_time, last_value, received_at, only_imported)
SELECT series_id, from_us(us), value,
       CASE WHEN from_us(us) < now() - INTERVAL '1 day' THEN from_us(us) ELSE now() END,
       from_us(us) < now() - INTERVAL '1 day'
  FROM unnest($1::int[], $2::bigint[], $3::float8[]) AS new (series_id, us, value)
ON CONFLICT (series_id) DO UPDATE SET
    last_value = CASE WHEN excluded.last_time > state.last_time THEN excluded.last_value ELSE state.last_value END,
    last_time = greatest(state.last_time, excluded.last_time),
    received_at = CASE WHEN excluded.only_imported AND NOT state.only_imported THEN state.received_at
                       ELSE greatest(state.received_at, excluded.received_at) END,
    only_imported = state.only_imported AND excluded.only_imported;

-- name: get_database_identity
-- Tells this database from others, also from one of the same name that was made later.
SELECT format('%s %s', (SELECT oid FROM pg_database WHERE datname = current_database()), min(applied_at))
  FROM schema_migration;

-- name: bring_back_sensors
-- $1 ids of retired sensors that report again
UPDATE sensor SET retired_at = NULL
 WHERE id IN (SELECT id FROM sensor WHERE id = ANY($1::int[]) AND retired_at IS NOT NULL
               ORDER BY id FOR NO KEY UPDATE);

-- name: get_feed_seq
-- Returns the sequence number that this session's last commit gave to its feed row.
SELECT currval('feed_seq');

-- name: insert_idempotency
-- $1 API key labels, $2 keys in ascending order, $3 body hashes, $4 answers, $5 feed ids. Returns the inserted ones.
INSERT INTO idempotency (api_key, key, body_sha256, answer, feed_id)
SELECT api_key, key, body_sha256, answer::jsonb, feed_id
  FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
       AS new (api_key, key, body_sha256, answer, feed_id)
ON CONFLICT (api_key, key) DO NOTHING
RETURNING api_key, key;

-- name: find_idempotency
-- $1 API key label, $2 key
SELECT body_sha256, answer, seq FROM idempotency WHERE api_key = $1 AND key = $2;

-- name: prune_idempotency
DELETE FROM idempotency WHERE created_at < now() - INTERVAL '1 day';

-- name: prune_legacy_readings
DELETE FROM legacy_reading WHERE id <= (SELECT max(id) FROM legacy_reading) - 10000;

-- name: upsert_gateways
-- $1 API key labels and $2 gateway names in ascending order; $3 times of the first and $4 of the last upload; numbers
-- of $5 uploads, $6 accepted, $7 duplicate, $8 conflicting and $9 rejected values, $10 these by code; $11 skew and $12
-- lateness in seconds; $13 when something was last taken; $14 why nothing of the last upload was; as texts such as
-- '{1.5,2}': $15 intervals between these uploads in seconds, $16 how late those were that brought only new readings, $17
-- skews and $18 their times. The last 20 of each are kept. $19 how often fields were left out, and $20 when last; those
-- of the 20 most frequent are kept.
INSERT INTO gateway AS g (api_key, name, first_upload_at, last_upload_at, uploads, accepted, duplicates, conflicts,
                          rejected, rejected_by_code, skew_s, lateness_s, last_taken_at, refused_for, intervals_s,
                          latenesses_s, skews_s, skews_at, unknown_fields, unknown_fields_at)
SELECT api_key, name, from_us(first_us), from_us(last_us), uploads, accepted, duplicates, conflicts, rejected, by_code,
       skew_s, lateness_s, from_us(taken_us), refused_for, intervals::float8[], latenesses::float8[], skews::float8[],
       ARRAY(SELECT from_us(us) FROM unnest(skews_us::bigint[]) WITH ORDINALITY AS each (us, place) ORDER BY place),
       unknown_fields, from_us(unknown_us)
  FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
              $8::bigint[], $9::bigint[], $10::jsonb[], $11::float8[], $12::float8[], $13::bigint[], $14::text[],
              $15::text[], $16::text[], $17::text[], $18::text[], $19::jsonb[], $20::bigint[])
       AS new (api_key, name, first_us, last_us, uploads, accepted, duplicates, conflicts, rejected, by_code, skew_s,
               lateness_s, taken_us, refused_for, intervals, latenesses, skews, skews_us, unknown_fields, unknown_us)
ON CONFLICT (api_key, name) DO UPDATE SET
    last_upload_at = greatest(g.last_upload_at, excluded.last_upload_at),
    uploads = g.uploads + excluded.uploads,
    accepted = g.accepted + excluded.accepted,
    duplicates = g.duplicates + excluded.duplicates,
    conflicts = g.conflicts + excluded.conflicts,
    rejected = g.rejected + excluded.rejected,
    rejected_by_code = (
        SELECT coalesce(jsonb_object_agg(code, n), '{}')
          FROM (SELECT code, sum(n::bigint) AS n
                  FROM (SELECT * FROM jsonb_each_text(g.rejected_by_code)
                        UNION ALL SELECT * FROM jsonb_each_text(excluded.rejected_by_code)) AS counted (code, n)
                 GROUP BY code) AS summed
    ),
    skew_s = coalesce(excluded.skew_s, g.skew_s),
    lateness_s = coalesce(excluded.lateness_s, g.lateness_s),
    last_taken_at = greatest(g.last_taken_at, excluded.last_taken_at),
    refused_for = excluded.refused_for,
    intervals_s = (
        g.intervals_s
        || greatest(extract(epoch FROM excluded.first_upload_at - g.last_upload_at)::float8, 0)
        || excluded.intervals_s
    )[greatest(cardinality(g.intervals_s) + cardinality(excluded.intervals_s) - 18, 1):],
    latenesses_s = (g.latenesses_s || excluded.latenesses_s)
        [greatest(cardinality(g.latenesses_s) + cardinality(excluded.latenesses_s) - 19, 1):],
    skews_s = (g.skews_s || excluded.skews_s)
              [greatest(cardinality(g.skews_s) + cardinality(excluded.skews_s) - 19, 1):],
    skews_at = (g.skews_at || excluded.skews_at)
               [greatest(cardinality(g.skews_at) + cardinality(excluded.skews_at) - 19, 1):],
    unknown_fields = (
        SELECT coalesce(jsonb_object_agg(field, n), '{}')
          FROM (SELECT field, sum(n::bigint) AS n
                  FROM (SELECT * FROM jsonb_each_text(g.unknown_fields)
                        UNION ALL SELECT * FROM jsonb_each_text(excluded.unknown_fields)) AS counted (field, n)
                 GROUP BY field ORDER BY n DESC, field LIMIT 20) AS summed
    ),
    unknown_fields_at = coalesce(excluded.unknown_fields_at, g.unknown_fields_at);

-- name: insert_refusals
-- $1 gateways, $2 labels of API keys, $3 times, $4 paths, $5 errors, $6 numbers of rejected values, $7 these by code,
-- $8 the first ones as JSON, $9 beginnings of bodies
INSERT INTO gateway_refusal (gateway, api_key, at, path, error, rejected, by_code, listed, body)
SELECT gateway, api_key, from_us(us), path, error, rejected, by_code, listed::jsonb, body
  FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::jsonb[], $8::text[],
              $9::text[])
       WITH ORDINALITY AS new (gateway, api_key, us, path, error, rejected, by_code, listed, body, place)
 ORDER BY place;

-- name: prune_refusals
-- $1 gateways, $2 number that is kept of each
DELETE FROM gateway_refusal AS refusal
 USING unnest($1::text[]) AS written (name)
 WHERE refusal.gateway = written.name
   AND refusal.id <= (SELECT id FROM gateway_refusal AS newer
                       WHERE newer.gateway = written.name ORDER BY id DESC OFFSET $2 LIMIT 1);

-- name: lock_as_flushes
-- Waits for the locks that a flush would wait for; of `reading`, only the lock of the table, not those of its chunks.
LOCK TABLE sensor, series, ONLY reading, series_state, dirty, late_day, feed IN ROW EXCLUSIVE MODE;

-- name: beat
-- Stores that an API process can take uploads now. Since the moment `since`, at least one process could, without a break
-- of 30 s.
UPDATE ingest_state
   SET since = CASE WHEN beat_at >= now() - INTERVAL '30 seconds' THEN since ELSE now() END,
       beat_at = greatest(beat_at, now());
