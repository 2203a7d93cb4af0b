-- What a rule compared when an alert fired, and what the list of alerts looks up.

-- As in 0010, but planned anew at each call: a plan that knows the time opens the one chunk that holds it rather than
-- all of them, which takes a fifteenth of the time.
CREATE OR REPLACE FUNCTION rule_value(kind text, width interval, series int, at timestamptz) RETURNS float8
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path FROM CURRENT
    SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN (
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
         WHERE series_id = series AND time >= at - width AND time <= at
    );
END $$;

-- Alerts as in 0010, those of sensors that are being removed included: the end of such an alert is still told.
-- `fired_value` is what the rule compared when the alert fired; null for missing data, and where the readings are gone.
CREATE VIEW every_alert_view AS
SELECT episode.id, episode.rule, episode.kind, episode.level,
       CASE WHEN episode.reason = 'retracted' THEN 'retracted'
            WHEN episode.resolved_at IS NULL THEN 'firing'
            ELSE 'resolved' END AS state,
       episode.series_id, series.sensor_id, coalesce(sensor.name, sensor.deleted_name) AS sensor, sensor.display_name,
       series.metric,
       coalesce(episode.gateway, sensor.gateway) AS gateway, coalesce(sensor.tags, '{}') AS tags,
       coalesce(episode.unit, series.unit, series.rule_unit) AS unit,
       CASE WHEN episode.kind = 'no_data' THEN state.last_value
            WHEN episode.value_kind = 'last' AND coalesce(episode.resolved_at, state.last_time) = state.last_time
            THEN state.last_value
            ELSE rule_value(episode.value_kind, episode.value_window, episode.series_id,
                            coalesce(episode.resolved_at, state.last_time))
       END AS value, episode.message_template,
       episode.threshold, episode.steps, episode.started_at, episode.fired_at, episode.resolved_at, episode.reason,
       episode.merged_into, episode.first_known_at, episode.acked_by, episode.acked_at, episode.acked_level,
       CASE WHEN episode.kind = 'threshold'
            THEN rule_value(episode.value_kind, episode.value_window, episode.series_id, episode.fired_at)
       END AS fired_value, sensor.deleted_at
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
  LEFT JOIN series_state AS state ON state.series_id = episode.series_id
 WHERE episode.reason IS DISTINCT FROM 'no_data_clear';

CREATE OR REPLACE VIEW alert_view AS
SELECT id, rule, kind, level, state, series_id, sensor_id, sensor, display_name, metric, gateway, tags, unit, value,
       message_template, threshold, steps, started_at, fired_at, resolved_at, reason, merged_into, first_known_at,
       acked_by, acked_at, acked_level, fired_value
  FROM every_alert_view
 WHERE deleted_at IS NULL;

-- The messages about an alert: those with items, and dead letters.
CREATE INDEX notification_item_episode ON notification_item (episode_id);
CREATE INDEX notification_lost_items ON notification USING gin (lost_items jsonb_path_ops)
    WHERE lost_items IS NOT NULL;
