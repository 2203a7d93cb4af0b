-- API keys.

-- name: insert_key
-- $1 sha256, $2 label, $3 scopes, $4 limits; of a bound key $5 gateway, $6 pattern of its sensors or null and $7 prefix;
-- $8 time until it expires or null
INSERT INTO api_key (sha256, label, scopes, limits, gateway, sensors, prefix, expires_at)
VALUES ($1, $2, $3::text[], $4::jsonb, $5, $6, $7, now() + $8::interval);

-- name: list_keys
SELECT id, label, scopes, limits, gateway, sensors, prefix, created_at, last_used_at, expires_at, revoked_at,
       coalesce(expires_at <= now(), FALSE) AS is_expired
  FROM api_key
 ORDER BY id;

-- name: list_known_keys
-- Revoked and expired ones, too.
SELECT sha256, label, scopes, limits, gateway, sensors, prefix, expires_at,
       revoked_at IS NOT NULL OR coalesce(expires_at <= now(), FALSE) AS is_over
  FROM api_key;

-- name: find_live_key
-- $1 sha256
SELECT sha256, label, scopes, limits, gateway, sensors, prefix, expires_at
  FROM api_key
 WHERE sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: free_label
-- $1 label. An expired key gives its label back.
UPDATE api_key SET revoked_at = expires_at WHERE label = $1 AND revoked_at IS NULL AND expires_at <= now();

-- name: lock_keys
-- Keys are created one at a time.
LOCK TABLE api_key IN SHARE ROW EXCLUSIVE MODE;

-- name: list_live_labels
-- $1 gateway. The labels of the live keys that are bound to it.
SELECT label
  FROM api_key
 WHERE gateway = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
 ORDER BY label;

-- name: revoke_key
-- $1 label
UPDATE api_key SET revoked_at = now() WHERE label = $1 AND revoked_at IS NULL RETURNING id;

-- name: note_use
-- $1 labels of live keys that were used within the last seconds
UPDATE api_key SET last_used_at = now()
 WHERE id IN (SELECT id FROM api_key WHERE label = ANY($1::text[]) AND revoked_at IS NULL
               ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);

-- name: count_upload
-- $1 label of the key, $2 time between two uploads, $3 number that may be sent at once. Counts one upload and returns in
-- how many seconds the next one would be due; returns nothing, and counts nothing, if it exceeds the rate.
INSERT INTO upload_rate AS rate (api_key, due_at) VALUES ($1, now() + $2::interval)
ON CONFLICT (api_key) DO UPDATE SET due_at = greatest(rate.due_at, now()) + $2::interval
 WHERE greatest(rate.due_at, now()) + $2::interval <= now() + $2::interval * $3::int
RETURNING extract(epoch FROM due_at - now())::float8 AS due_s;

-- name: get_upload_rate
-- $1 label of a key that has been counted
SELECT extract(epoch FROM due_at - now())::float8 AS due_s FROM upload_rate WHERE api_key = $1;

-- name: take_connection
-- $1 label, $2 process, $3 number of connections that the process holds with the new one, $4 limit
SELECT take_connection_1($1, $2, $3, $4) AS taken;

-- name: write_connection_counts
-- $1 process, $2 labels, $3 number of connections for each. Also removes the rows of processes that have stopped without
-- removing them; skips rows that another process is removing at the same moment.
WITH gone AS (
     DELETE FROM connection_count
      WHERE (api_key, process) IN (
            SELECT api_key, process FROM connection_count
             WHERE process = $1 AND api_key <> ALL($2::text[])
                OR process <> $1 AND beat_at < now() - INTERVAL '1 minute'
               FOR UPDATE SKIP LOCKED
      )
)
INSERT INTO connection_count AS counted (api_key, process, held, beat_at)
SELECT api_key, $1, held, now() FROM unnest($2::text[], $3::int[]) AS new (api_key, held)
ON CONFLICT (api_key, process) DO UPDATE SET held = excluded.held, beat_at = excluded.beat_at;
