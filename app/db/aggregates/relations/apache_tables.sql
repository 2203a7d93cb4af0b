-- Rolled-up tables, kept by the lease holder (roll_up.py), and how far they reach. The views over them have a file of
-- their own, because they are replaced once a day.

CREATE TABLE rolled_1m (
    bucket timestamptz NOT NULL,
    series_id int NOT NULL,
    n bigint NOT NULL,
    sum float8 NOT NULL,
    min float8 NOT NULL,
    max float8 NOT NULL,
    first float8 NOT NULL,
    last float8 NOT NULL,
    PRIMARY KEY (series_id, bucket)
);
CREATE TABLE rolled_1h (LIKE rolled_1m INCLUDING ALL);
CREATE TABLE rolled_1d (LIKE rolled_1m INCLUDING ALL);

SELECT create_hypertable('rolled_1m', by_range('bucket', INTERVAL '7 days'), create_default_indexes => FALSE);
SELECT create_hypertable('rolled_1h', by_range('bucket', INTERVAL '90 days'), create_default_indexes => FALSE);
SELECT create_hypertable('rolled_1d', by_range('bucket', INTERVAL '730 days'), create_default_indexes => FALSE);

-- Finds a range of time over all series, as rolling up does; rows are stored almost in the order of time.
CREATE INDEX rolled_1m_bucket ON rolled_1m USING brin (bucket) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX rolled_1h_bucket ON rolled_1h USING brin (bucket) WITH (pages_per_range = 32, autosummarize = on);

-- One row. Its lock is held by whatever changes the rolled-up tables.
CREATE TABLE aggregate_watermark (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    -- A flush notes the days of readings before this moment as late.
    late_before timestamptz NOT NULL,
    -- Readings before this moment are in the rolled-up tables: minutes up to it, hours and days up to the whole hour
    -- and day. Never after late_before.
    rolled_to timestamptz NOT NULL,
    -- The literal in the views: the start of a day, never after rolled_to.
    view_floor timestamptz NOT NULL
);
INSERT INTO aggregate_watermark (late_before, rolled_to, view_floor) VALUES ('-infinity', '-infinity', '-infinity');
