-- Export and import of archives.

-- name: describe_database
-- A replica cannot tell whether a worker runs on its primary.
SELECT current_setting('server_version') AS postgresql, pg_is_in_recovery() AS is_replica,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
       (SELECT max(version) FROM schema_migration) AS schema_version, now() AS exported_at;

-- name: list_columns
-- In order, without generated ones.
SELECT class.relname AS table_name, attribute.attname AS column_name
  FROM pg_class AS class
  JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
 WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind IN ('r', 'v')
   AND attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attgenerated = ''
 ORDER BY class.relname, attribute.attnum;

-- name: list_windows
-- The ranges of time of the chunks of readings, from the oldest on.
SELECT DISTINCT range_start, range_end
  FROM timescaledb_information.chunks
 WHERE hypertable_schema = current_schema() AND hypertable_name = 'reading'
 ORDER BY 1;

-- name: list_sequences
-- The live feed is numbered anew.
SELECT sequencename AS name, last_value
  FROM pg_sequences
 WHERE schemaname = current_schema() AND last_value IS NOT NULL AND sequencename <> 'feed_seq';

-- name: raise_sequences
-- $1 names, $2 highest numbers given. Sequences that are gone are left out.
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, greatest(coalesce(last_value, 1), given.highest))
  FROM pg_sequences
  JOIN unnest($1::text[], $2::bigint[]) AS given (name, highest) ON given.name = sequencename
 WHERE schemaname = current_schema();

-- name: find_import
-- $1 id of an archive
SELECT imported_at FROM archive_import WHERE archive_id = $1;

-- name: record_import
-- $1 id of an archive, $2 when it was exported
INSERT INTO archive_import (archive_id, exported_at) VALUES ($1, $2);

-- name: renew_rules
-- $1 version before the import. All processes read the rules anew.
UPDATE rule_set SET version = greatest(version, $1) + 1;

-- name: renew_sensors
-- Running processes read the sensors anew.
UPDATE sensor_version SET version = version + 1;

-- name: renew_lease
-- A worker that runs gives up the lease and forgets what it knew.
UPDATE lease SET term = term + 1;

-- name: begin_silence
-- Nobody could upload to this database before, so nobody is silent yet.
UPDATE ingest_state SET since = now();

-- name: delete_waiting
-- The worker of the exported database sends them.
DELETE FROM notification WHERE state = 'waiting';

-- name: give_up_sending
-- $1 reason. The worker of the exported database sends these, too. Operators can send each of them again.
UPDATE notification
   SET state = 'dead', finished_at = clock_timestamp(), attempt_started_at = NULL, next_attempt_at = NULL, error = $1,
       lost_items = (SELECT jsonb_agg(jsonb_build_object('episode_id', episode_id, 'revision', revision,
                                                         'kind', kind, 'level', level) ORDER BY episode_id)
                       FROM notification_item WHERE notification_id = notification.id)
 WHERE state = 'sending';

-- name: settle_pending
-- Marks episodes as settled whose messages were given up. Open ones that were told as they are stay unsettled until
-- they end.
UPDATE alert_episode AS episode
   SET settled = TRUE
 WHERE NOT settled
   AND NOT (resolved_at IS NULL
            AND EXISTS (SELECT FROM alert_told
                         WHERE episode_id = episode.id AND told = 'firing' AND told_level = episode.level));
