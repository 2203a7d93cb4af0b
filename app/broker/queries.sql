-- Notifications sent by the notification broker, and the rates and waits that its processes share.

-- name: insert_notifications
-- $1 a JSON list of rows. A row may be stored already, by a flush whose answer was lost.
INSERT INTO broker_notification (id, created_at, api_key, level, title, message, source, metadata, channels)
SELECT id, created_at, api_key, level, title, message, source, metadata, channels
  FROM jsonb_to_recordset($1::text::jsonb) AS new (
       id uuid, created_at timestamptz, api_key text, level text, title text, message text, source text,
       metadata jsonb, channels jsonb
  )
ON CONFLICT (id) DO NOTHING;

-- name: find_notification
-- $1 id
SELECT id, created_at, api_key, level, title, message, source, metadata, channels
  FROM broker_notification
 WHERE id = $1;

-- name: list_notifications
-- $1 level and $2 source, or null for all; $3 time and $4 id of the last row of the page before, or null; $5 limit
SELECT id, created_at, api_key, level, title, message, source, metadata, channels
  FROM broker_notification
 WHERE ($1::text IS NULL OR level = $1)
   AND ($2::text IS NULL OR source = $2)
   AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
 ORDER BY created_at DESC, id DESC
 LIMIT $5;

-- name: find_newest_to_prune
-- $1 age to keep, $2 number of rows to keep
SELECT greatest(
       now() - $1::interval,
       (SELECT created_at FROM broker_notification ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT 1)
);

-- name: prune_notifications
-- $1 latest time to delete, $2 limit. Returns the number of deleted rows.
WITH gone AS (
     DELETE FROM broker_notification
      WHERE id IN (
            SELECT id FROM broker_notification WHERE created_at <= $1 ORDER BY created_at DESC, id DESC LIMIT $2
      )
     RETURNING id
)
SELECT count(*) FROM gone;

-- name: count_notification
-- $1 label of the key, $2 time between two notifications, $3 number that may be sent at once. Counts one notification and
-- returns in how many seconds the next one would be due; returns nothing, and counts nothing, if it exceeds the rate.
INSERT INTO notification_rate AS rate (api_key, due_at) VALUES ($1, now() + $2::interval)
ON CONFLICT (api_key) DO UPDATE SET due_at = greatest(rate.due_at, now()) + $2::interval
 WHERE greatest(rate.due_at, now()) + $2::interval <= now() + $2::interval * $3::int
RETURNING extract(epoch FROM due_at - now())::float8 AS due_s;

-- name: get_notification_rate
-- $1 label of a key that has been counted
SELECT extract(epoch FROM due_at - now())::float8 AS due_s FROM notification_rate WHERE api_key = $1;

-- name: hold_destination
-- $1 destination; the seconds for which nothing is sent to it ($2), and for which it is paced ($3). Also removes
-- destinations that are no longer paced, but skips those that another process is removing at the same moment.
WITH gone AS (
     DELETE FROM paced_destination
      WHERE destination IN (
            SELECT destination FROM paced_destination
             WHERE paced_until < now() AND destination <> $1
               FOR UPDATE SKIP LOCKED
      )
)
INSERT INTO paced_destination AS paced (destination, held_until, paced_until)
VALUES ($1, now() + $2::float8 * INTERVAL '1 second', now() + $3::float8 * INTERVAL '1 second')
ON CONFLICT (destination) DO UPDATE SET
    held_until = greatest(paced.held_until, excluded.held_until),
    paced_until = greatest(paced.paced_until, excluded.paced_until);

-- name: list_paced_destinations
-- $1 limit. Those that stay paced longest first.
SELECT destination, extract(epoch FROM held_until - now())::float8 AS held_s,
       extract(epoch FROM paced_until - now())::float8 AS paced_s
  FROM paced_destination
 WHERE paced_until > now()
 ORDER BY paced_until DESC
 LIMIT $1;

-- name: take_turn
-- $1 destination; for each of its limits the seconds between two messages ($2) and the messages at once ($3); $4 seconds
-- within which the turn must come. Null if the destination is not paced.
SELECT take_turn_1($1, $2, $3, $4) AS turn_s;
