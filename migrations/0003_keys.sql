-- API keys, and what is known of the gateways that use them.

CREATE TABLE api_key (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE,
    label text NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    -- {"ws_connections": n, "sensors": n}; what is absent follows the defaults
    limits jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Counted in memory and written every few seconds, apart from flushes: a hot row there costs throughput.
CREATE TABLE gateway (
    api_key text NOT NULL,
    name text NOT NULL,
    first_upload_at timestamptz NOT NULL,
    last_upload_at timestamptz NOT NULL,
    uploads bigint NOT NULL DEFAULT 0,
    accepted bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    -- Receive time minus the newest reading's time, of the last upload: negative means a clock that runs ahead.
    skew_s float8,
    -- Receive time minus the oldest reading's time, of the last upload.
    lateness_s float8,
    -- Seconds between the last uploads, at most 20, oldest first.
    intervals_s float8[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (api_key, name)
) WITH (fillfactor = 50);
