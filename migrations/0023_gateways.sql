-- Gateways with keys of their own: what a key is bound to, whose each sensor is, what was refused, and clocks.

ALTER TABLE api_key
    -- The gateway that the key is bound to: it writes to this gateway's sensors alone. Null: the key is not bound.
    ADD COLUMN gateway text,
    -- A bound key writes to sensors whose names match this pattern; null: to any of its gateway.
    ADD COLUMN sensors text,
    -- Put before the name of each sensor in uploads with this key.
    ADD COLUMN prefix text NOT NULL DEFAULT '',
    ADD COLUMN expires_at timestamptz,
    -- Written every few seconds by the processes that accept the key.
    ADD COLUMN last_used_at timestamptz,
    DROP CONSTRAINT api_key_label_key;
-- The label of a revoked key may be used again.
CREATE UNIQUE INDEX api_key_live_label ON api_key (label) WHERE revoked_at IS NULL;

-- The gateway that registered the sensor, as far as it was named. Its uploads set the tags, and a key that is bound to
-- another gateway may not write to the sensor. Null: no gateway was named.
ALTER TABLE sensor ADD COLUMN owner text;
UPDATE sensor SET owner = gateway WHERE gateway IS NOT NULL;

-- Gateways that have sent readings of a sensor that another one registered: the same name for two things, perhaps.
CREATE TABLE foreign_sensor (
    sensor_id int NOT NULL REFERENCES sensor (id) ON DELETE CASCADE,
    gateway text NOT NULL,
    -- Written anew after some minutes only.
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (sensor_id, gateway)
);
CREATE INDEX foreign_sensor_seen ON foreign_sensor (seen_at);

ALTER TABLE gateway
    -- Duplicates whose value differs from the stored one.
    ADD COLUMN conflicts bigint NOT NULL DEFAULT 0,
    -- Values refused, by code; those of earlier releases are in `rejected` alone.
    ADD COLUMN rejected_by_code jsonb NOT NULL DEFAULT '{}',
    -- The last upload of which something was stored, or had been.
    ADD COLUMN last_taken_at timestamptz,
    -- The most frequent code of the last upload of which nothing was taken; null if there was none.
    ADD COLUMN refused_for text,
    -- Skew of the last uploads that had times, at most 20, oldest first, and when they came. Refused times count, too.
    ADD COLUMN skews_s float8[] NOT NULL DEFAULT '{}',
    ADD COLUMN skews_at timestamptz[] NOT NULL DEFAULT '{}';

-- The last uploads of each gateway of which something was refused.
CREATE TABLE gateway_refusal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    api_key text NOT NULL,
    at timestamptz NOT NULL,
    -- The address as a pattern, without keys: /api/v1/readings.
    path text NOT NULL,
    -- Of an upload that was refused as a whole: why.
    error text,
    rejected int NOT NULL,
    by_code jsonb NOT NULL,
    -- The first refusals, as the answer listed them.
    listed jsonb NOT NULL,
    -- The beginning of the body, decompressed and without secrets.
    body text NOT NULL
);
CREATE INDEX gateway_refusal_gateway ON gateway_refusal (gateway, id DESC);

-- Uploads of the keys that have a limit of their own; see notification_rate.
CREATE UNLOGGED TABLE upload_rate (
    api_key text PRIMARY KEY,  -- its label
    due_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Alerts about the clock of a gateway.
ALTER TABLE alert_episode
    DROP CONSTRAINT alert_episode_kind_check,
    ADD CONSTRAINT alert_episode_kind_check CHECK (kind IN ('threshold', 'no_data', 'clock'));
CREATE UNIQUE INDEX alert_episode_clock ON alert_episode (rule, gateway) WHERE kind = 'clock' AND resolved_at IS NULL;

-- The numbers, from 1, of the given readings for which another value is stored. At most `days` UTC days are looked at, the
-- latest: each costs the planning of a query, and one query over many chunks would look into each of them.
CREATE FUNCTION find_conflicts_1(series_ids int[], times_us bigint[], given_values float8[], days int) RETURNS int[]
LANGUAGE plpgsql STABLE SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    found int[] := '{}';
    of_day int[];
    begins_at timestamptz;
BEGIN
    FOR begins_at IN
        SELECT DISTINCT from_us(us - us % 86400000000) FROM unnest(times_us) AS us ORDER BY 1 DESC LIMIT days
    LOOP
        SELECT array_agg(given.place)
          INTO of_day
          FROM unnest(series_ids, times_us, given_values) WITH ORDINALITY AS given (series_id, us, value, place)
          JOIN reading ON reading.series_id = given.series_id AND reading.time = from_us(given.us)
         WHERE from_us(given.us) >= begins_at AND from_us(given.us) < begins_at + INTERVAL '1 day'
           AND reading.time >= begins_at AND reading.time < begins_at + INTERVAL '1 day'
           AND reading.value <> given.value;
        found := found || coalesce(of_day, '{}');
    END LOOP;
    RETURN found;
END $$;

-- As in 0010, with what is new.
CREATE OR REPLACE VIEW gateway_view AS
SELECT gateway.name AS gateway, gateway.api_key AS key, gateway.first_upload_at, gateway.last_upload_at,
       coalesce(own.sensors, 0) AS sensors, gateway.uploads, gateway.accepted, gateway.duplicates, gateway.rejected,
       gateway.skew_s, gateway.lateness_s,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) FROM unnest(gateway.intervals_s) AS interval_s)
           AS usual_interval_s,
       CASE WHEN own.all_silent THEN 'offline' ELSE 'ok' END AS state,
       gateway.conflicts, gateway.rejected_by_code, gateway.last_taken_at,
       CASE WHEN NOT EXISTS (SELECT FROM alert_episode AS episode
                              WHERE episode.kind = 'clock' AND episode.gateway = gateway.name
                                AND episode.resolved_at IS NULL) THEN 'ok'
            WHEN gateway.skew_s < 0 THEN 'ahead'
            ELSE 'behind' END AS clock
  FROM gateway
  LEFT JOIN (
      SELECT coalesce(sensor.gateway, sensor.created_by) AS name, count(DISTINCT sensor.id) AS sensors,
             bool_and(series_view.state = 'silent') AS all_silent
        FROM series_view
        JOIN sensor ON sensor.id = series_view.sensor_id
       WHERE sensor.retired_at IS NULL AND series_view.received_at IS NOT NULL
       GROUP BY 1
  ) AS own ON own.name = gateway.name;
