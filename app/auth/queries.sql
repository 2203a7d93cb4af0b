-- API keys.

-- name: insert_key
-- $1 sha256, $2 label, $3 scopes, $4 limits
INSERT INTO api_key (sha256, label, scopes, limits) VALUES ($1, $2, $3::text[], $4::jsonb);

-- name: list_keys
SELECT id, label, scopes, limits, created_at, revoked_at FROM api_key ORDER BY id;

-- name: list_live_keys
SELECT sha256, label, scopes, limits FROM api_key WHERE revoked_at IS NULL;

-- name: find_live_key
-- $1 sha256
SELECT sha256, label, scopes, limits FROM api_key WHERE sha256 = $1 AND revoked_at IS NULL;

-- name: revoke_key
-- $1 label
UPDATE api_key SET revoked_at = now() WHERE label = $1 AND revoked_at IS NULL RETURNING id;
