-- What an alert's values were, who did what about it, and alerts that were closed by hand.

ALTER TABLE alert_episode
    -- The keyword of the level's condition, such as `above`.
    ADD COLUMN condition text,
    -- What the rule compared: when the alert fired, at the newest sample within it, and farthest past the threshold.
    ADD COLUMN fired_value float8,
    ADD COLUMN value float8,
    ADD COLUMN peak float8,
    ADD COLUMN peak_at timestamptz,
    -- The newest sample that these values include; null: they are computed anew.
    ADD COLUMN valued_to timestamptz,
    -- The alert is over, and its values change only with late readings.
    ADD COLUMN values_final boolean NOT NULL DEFAULT FALSE,
    -- Closed by a person. Its readings may still be past the threshold; then `resolved_at` is null.
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN closed_by text,
    ADD COLUMN closed_note text,
    ADD COLUMN closed_level text,
    -- When people were told of it for the first time, for `escalate`.
    ADD COLUMN first_told_at timestamptz;

-- Of alerts that ended before, the values are looked up in the readings as before.
UPDATE alert_episode SET values_final = TRUE WHERE resolved_at IS NOT NULL OR kind <> 'threshold';
CREATE INDEX alert_episode_values ON alert_episode (series_id) WHERE NOT values_final;

-- Whether a person closed an alert at this level, or at a higher one: a rise of the level opens it again.
CREATE FUNCTION is_closed(level text, closed_level text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path FROM CURRENT
AS $$ SELECT closed_level IS NOT NULL AND level_rank(level) <= level_rank(closed_level) $$;

-- The tags that all sensors of a gateway share: they count as the gateway's own.
CREATE FUNCTION gateway_tags(wanted text) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path FROM CURRENT
AS $$
    WITH own AS (
        SELECT tags FROM sensor WHERE gateway = wanted AND retired_at IS NULL AND deleted_at IS NULL
    )
    SELECT coalesce(jsonb_object_agg(shared.key, shared.value), '{}')
      FROM (SELECT each.key, each.value
              FROM own CROSS JOIN LATERAL jsonb_each(own.tags) AS each
             GROUP BY each.key, each.value
            HAVING count(*) = (SELECT count(*) FROM own)) AS shared
$$;

-- Who acknowledged, closed or silenced what, and when.
CREATE TABLE alert_action (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Null for a silence that was made without an alert.
    episode_id bigint REFERENCES alert_episode (id) ON DELETE CASCADE,
    silence_id bigint REFERENCES silence (id) ON DELETE SET NULL,
    action text NOT NULL CHECK (action IN ('ack', 'close', 'silence', 'extend', 'unsilence')),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The name that was given, else the label of the key.
    by text NOT NULL,
    -- The label of the API key.
    key text NOT NULL,
    note text NOT NULL DEFAULT '',
    -- Level that was acknowledged or closed.
    level text,
    -- End of the silence.
    until timestamptz
);
CREATE INDEX alert_action_episode ON alert_action (episode_id, id);
CREATE INDEX alert_action_silence ON alert_action (silence_id) WHERE silence_id IS NOT NULL;

-- As in 0012, with the stored values, and with what people did.
CREATE OR REPLACE VIEW every_alert_view AS
SELECT episode.id, episode.rule, episode.kind, episode.level,
       CASE WHEN episode.reason = 'retracted' THEN 'retracted'
            WHEN episode.resolved_at IS NULL AND NOT is_closed(episode.level, episode.closed_level) THEN 'firing'
            ELSE 'resolved' END AS state,
       episode.series_id, series.sensor_id, coalesce(sensor.name, sensor.deleted_name) AS sensor, sensor.display_name,
       series.metric,
       coalesce(episode.gateway, sensor.gateway) AS gateway,
       CASE WHEN episode.series_id IS NULL THEN gateway_tags(episode.gateway) ELSE coalesce(sensor.tags, '{}') END AS tags,
       coalesce(episode.unit, series.unit, series.rule_unit) AS unit,
       CASE WHEN episode.kind = 'no_data' THEN state.last_value
            WHEN episode.value IS NOT NULL AND (episode.values_final OR episode.valued_to = state.last_time)
            THEN episode.value
            WHEN episode.value_kind = 'last' AND coalesce(episode.resolved_at, state.last_time) = state.last_time
            THEN state.last_value
            ELSE coalesce(rule_value(episode.value_kind, episode.value_window, episode.series_id,
                                     coalesce(episode.resolved_at, state.last_time)), episode.value)
       END AS value, episode.message_template,
       episode.threshold, episode.steps, episode.started_at, episode.fired_at, episode.resolved_at, episode.reason,
       episode.merged_into, episode.first_known_at, episode.acked_by, episode.acked_at, episode.acked_level,
       CASE WHEN episode.kind = 'threshold'
            THEN coalesce(episode.fired_value, rule_value(episode.value_kind, episode.value_window, episode.series_id,
                                                          episode.fired_at))
       END AS fired_value, sensor.deleted_at,
       episode.peak, episode.condition, episode.closed_at, episode.closed_by, episode.closed_note
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
  LEFT JOIN series_state AS state ON state.series_id = episode.series_id
 WHERE episode.reason IS DISTINCT FROM 'no_data_clear';

CREATE OR REPLACE VIEW alert_view AS
SELECT id, rule, kind, level, state, series_id, sensor_id, sensor, display_name, metric, gateway, tags, unit, value,
       message_template, threshold, steps, started_at, fired_at, resolved_at, reason, merged_into, first_known_at,
       acked_by, acked_at, acked_level, fired_value, peak, condition, closed_at, closed_by, closed_note
  FROM every_alert_view
 WHERE deleted_at IS NULL;

-- As in 0011, without alerts that were closed by hand.
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
         AND NOT is_closed(episode.level, episode.closed_level)
         AND episode.reason IS DISTINCT FROM 'retracted' AND episode.reason IS DISTINCT FROM 'no_data_clear'
  ) AS open
 WHERE sensor.deleted_at IS NULL;

GRANT SELECT ON alert_action TO tidegauge_reader;
