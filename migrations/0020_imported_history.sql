-- A series of which only history was imported from a file is neither late nor silent: nobody waits for its data. The watch
-- over silence leaves it out, and so does its state now. The view is otherwise that of 0014.

CREATE OR REPLACE VIEW series_view AS
SELECT series.id AS series_id, sensor.id AS sensor_id, sensor.name AS sensor, sensor.display_name, sensor.tags,
       sensor.gateway, series.metric, coalesce(series.unit, series.rule_unit) AS unit, series.limits,
       state.last_time, state.last_value, state.received_at,
       coalesce(series.silent_after, INTERVAL '5 minutes') AS silent_after,
       CASE WHEN state.received_at IS NULL OR state.only_imported THEN 'ok'
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
