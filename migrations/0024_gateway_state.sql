-- A gateway is offline as long as its own rule says, where it has one, and so says the alert about it.

-- The `after` of the rule of the kind gateway_offline that is about the gateway; null: as its series are judged. Written by
-- the watch over silence.
ALTER TABLE gateway ADD COLUMN offline_after interval;

-- As in 0023.
CREATE OR REPLACE VIEW gateway_view AS
SELECT gateway.name AS gateway, gateway.api_key AS key, gateway.first_upload_at, gateway.last_upload_at,
       coalesce(own.sensors, 0) AS sensors, gateway.uploads, gateway.accepted, gateway.duplicates, gateway.rejected,
       gateway.skew_s, gateway.lateness_s,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) FROM unnest(gateway.intervals_s) AS interval_s)
           AS usual_interval_s,
       CASE WHEN gateway.offline_after IS NULL AND own.all_silent THEN 'offline'
            WHEN now() - greatest(own.newest, ingest.since) > gateway.offline_after THEN 'offline'
            ELSE 'ok' END AS state,
       gateway.conflicts, gateway.rejected_by_code, gateway.last_taken_at,
       CASE WHEN NOT EXISTS (SELECT FROM alert_episode AS episode
                              WHERE episode.kind = 'clock' AND episode.gateway = gateway.name
                                AND episode.resolved_at IS NULL) THEN 'ok'
            WHEN gateway.skew_s < 0 THEN 'ahead'
            ELSE 'behind' END AS clock
  FROM gateway
 CROSS JOIN ingest_view AS ingest
  LEFT JOIN (
      SELECT coalesce(sensor.gateway, sensor.created_by) AS name, count(DISTINCT sensor.id) AS sensors,
             bool_and(series_view.state = 'silent') AS all_silent,
             -- Nobody waits for series of which only history was imported.
             max(series_view.received_at) FILTER (WHERE NOT state.only_imported) AS newest
        FROM series_view
        JOIN series_state AS state ON state.series_id = series_view.series_id
        JOIN sensor ON sensor.id = series_view.sensor_id
       WHERE sensor.retired_at IS NULL AND series_view.received_at IS NOT NULL
       GROUP BY 1
  ) AS own ON own.name = gateway.name;
