-- One state of series, sensors and gateways, judged by receive time: the API, the live feed, the page, Grafana and
-- `tidegauge doctor` all read these views. The reader role gets the views, never tables that hold secrets.

ALTER TABLE series
    -- How long the series may receive nothing new: the shortest `after` of the rules that watch it, else three times
    -- its usual interval. Written by the watch over silence; null until it has looked at the series.
    ADD COLUMN silent_after interval,
    -- The limits that rules set for the series, for limit lines: [[rule, level, "above" | "below" | "at", number], …]
    ADD COLUMN limits jsonb NOT NULL DEFAULT '[]',
    -- The unit that a rule gives for the values of the series, shown where `unit` is null.
    ADD COLUMN rule_unit text;

ALTER TABLE sensor
    ADD COLUMN display_name text,
    ADD COLUMN notes text,
    -- Set while the sensor is out of use. Lists and states leave it out.
    ADD COLUMN retired_at timestamptz;

-- Since when uploads could be stored without a break: nobody is silent because of our own downtime.
CREATE TABLE ingest_state (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ingest_state DEFAULT VALUES;

-- The mistakes of the current rule files, as texts `file:line:column: message`.
CREATE TABLE rule_problem (
    position int PRIMARY KEY,
    message text NOT NULL
);

ALTER TABLE alert_episode
    -- The rule's own text and unit as of the last change, for those who show alerts without reading the rules.
    ADD COLUMN message_template text,
    ADD COLUMN unit text,
    -- The kind and the window of the value that the rule compares.
    ADD COLUMN value_kind text NOT NULL DEFAULT 'last',
    ADD COLUMN value_window interval NOT NULL DEFAULT '0';

CREATE INDEX alert_episode_unresolved ON alert_episode (series_id) WHERE resolved_at IS NULL;

CREATE FUNCTION level_rank(level text) RETURNS int
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_position(ARRAY['info', 'warning', 'error', 'critical', 'disaster'], level);

-- The value that a rule compares at a reading's time, as app/alerting/episodes/samples.py computes it; null if there is
-- none.
CREATE FUNCTION rule_value(kind text, width interval, series int, at timestamptz) RETURNS float8
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT CASE kind
               WHEN 'last' THEN max(value) FILTER (WHERE time = at)
               WHEN 'avg' THEN avg(value) FILTER (WHERE time > at - width)
               WHEN 'min' THEN min(value) FILTER (WHERE time > at - width)
               WHEN 'max' THEN max(value) FILTER (WHERE time > at - width)
               ELSE CASE WHEN 2 * (at - min(time)) >= width THEN
                        (max(value) FILTER (WHERE time = at) - (array_agg(value ORDER BY time))[1])
                        * CASE kind WHEN 'rate' THEN 3600 / extract(epoch FROM at - min(time))::float8 ELSE 1 END
                    END
               END
          FROM reading
         WHERE series_id = series AND time >= at - width AND time <= at;
    END;

CREATE VIEW series_view AS
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
  LEFT JOIN series_state AS state ON state.series_id = series.id;

-- Alerts as people know them, open and past; `value` is what the rule compares: now while the alert is open, else at its
-- end. An alert about a whole gateway has a gateway and no sensor.
CREATE VIEW alert_view AS
SELECT episode.id, episode.rule, episode.kind, episode.level,
       CASE WHEN episode.reason = 'retracted' THEN 'retracted'
            WHEN episode.resolved_at IS NULL THEN 'firing'
            ELSE 'resolved' END AS state,
       episode.series_id, series.sensor_id, sensor.name AS sensor, sensor.display_name, series.metric,
       coalesce(episode.gateway, sensor.gateway) AS gateway, coalesce(sensor.tags, '{}') AS tags,
       coalesce(episode.unit, series.unit, series.rule_unit) AS unit,
       CASE WHEN episode.kind = 'no_data' THEN state.last_value
            WHEN episode.value_kind = 'last' AND coalesce(episode.resolved_at, state.last_time) = state.last_time
            THEN state.last_value
            ELSE rule_value(episode.value_kind, episode.value_window, episode.series_id,
                            coalesce(episode.resolved_at, state.last_time))
       END AS value, episode.message_template,
       episode.threshold, episode.steps, episode.started_at, episode.fired_at, episode.resolved_at, episode.reason,
       episode.merged_into, episode.first_known_at, episode.acked_by, episode.acked_at, episode.acked_level
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
  LEFT JOIN series_state AS state ON state.series_id = episode.series_id
 WHERE episode.reason IS DISTINCT FROM 'no_data_clear';

-- `state` is the first that holds of retired, alert, silent, late, ok; `level` is that of the worst open alert.
CREATE VIEW sensor_view AS
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
  ) AS open;

-- One row for each gateway and API key that uploads for it; offline once every sensor that came through it is silent.
CREATE VIEW gateway_view AS
SELECT gateway.name AS gateway, gateway.api_key AS key, gateway.first_upload_at, gateway.last_upload_at,
       coalesce(own.sensors, 0) AS sensors, gateway.uploads, gateway.accepted, gateway.duplicates, gateway.rejected,
       gateway.skew_s, gateway.lateness_s,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) FROM unnest(gateway.intervals_s) AS interval_s)
           AS usual_interval_s,
       CASE WHEN own.all_silent THEN 'offline' ELSE 'ok' END AS state
  FROM gateway
  LEFT JOIN (
      SELECT coalesce(sensor.gateway, sensor.created_by) AS name, count(DISTINCT sensor.id) AS sensors,
             bool_and(series_view.state = 'silent') AS all_silent
        FROM series_view
        JOIN sensor ON sensor.id = series_view.sensor_id
       WHERE sensor.retired_at IS NULL AND series_view.received_at IS NOT NULL
       GROUP BY 1
  ) AS own ON own.name = gateway.name;

-- Limit lines of each series.
CREATE VIEW limit_view AS
SELECT series_view.series_id, series_view.sensor, series_view.metric, said.rule, said.level, said.side, said.number
  FROM series_view
 CROSS JOIN LATERAL (
      SELECT one ->> 0 AS rule, one ->> 1 AS level, one ->> 2 AS side, (one ->> 3)::float8 AS number
        FROM jsonb_array_elements(series_view.limits) AS one
  ) AS said;

-- Alert messages and their delivery, without their text.
CREATE VIEW delivery_view AS
SELECT id, channel, group_key, state, due_at, claimed_at, finished_at, attempts, error, created_at FROM notification;

CREATE VIEW late_day_view AS SELECT day FROM late_day;

GRANT SELECT ON series_view, alert_view, sensor_view, gateway_view, limit_view, delivery_view, late_day_view
   TO tidegauge_reader;
