-- Queries for actions of people on alerts: acknowledge, close, silence.

-- name: ack_episode
-- $1 id, $2 name of the person. The ack covers the highest level that any channel was told, or else the current level.
-- Returns whether it says anything new, and the level; no row when there is no such open alert.
WITH open AS (
    SELECT id, acked_by, acked_level,
           coalesce((SELECT told_level FROM alert_told WHERE episode_id = $1 AND told = 'firing'
                      ORDER BY level_rank(told_level) DESC LIMIT 1), level) AS level_to_ack
      FROM alert_episode
     WHERE id = $1 AND resolved_at IS NULL AND NOT is_closed(level, closed_level) AND reason IS DISTINCT FROM 'retracted'
       FOR UPDATE
), acked AS (
    UPDATE alert_episode AS episode
       SET acked_by = $2, acked_at = now(), acked_level = open.level_to_ack
      FROM open
     WHERE episode.id = open.id
       AND (open.acked_by IS DISTINCT FROM $2 OR open.acked_level IS DISTINCT FROM open.level_to_ack)
    RETURNING episode.id
)
SELECT EXISTS (SELECT FROM acked) AS is_new, level_to_ack AS level FROM open;

-- name: find_episode
-- $1 id
SELECT resolved_at, reason FROM alert_episode WHERE id = $1;

-- name: close_episode
-- $1 id, $2 name of the person, $3 note. Returns the level; no row when there is no such open alert.
UPDATE alert_episode
   SET closed_at = clock_timestamp(), closed_by = $2, closed_note = $3, closed_level = level, revision = revision + 1,
       settled = FALSE
 WHERE id = $1 AND resolved_at IS NULL AND NOT is_closed(level, closed_level)
   AND reason IS DISTINCT FROM 'retracted' AND reason IS DISTINCT FROM 'no_data_clear'
RETURNING level;

-- name: insert_actions
-- $1 alerts, $2 silence or null, $3 action, $4 by, $5 key, $6 note, $7 levels, $8 end of the silence or null
INSERT INTO alert_action (episode_id, silence_id, action, by, key, note, level, until)
SELECT given.episode_id, $2, $3, $4, $5, $6, given.level, $8::timestamptz
  FROM unnest($1::bigint[], $7::text[]) AS given (episode_id, level)
 ORDER BY given.episode_id;

-- name: insert_silence_action
-- $1 silence, $2 action, $3 by, $4 key, $5 note, $6 end of the silence
INSERT INTO alert_action (silence_id, action, by, key, note, until) VALUES ($1, $2, $3, $4, $5, $6);

-- name: list_open_of_rule
-- $1 rule. Its open alerts with the labels by which alerts are grouped and silenced, in order of id.
SELECT id, rule, sensor, metric, gateway, tags, level
  FROM alert_view
 WHERE rule = $1 AND state = 'firing'
 ORDER BY id;

-- name: find_alert_labels
-- $1 id
SELECT id, rule, sensor, metric, gateway, tags, level, state FROM alert_view WHERE id = $1;

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
RETURNING id, ends_at AS to;


-- name: extend_silence
-- $1 id, $2 new end or null, $3 time that is added to its end where $2 is null. No row if it is not in force or to come,
-- or would end earlier.
UPDATE silence
   SET ends_at = coalesce($2::timestamptz, ends_at + $3::interval)
 WHERE id = $1 AND ends_at > now() AND coalesce($2::timestamptz, ends_at + $3::interval) > ends_at
RETURNING id, matchers, starts_at AS from, ends_at AS to, author, comment, created_at;

-- name: find_silence
-- $1 id
SELECT ends_at FROM silence WHERE id = $1 AND ends_at > now();
