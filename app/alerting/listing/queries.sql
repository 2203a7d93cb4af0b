-- Queries of lists of alerts and rules.

-- name: list_alert_ids
-- $1 only open alerts, $2 and $3 page cursor: alerts before this fired_at and id, $4 largest number of alerts,
-- $5 rule or null, $6 sensor or null.
SELECT episode.id, episode.fired_at
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
 WHERE (NOT $1 OR (episode.resolved_at IS NULL AND NOT is_closed(episode.level, episode.closed_level)
                   AND episode.reason IS DISTINCT FROM 'retracted'))
   AND episode.reason IS DISTINCT FROM 'no_data_clear'
   AND (episode.fired_at, episode.id) < ($2::timestamptz, $3::bigint)
   AND ($5::text IS NULL OR episode.rule = $5) AND ($6::text IS NULL OR sensor.id = (SELECT find_sensor($6)))
   AND sensor.deleted_at IS NULL
 ORDER BY episode.fired_at DESC, episode.id DESC
 LIMIT $4;

-- name: list_alerts
-- $1 ids. Values are what the rule compares: the newest within the episode, when it fired, and the peak. Of alerts whose
-- peak was never stored, lowest and highest are of the readings within the episode. An older version stored no condition,
-- without which the peak is never stored. Of whole hours the aggregate is read: an alert that lasts for weeks has millions
-- of readings.
SELECT episode.id, episode.rule, episode.kind, sensor.name AS sensor, series.metric,
       coalesce(episode.unit, series.unit, series.rule_unit) AS unit,
       coalesce(episode.gateway, sensor.gateway) AS gateway,
       CASE WHEN episode.series_id IS NULL THEN gateway_tags(episode.gateway) ELSE coalesce(sensor.tags, '{}') END AS tags,
       is_closed(episode.level, episode.closed_level) AS is_closed,
       episode.level, episode.started_at, episode.fired_at, episode.resolved_at, episode.reason,
       episode.merged_into, episode.threshold, episode.steps, episode.first_known_at,
       episode.acked_by, episode.acked_at, episode.acked_level, extreme.lowest, extreme.highest,
       episode.condition, episode.peak, coalesce(episode.value_kind, 'last') AS value_kind,
       episode.closed_at, episode.closed_by, episode.closed_note,
       CASE WHEN episode.value IS NOT NULL AND (episode.values_final OR episode.valued_to >= seen.last_time)
            THEN episode.value
            WHEN episode.value_kind = 'last' OR seen.last_time IS NULL THEN coalesce(seen.value, episode.value)
            ELSE coalesce(rule_value(episode.value_kind, episode.value_window, episode.series_id, seen.last_time),
                          episode.value)
       END AS value,
       CASE WHEN episode.kind = 'threshold'
            THEN coalesce(episode.fired_value, rule_value(episode.value_kind, episode.value_window, episode.series_id,
                                                          episode.fired_at))
       END AS fired_value
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
  LEFT JOIN LATERAL (
      SELECT value, time AS last_time,
             date_trunc('hour', episode.started_at - INTERVAL '1 microsecond', 'UTC') + INTERVAL '1 hour' AS first_hour,
             date_trunc('hour', time, 'UTC') AS last_hour
        FROM reading
       WHERE series_id = episode.series_id
         AND time >= episode.started_at AND time <= coalesce(episode.resolved_at, now() + INTERVAL '5 seconds')
       ORDER BY time DESC
       LIMIT 1
  ) AS seen ON TRUE
  LEFT JOIN LATERAL (
      SELECT min(lowest) AS lowest, max(highest) AS highest
        FROM (
            SELECT min(value) AS lowest, max(value) AS highest
              FROM reading
             WHERE series_id = episode.series_id
               AND time >= episode.started_at AND time < seen.first_hour AND time <= seen.last_time
             UNION ALL
            SELECT min(min), max(max)
              FROM reading_1h
             WHERE series_id = episode.series_id AND bucket >= seen.first_hour AND bucket < seen.last_hour
             UNION ALL
            SELECT min(value), max(value)
              FROM reading
             WHERE series_id = episode.series_id
               AND time >= greatest(seen.first_hour, seen.last_hour) AND time <= seen.last_time
        ) AS part
  ) AS extreme ON episode.valued_to IS NULL OR (episode.condition IS NULL AND episode.peak IS NULL)
 WHERE episode.id = ANY($1::bigint[]) AND episode.reason IS DISTINCT FROM 'no_data_clear'
   AND sensor.deleted_at IS NULL
 ORDER BY episode.fired_at DESC, episode.id DESC;

-- name: list_told
-- $1 ids of alerts
SELECT episode_id, channel, told, told_level AS level, told_at AS at
  FROM alert_told
 WHERE episode_id = ANY($1::bigint[])
 ORDER BY episode_id, channel;

-- name: list_messages
-- $1 ids of alerts, $2 largest number for each alert and channel, the newest first. The items of a dead letter are in
-- lost_items.
WITH item AS (
    SELECT episode_id, notification_id, kind, level FROM notification_item WHERE episode_id = ANY($1::bigint[])
    UNION ALL
    SELECT alert.id, notification.id, lost ->> 'kind', lost ->> 'level'
      FROM unnest($1::bigint[]) AS alert (id)
      JOIN notification ON notification.lost_items @> jsonb_build_array(jsonb_build_object('episode_id', alert.id))
     CROSS JOIN LATERAL jsonb_array_elements(notification.lost_items) AS lost
     WHERE (lost ->> 'episode_id')::bigint = alert.id AND notification.state IN ('dead', 'failed')
), ranked AS (
    SELECT item.*, notification.channel, notification.state, notification.error, notification.finished_at,
           row_number() OVER (PARTITION BY episode_id, notification.channel ORDER BY notification.id DESC) AS rank
      FROM item
      JOIN notification ON notification.id = item.notification_id
)
SELECT episode_id, notification_id AS id, channel, kind, level, state, error, finished_at
  FROM ranked
 WHERE rank <= $2
 ORDER BY notification_id DESC;

-- name: list_actions
-- $1 ids of alerts
SELECT episode_id, action, at, by, key, note, level, until
  FROM alert_action
 WHERE episode_id = ANY($1::bigint[])
 ORDER BY id;

-- name: count_open_by_rule
SELECT rule, level, count(*) AS n
  FROM alert_episode
 WHERE resolved_at IS NULL AND NOT is_closed(level, closed_level)
   AND reason IS DISTINCT FROM 'retracted' AND reason IS DISTINCT FROM 'no_data_clear'
 GROUP BY rule, level;

-- name: count_series_by_rule
SELECT rule, count(*) AS n, max(evaluated_to) AS evaluated_to FROM alert_state GROUP BY rule;
