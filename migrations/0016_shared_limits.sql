-- What the API processes share so that the limits of a key, and the waits that a service asks for, hold for all of them
-- together. The tables are unlogged: what they hold matters for a minute at most, and after a crash of the database each
-- process brings its part again.
--
-- Processes of two versions share a database while they are replaced one by one: a change of one of the functions is a
-- new function with the next number, and the old one is dropped a release later.

-- Open WebSockets of the keys that have a limit, as each process counts them.
CREATE UNLOGGED TABLE connection_count (
    api_key text NOT NULL,  -- its label
    process uuid NOT NULL,
    held int NOT NULL,
    -- Written every 5 s; a row older than 15 s is that of a process that is gone.
    beat_at timestamptz NOT NULL,
    PRIMARY KEY (api_key, process)
) WITH (fillfactor = 50);

-- Notes that a process holds a number of connections of a key, the new one among them, and returns true; notes nothing and
-- returns false if all processes together would exceed the limit.
CREATE FUNCTION take_connection_1(key_label text, asking uuid, held_there int, connection_limit int) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- The next statement must see what was taken before: it starts after the lock is held.
    PERFORM pg_advisory_xact_lock(7423, hashtext(key_label));
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

-- Notifications of the keys that have a limit of their own.
CREATE UNLOGGED TABLE notification_rate (
    api_key text PRIMARY KEY,  -- its label
    -- Time of the next notification if all earlier ones had been evenly spread: the TAT of the generic cell rate algorithm.
    due_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Destinations of notifications that have asked to wait.
CREATE UNLOGGED TABLE paced_destination (
    destination text PRIMARY KEY,  -- a fingerprint, from which the destination cannot be derived
    held_until timestamptz NOT NULL,  -- nothing is sent before
    paced_until timestamptz NOT NULL,  -- until then, messages keep the rate of the service
    -- By limit of the destination: time of the next turn if all earlier ones had been evenly spread.
    due_at timestamptz[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Takes the next turn of a paced destination, if it comes within a time, and returns the seconds until then. Returns the
-- seconds, too, if they are too many, without taking the turn; null if the destination is not paced. Each of the
-- destination's limits allows `bursts` messages at once, then one every `every_s` seconds.
CREATE FUNCTION take_turn_1(name text, every_s float8[], bursts int[], within_s float8) RETURNS float8
LANGUAGE plpgsql AS $$
DECLARE
    paced paced_destination;
    turn_at timestamptz;
    wait_s float8;
BEGIN
    SELECT * INTO paced FROM paced_destination WHERE destination = name AND paced_until > now() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT greatest(clock_timestamp(), paced.held_until, max(due_at - (burst - 1) * spacing_s * INTERVAL '1 second'))
      INTO turn_at
      FROM unnest(paced.due_at, every_s, bursts) AS spaced (due_at, spacing_s, burst);
    wait_s := extract(epoch FROM turn_at - clock_timestamp());
    IF wait_s <= within_s THEN
        UPDATE paced_destination
           SET due_at = ARRAY(
               SELECT greatest(spaced.due_at, turn_at) + spacing_s * INTERVAL '1 second'
                 FROM unnest(paced.due_at, every_s) WITH ORDINALITY AS spaced (due_at, spacing_s, place)
                ORDER BY place
           )
         WHERE destination = name;
    END IF;
    RETURN greatest(wait_s, 0);
END $$;
