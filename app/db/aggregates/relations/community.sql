-- Continuous aggregates, each over the one below; real-time, so that what is not yet materialised is computed.

CREATE MATERIALIZED VIEW reading_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 minute', time) AS bucket,
       series_id,
       count(*) AS n,
       sum(value) AS sum,
       min(value) AS min,
       max(value) AS max,
       first(value, time) AS first,
       last(value, time) AS last
  FROM reading
 GROUP BY 1, 2
  WITH NO DATA;

CREATE MATERIALIZED VIEW reading_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket,
       series_id,
       sum(n)::bigint AS n,
       sum(sum) AS sum,
       min(min) AS min,
       max(max) AS max,
       first(first, bucket) AS first,
       last(last, bucket) AS last
  FROM reading_1m
 GROUP BY 1, 2
  WITH NO DATA;

CREATE MATERIALIZED VIEW reading_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket,
       series_id,
       sum(n)::bigint AS n,
       sum(sum) AS sum,
       min(min) AS min,
       max(max) AS max,
       first(first, bucket) AS first,
       last(last, bucket) AS last
  FROM reading_1h
 GROUP BY 1, 2
  WITH NO DATA;

-- Readings before this moment are invisible in some aggregate until their day is refreshed. An hour back, because
-- on a database without materialised data the first run of a policy moves the watermark past everything older.
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT greatest(
    now() - INTERVAL '1 hour',
    max(_timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id)))
)
  FROM _timescaledb_catalog.continuous_agg
 WHERE user_view_name IN ('reading_1m', 'reading_1h', 'reading_1d')
$$;
