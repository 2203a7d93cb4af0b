-- Notifications sent by the notification broker.

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
