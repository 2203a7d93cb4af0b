-- Sensors, their series and their readings: the narrow hypertable with its natural key.

CREATE TABLE sensor (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    tags jsonb NOT NULL DEFAULT '{}',
    -- Event time of the reading that brought the tags: the newest wins, whatever the order of arrival.
    tags_at timestamptz NOT NULL DEFAULT '-infinity',
    gateway text,
    gateway_at timestamptz NOT NULL DEFAULT '-infinity',
    expected_interval interval,
    -- Label of the API key that brought the first reading; new sensors are capped per key.
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 90);
CREATE INDEX sensor_created_by ON sensor (created_by);

CREATE TABLE series (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sensor_id int NOT NULL REFERENCES sensor (id),
    metric text NOT NULL,
    unit text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sensor_id, metric)
);

-- No other index, no trigger, no further unique constraint: each would cost COPY its speed.
CREATE TABLE reading (
    series_id int NOT NULL,
    time timestamptz NOT NULL,
    value float8 NOT NULL,
    PRIMARY KEY (series_id, time)
);
SELECT create_hypertable('reading', by_range('time', INTERVAL '1 day'), create_default_indexes => FALSE);

-- One upsert a flush. No further index: it would end HOT updates.
CREATE TABLE series_state (
    series_id int PRIMARY KEY,
    last_time timestamptz NOT NULL,
    last_value float8 NOT NULL,
    received_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- UTC days that got readings behind the watermark of the continuous aggregates.
CREATE TABLE late_day (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day date NOT NULL
);

-- Times travel as microseconds since 1970: exact, and cheap to encode by the thousand.
CREATE FUNCTION from_us(us bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN TIMESTAMPTZ 'epoch' + us * INTERVAL '1 microsecond';

CREATE FUNCTION to_us(at timestamptz) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (extract(epoch FROM at) * 1000000)::bigint;
