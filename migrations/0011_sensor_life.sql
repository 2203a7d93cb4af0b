-- The life of a sensor: what operators set, old names, sensors that are deleted.

-- The key of app/db/locks.py: a running evaluation holds locks on some of these tables.
SELECT pg_advisory_xact_lock(7422, 1);

ALTER TABLE sensor
    -- Null for a deleted sensor, so that its name is free.
    ALTER COLUMN name DROP NOT NULL,
    -- The tags of the newest reading that brought some, at `tags_at`. `tags` are those that count: `set_tags`, else these.
    ADD COLUMN uploaded_tags jsonb NOT NULL DEFAULT '{}',
    -- The tags that an operator has set, which uploads do not change; null where none has.
    ADD COLUMN set_tags jsonb,
    -- Set from the moment when nobody can see the sensor any more until its readings are removed; then the row goes.
    ADD COLUMN deleted_at timestamptz,
    -- The name that a deleted sensor had, for the last messages about its alerts.
    ADD COLUMN deleted_name text,
    -- When nothing was left of the readings of a deleted sensor.
    ADD COLUMN emptied_at timestamptz,
    ADD CHECK ((name IS NULL) = (deleted_at IS NOT NULL AND deleted_name IS NOT NULL));
UPDATE sensor SET uploaded_tags = tags WHERE tags <> '{}';
CREATE INDEX sensor_deleted ON sensor (id) WHERE deleted_at IS NOT NULL;

-- Event time of the reading that brought the unit; the oldest wins, whatever the order of arrival. -infinity: an
-- operator has set it. infinity: there is none.
ALTER TABLE series ADD COLUMN unit_at timestamptz NOT NULL DEFAULT 'infinity';
UPDATE series SET unit_at = '-infinity' WHERE unit IS NOT NULL;

-- Only history of the series was imported from a file, so nothing is known of now: nobody waits for its data.
ALTER TABLE series_state ADD COLUMN only_imported boolean NOT NULL DEFAULT FALSE;

-- Old names of renamed sensors: uploads and queries under them reach the sensor.
CREATE TABLE sensor_alias (
    name text PRIMARY KEY,
    sensor_id int NOT NULL REFERENCES sensor (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sensor_alias_of ON sensor_alias (sensor_id);
GRANT SELECT ON sensor_alias TO tidegauge_reader;

-- Counts the changes by operators that a flush must know of. Each process knows the sensors as of one version; a flush of
-- a process that knows an older one is rolled back and done again. So no upload that begins after a change goes to a
-- deleted sensor, or out under an old name. One that is under way meanwhile counts as before the change.
CREATE TABLE sensor_version (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    version bigint NOT NULL DEFAULT 0
);
INSERT INTO sensor_version DEFAULT VALUES;

-- A sensor by its name or an old name of it; null if there is none.
CREATE FUNCTION find_sensor(wanted text) RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT coalesce(
            (SELECT id FROM sensor WHERE name = wanted),
            (SELECT sensor_id FROM sensor_alias WHERE name = wanted)
        );
    END;

-- What belongs to a sensor goes with its row.
ALTER TABLE series
    DROP CONSTRAINT series_sensor_id_fkey,
    ADD FOREIGN KEY (sensor_id) REFERENCES sensor (id) ON DELETE CASCADE;
ALTER TABLE alert_state
    DROP CONSTRAINT alert_state_series_id_fkey,
    ADD FOREIGN KEY (series_id) REFERENCES series (id) ON DELETE CASCADE;
ALTER TABLE alert_episode
    DROP CONSTRAINT alert_episode_series_id_fkey,
    DROP CONSTRAINT alert_episode_merged_into_fkey,
    ADD FOREIGN KEY (series_id) REFERENCES series (id) ON DELETE CASCADE,
    ADD FOREIGN KEY (merged_into) REFERENCES alert_episode (id) ON DELETE SET NULL;
CREATE INDEX alert_episode_merged_into ON alert_episode (merged_into) WHERE merged_into IS NOT NULL;

-- The views of 0010 without deleted sensors.

CREATE OR REPLACE VIEW series_view AS
SELECT series.id AS series_id, sensor.id AS sensor_id, sensor.name AS sensor, sensor.display_name, sensor.tags,
       sensor.gateway, series.metric, coalesce(series.unit, series.rule_unit) AS unit, series.limits,
       state.last_time, state.last_value, state.received_at,
       coalesce(series.silent_after, INTERVAL '5 minutes') AS silent_after,
       CASE WHEN state.received_at IS NULL THEN 'ok'
            WHEN now() - greatest(state.received_at, ingest_state.since)
                 > coalesce(series.silent_after, INTERVAL '5 minutes') THEN 'silent'
            WHEN now() - greatest(state.received_at, ingest_state.since)
                 > coalesce(series.silent_after, INTERVAL '5 minutes') / 2 THEN 'late'
            ELSE 'ok' END AS state
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 CROSS JOIN ingest_state
  LEFT JOIN series_state AS state ON state.series_id = series.id
 WHERE sensor.deleted_at IS NULL;

CREATE OR REPLACE VIEW sensor_view AS
SELECT sensor.id AS sensor_id, sensor.name AS sensor, sensor.display_name, sensor.tags, sensor.gateway,
       sensor.expected_interval, sensor.notes, sensor.retired_at, own.received_at, own.last_time, own.metrics,
       CASE WHEN sensor.retired_at IS NOT NULL THEN 'retired'
            WHEN open.level IS NOT NULL THEN 'alert'
            WHEN own.all_silent THEN 'silent'
            WHEN own.any_late THEN 'late'
            ELSE 'ok' END AS state,
       CASE WHEN sensor.retired_at IS NULL THEN open.level END AS level
  FROM sensor
 CROSS JOIN LATERAL (
      SELECT max(received_at) AS received_at, max(last_time) AS last_time, count(received_at) AS metrics,
             bool_and(state = 'silent') AS all_silent, bool_or(state <> 'ok') AS any_late
        FROM series_view
       WHERE series_view.sensor_id = sensor.id AND received_at IS NOT NULL
  ) AS own
 CROSS JOIN LATERAL (
      SELECT (array_agg(episode.level ORDER BY level_rank(episode.level) DESC))[1] AS level
        FROM series
        JOIN alert_episode AS episode ON episode.series_id = series.id
       WHERE series.sensor_id = sensor.id AND episode.resolved_at IS NULL
         AND episode.reason IS DISTINCT FROM 'retracted' AND episode.reason IS DISTINCT FROM 'no_data_clear'
  ) AS open
 WHERE sensor.deleted_at IS NULL;
