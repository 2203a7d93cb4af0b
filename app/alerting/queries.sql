-- Queries of the routes for alerts, silences and rules.

-- name: list_alert_ids
-- $1 only open alerts, $2 and $3 page cursor: alerts before this fired_at and id, $4 largest number of alerts,
-- $5 rule or null, $6 sensor or null.
SELECT episode.id, episode.fired_at
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
 WHERE (NOT $1 OR (episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted'))
   AND episode.reason IS DISTINCT FROM 'no_data_clear'
   AND (episode.fired_at, episode.id) < ($2::timestamptz, $3::bigint)
   AND ($5::text IS NULL OR episode.rule = $5) AND ($6::text IS NULL OR sensor.id = (SELECT find_sensor($6)))
   AND sensor.deleted_at IS NULL
 ORDER BY episode.fired_at DESC, episode.id DESC
 LIMIT $4;

-- name: list_alerts
-- $1 ids. Values are what the rule compares: the newest within the episode, when it fired, and the peak. Of alerts whose
-- peak was never stored, lowest and highest are of the readings within the episode. Of whole hours the aggregate is read:
-- an alert that lasts for weeks has millions of readings.
SELECT episode.id, episode.rule, episode.kind, sensor.name AS sensor, series.metric,
       coalesce(episode.unit, series.unit, series.rule_unit) AS unit,
       coalesce(episode.gateway, sensor.gateway) AS gateway, coalesce(sensor.tags, '{}') AS tags,
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
         AND time >= episode.started_at AND time <= coalesce(episode.resolved_at, now() + INTERVAL '1 hour')
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
  ) AS extreme ON episode.valued_to IS NULL
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

-- name: ack_episode
-- $1 id, $2 name of the person. The ack covers the highest level that any channel was told, or else the current level.
-- Returns whether it says anything new; no row when there is no such open alert.
WITH open AS (
    SELECT id, acked_by, acked_level,
           coalesce((SELECT told_level FROM alert_told WHERE episode_id = $1 AND told = 'firing'
                      ORDER BY level_rank(told_level) DESC LIMIT 1), level) AS level_to_ack
      FROM alert_episode
     WHERE id = $1 AND resolved_at IS NULL AND reason IS DISTINCT FROM 'retracted'
       FOR UPDATE
), acked AS (
    UPDATE alert_episode AS episode
       SET acked_by = $2, acked_at = now(), acked_level = open.level_to_ack
      FROM open
     WHERE episode.id = open.id
       AND (open.acked_by IS DISTINCT FROM $2 OR open.acked_level IS DISTINCT FROM open.level_to_ack)
    RETURNING episode.id
)
SELECT EXISTS (SELECT FROM acked) AS is_new FROM open;

-- name: find_episode
-- $1 id
SELECT resolved_at, reason FROM alert_episode WHERE id = $1;

-- name: list_all_silences
-- $1 page cursor: silences after this id, $2 largest number of silences. Silences that are over stay listed for a week.
SELECT id, matchers, starts_at AS from, ends_at AS to, author, comment, created_at
  FROM silence
 WHERE id > $1 AND ends_at > now() - INTERVAL '7 days'
 ORDER BY id
 LIMIT $2;

-- name: get_present_name
-- $1 name of a sensor, present or old one; null if no sensor has or had it
SELECT name FROM sensor WHERE id = find_sensor($1);

-- name: insert_silence
-- $1 matchers, $2 from (NULL: now, by the clock that says whether it is in force), $3 to, $4 author, $5 comment
INSERT INTO silence (matchers, starts_at, ends_at, author, comment) VALUES ($1, coalesce($2, now()), $3, $4, $5)
RETURNING id, matchers, starts_at AS from, ends_at AS to, author, comment, created_at;

-- name: end_silence
-- $1 id. The row is kept and its end is set to now. A silence that has not begun gets a length of one microsecond.
UPDATE silence
   SET ends_at = greatest(now(), starts_at + INTERVAL '1 microsecond')
 WHERE id = $1 AND ends_at > now()
RETURNING id;

-- name: count_open_by_rule
SELECT rule, level, count(*) AS n
  FROM alert_episode
 WHERE resolved_at IS NULL AND reason IS DISTINCT FROM 'retracted' AND reason IS DISTINCT FROM 'no_data_clear'
 GROUP BY rule, level;

-- name: count_series_by_rule
SELECT rule, count(*) AS n, max(evaluated_to) AS evaluated_to FROM alert_state GROUP BY rule;
