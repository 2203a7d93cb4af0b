-- The API and the worker are processes of their own, any number of each. They know of each other through these rows.

-- When an API process could last take uploads; null: never. Each writes it every 5 s.
ALTER TABLE ingest_state ADD COLUMN beat_at timestamptz;

-- Since when at least one API process could take uploads without a break of 30 s; now() during a break. Nobody is silent
-- because of our own downtime.
CREATE VIEW ingest_view AS
SELECT CASE WHEN beat_at >= now() - INTERVAL '30 seconds' THEN since ELSE now() END AS since FROM ingest_state;

CREATE OR REPLACE VIEW series_view AS
SELECT series.id AS series_id, sensor.id AS sensor_id, sensor.name AS sensor, sensor.display_name, sensor.tags,
       sensor.gateway, series.metric, coalesce(series.unit, series.rule_unit) AS unit, series.limits,
       state.last_time, state.last_value, state.received_at,
       coalesce(series.silent_after, INTERVAL '5 minutes') AS silent_after,
       CASE WHEN state.received_at IS NULL THEN 'ok'
            WHEN now() - greatest(state.received_at, ingest.since)
                 > coalesce(series.silent_after, INTERVAL '5 minutes') THEN 'silent'
            WHEN now() - greatest(state.received_at, ingest.since)
                 > coalesce(series.silent_after, INTERVAL '5 minutes') / 2 THEN 'late'
            ELSE 'ok' END AS state
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 CROSS JOIN ingest_view AS ingest
  LEFT JOIN series_state AS state ON state.series_id = series.id
 WHERE sensor.deleted_at IS NULL;

-- Which process held a lease last: each taking counts. A holder that lost its lease unnoticed sees a greater number and
-- changes nothing.
CREATE TABLE lease (
    number int PRIMARY KEY,
    term bigint NOT NULL DEFAULT 1
);

-- Grows when the rules change. Evaluation and claims compare it in their transaction.
ALTER TABLE rule_set ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- What the worker that holds the lease knows and the API shows.
CREATE TABLE worker_status (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    -- {"at", "seconds", "pairs", "replayed"} of the newest evaluation with new readings
    last_evaluation jsonb,
    -- rule → what is wrong with its `no_data`
    rule_warnings jsonb NOT NULL DEFAULT '{}',
    -- what else needs attention, as texts
    warnings jsonb NOT NULL DEFAULT '[]',
    -- [{"name", "type"}] of the channels that can be used; no settings
    channels jsonb NOT NULL DEFAULT '[]'
);
INSERT INTO worker_status DEFAULT VALUES;

-- Requests for a test message, which the worker sends and answers. Rows of requests that are over are deleted.
CREATE TABLE channel_test (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    taken_at timestamptz,
    answer jsonb
);
