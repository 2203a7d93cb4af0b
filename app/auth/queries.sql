-- API keys.

-- name: insert_key
-- $1 sha256, $2 label, $3 scopes, $4 limits
INSERT INTO api_key (sha256, label, scopes, limits) VALUES ($1, $2, $3::text[], $4::jsonb);

-- name: list_keys
SELECT id, label, scopes, limits, created_at, revoked_at FROM api_key ORDER BY id;

-- name: list_known_keys
-- Revoked ones, too.
SELECT sha256, label, scopes, limits, revoked_at FROM api_key;

-- name: find_live_key
-- $1 sha256
SELECT sha256, label, scopes, limits FROM api_key WHERE sha256 = $1 AND revoked_at IS NULL;

-- name: revoke_key
-- $1 label
UPDATE api_key SET revoked_at = now() WHERE label = $1 AND revoked_at IS NULL RETURNING id;

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
