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
