-- The live feed: an outbox that is numbered in commit order, and what it needs to be resumed.

CREATE SEQUENCE feed_seq;  -- CACHE 1: a cached range would break the order of commits

CREATE TABLE feed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq bigint UNIQUE,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL CHECK (kind IN ('readings', 'alert')),
    n int NOT NULL,
    payload bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_cost_delay = 0
);

DO $$ BEGIN
    ALTER TABLE feed ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;  -- a server built without lz4 compresses with its default
END $$;

-- A cursor is valid within one epoch: a restored or re-created database begins a new one.
-- Rows up to `pruned_to` are gone.
CREATE TABLE feed_epoch (
    epoch text NOT NULL DEFAULT substr(md5(gen_random_uuid()::text), 1, 8),
    pruned_to bigint NOT NULL DEFAULT 0
);
INSERT INTO feed_epoch DEFAULT VALUES;

-- The answer to an upload that brought an Idempotency-Key; `feed_id` leads to its seq.
CREATE TABLE idempotency (
    api_key text NOT NULL,
    key text NOT NULL,
    body_sha256 bytea NOT NULL,
    answer jsonb NOT NULL,
    feed_id bigint,
    seq bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (api_key, key)
);
CREATE INDEX idempotency_feed_id ON idempotency (feed_id) WHERE feed_id IS NOT NULL;
CREATE INDEX idempotency_created_at ON idempotency (created_at);

-- Runs inside COMMIT because the trigger is deferred, so the lock never spans a client's round trip and seq grows
-- in commit order. The lock is held until the commit is visible.
CREATE FUNCTION feed_publish() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_seq bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7420, 1);
    new_seq := nextval('feed_seq');
    UPDATE feed SET seq = new_seq, at = clock_timestamp() WHERE id = NEW.id;
    UPDATE idempotency SET seq = new_seq WHERE feed_id = NEW.id;
    PERFORM pg_notify('tidegauge', new_seq::text);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER feed_publish AFTER INSERT ON feed
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION feed_publish();

-- What the replaced sensor server's answer holds beyond the reading itself.
CREATE TABLE legacy_reading (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor text NOT NULL,
    time timestamptz NOT NULL,
    temperature float8 NOT NULL,
    humidity float8 NOT NULL,
    pressure float8 NOT NULL,
    client_ip text NOT NULL
);
