-- Queries for messages about episodes. Times are microseconds since 1970 (from_us, to_us).

-- name: get_now
-- The database's clock, in microseconds since 1970; `due_at` is compared with it.
SELECT to_us(clock_timestamp());

-- name: list_unsettled
-- $1 names of the rules that look at second metrics
-- Episodes about which a message may still be needed, with the fields of a message and what each channel was told. It is
-- one statement, so that everything is of one moment.
-- `told` leaves out channels that have received the item `withdrawn`: they get no further message about the episode.
SELECT episode.id, episode.rule, episode.series_id, coalesce(episode.gateway, sensor.gateway) AS gateway, episode.kind,
       to_us(episode.started_at) AS started_us, to_us(episode.fired_at) AS fired_us,
       to_us(episode.resolved_at) AS resolved_us, episode.level, episode.steps, episode.condition, episode.threshold,
       episode.fired_value, episode.peak, to_us(episode.closed_at) AS closed_us, episode.closed_by,
       episode.closed_note, episode.closed_level, to_us(episode.first_told_at) AS first_told_us,
       episode.reason, episode.merged_into, to_us(episode.first_known_at) AS first_known_us,
       episode.acked_by, episode.acked_level, episode.revision,
       coalesce(sensor.name, sensor.deleted_name) AS sensor,
       CASE WHEN episode.series_id IS NULL THEN gateway_tags(episode.gateway) ELSE sensor.tags END AS tags,
       series.metric, series.unit,
       to_us(state.last_time) AS last_us, state.last_value, to_us(state.received_at) AS received_us,
       coalesce(state.only_imported, FALSE) AS only_imported,
       episode.id IN (SELECT item.episode_id
                        FROM notification
                        JOIN notification_item AS item ON item.notification_id = notification.id
                       WHERE notification.state = 'sending') AS is_being_sent,
       uploads.refused_for, uploads.skew_s,
       -- The second metrics that are not known now, each with the time since when, null if it was never seen.
       CASE WHEN episode.rule = ANY($1::text[]) AND episode.resolved_at IS NULL AND episode.kind = 'threshold' THEN
            (SELECT jsonb_agg(jsonb_build_array(unknown.metric, to_us(unknown.since)) ORDER BY unknown.metric)
               FROM unknown_companion_view AS unknown
              WHERE unknown.rule = episode.rule AND unknown.series_id = episode.series_id)
       END AS unknown,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(told.channel, told.told, told.told_level, told.message_ref)), '[]')
          FROM alert_told AS told
         WHERE told.episode_id = episode.id
           AND NOT EXISTS (SELECT FROM notification_item AS item
                            WHERE item.channel = told.channel AND item.episode_id = episode.id
                              AND item.kind = 'withdrawn')) AS told
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
  LEFT JOIN series_state AS state ON state.series_id = episode.series_id
  LEFT JOIN LATERAL (
       -- The gateway, if it has uploaded since and nothing of that was taken. Both times are those of receipt, by two clocks.
       SELECT gateway.refused_for, gateway.skew_s
         FROM gateway
        WHERE gateway.name = coalesce(episode.gateway, sensor.gateway, sensor.created_by)
          AND gateway.last_upload_at > episode.started_at + INTERVAL '5 seconds'
          AND coalesce(gateway.last_taken_at, '-infinity') < episode.started_at + INTERVAL '5 seconds'
          AND gateway.refused_for IS NOT NULL
        ORDER BY gateway.last_upload_at DESC
        LIMIT 1
  ) AS uploads ON episode.kind = 'no_data'
 WHERE NOT episode.settled
 ORDER BY episode.id;

-- name: settle
-- $1 episode ids
UPDATE alert_episode SET settled = TRUE WHERE id = ANY($1::bigint[]);

-- name: list_last_messages
-- For each channel and group: when the newest six messages were sent or claimed (`sent`), and when dead letters were
-- given up (`dead`), the newest first.
SELECT channel, group_key, state, array_agg(us ORDER BY us DESC) AS times
  FROM (
      SELECT channel, group_key, CASE WHEN state = 'dead' THEN 'dead' ELSE 'sent' END AS state,
             to_us(coalesce(finished_at, claimed_at)) AS us,
             row_number() OVER (PARTITION BY channel, group_key, state = 'dead'
                                    ORDER BY coalesce(finished_at, claimed_at) DESC) AS number
        FROM notification
       WHERE state IN ('sent', 'dead') AND finished_at > now() - INTERVAL '8 days' OR state = 'sending'
  ) AS message
 WHERE number <= 6
 GROUP BY 1, 2, 3;

-- name: list_series_of_gateways
-- $1 gateways. The series of their sensors that are in use.
SELECT sensor.gateway, sensor.name AS sensor, series.metric, sensor.tags
  FROM sensor
  JOIN series ON series.sensor_id = sensor.id
 WHERE sensor.gateway = ANY($1::text[]) AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;

-- name: list_silences
-- The silences in force.
SELECT id, matchers, to_us(ends_at) AS ends_us FROM silence WHERE starts_at <= now() AND ends_at > now();

-- name: count_change
-- $1 episode ids. Increases their revision, because a further message is needed.
UPDATE alert_episode SET revision = revision + 1 WHERE id = ANY($1::bigint[]);

-- name: note_told
-- $1 episode ids, $2 those that were told as over before. Notes that people are told now that they fire.
UPDATE alert_episode SET first_told_at = now()
 WHERE id = ANY($1::bigint[]) AND (first_told_at IS NULL OR id = ANY($2::bigint[]));

-- name: drop_ack
-- $1 episode ids. Removes their acknowledgement, because a higher level than the acknowledged one was told.
UPDATE alert_episode SET acked_by = NULL, acked_at = NULL, acked_level = NULL WHERE id = ANY($1::bigint[]);

-- name: list_window
-- $1 series id, $2 from, $3 to. The readings of the window of a sample at $3.
SELECT to_us(time) AS us, value
  FROM reading
 WHERE series_id = $1 AND time >= from_us($2) AND time <= from_us($3)
 ORDER BY time;
