-- Locks that need rights, in place of advisory locks: every user of the database can take those, and so stop uploads.

-- Nothing is stored in these tables. Who may not write to a table cannot lock it against others.
CREATE TABLE feed_lock ();
CREATE TABLE evaluation_lock ();
CREATE TABLE connection_lock ();

-- As in 0002, but for the lock and the condition of the signal. Whoever can connect can fill the queue of notifications.
-- A COMMIT with a NOTIFY waits while another writes to the queue, and fails when the queue is full. So there is no signal
-- while the queue is longer than ours ever makes it, 8 MB by default: listeners then read the feed a little later.
CREATE OR REPLACE FUNCTION feed_publish() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_seq bigint;
BEGIN
    LOCK TABLE feed_lock IN EXCLUSIVE MODE;
    new_seq := nextval('feed_seq');
    UPDATE feed SET seq = new_seq, at = clock_timestamp() WHERE id = NEW.id;
    UPDATE idempotency SET seq = new_seq WHERE feed_id = NEW.id;
    IF pg_notification_queue_usage() < 0.001 THEN
        PERFORM pg_notify('tidegauge', new_seq::text);
    END IF;
    RETURN NULL;
END $$;

-- As in 0016, but for the lock.
CREATE OR REPLACE FUNCTION take_connection_1(key_label text, asking uuid, held_there int, connection_limit int)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- The next statement must see what was taken before: it starts after the lock is held.
    LOCK TABLE connection_lock IN EXCLUSIVE MODE;
    IF held_there + (
        SELECT coalesce(sum(held), 0)
          FROM connection_count
         WHERE api_key = key_label AND process <> asking AND beat_at > now() - INTERVAL '15 seconds'
    ) > connection_limit THEN
        RETURN FALSE;
    END IF;
    INSERT INTO connection_count (api_key, process, held, beat_at)
    VALUES (key_label, asking, held_there, clock_timestamp())
    ON CONFLICT (api_key, process) DO UPDATE SET held = excluded.held, beat_at = excluded.beat_at;
    RETURN TRUE;
END $$;

-- The session that took the lease: it is held until that session ends. No default, because a worker of the previous
-- release does not know the column, and must not take the lease any more.
ALTER TABLE lease ADD COLUMN session_pid int NOT NULL DEFAULT 0, ADD COLUMN session_start timestamptz;
ALTER TABLE lease ALTER COLUMN session_pid DROP DEFAULT;
-- One of the previous release that holds it notices that it has lost it.
UPDATE lease SET term = term + 1;
