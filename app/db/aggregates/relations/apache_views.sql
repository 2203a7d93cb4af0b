-- Each level: its table up to the watermark; past it, the tables below, and raw readings past the minutes. The literal
-- `{floor}` keeps the planner from opening every chunk: where the watermark is, it learns only when the query runs.

CREATE OR REPLACE VIEW reading_1m AS
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM rolled_1m
 WHERE bucket < (SELECT rolled_to FROM aggregate_watermark)
 UNION ALL
SELECT time_bucket(INTERVAL '1 minute', time) AS bucket,
       series_id,
       count(*) AS n,
       sum(value) AS sum,
       min(value) AS min,
       max(value) AS max,
       first(value, time) AS first,
       last(value, time) AS last
  FROM reading
 WHERE time >= TIMESTAMPTZ '{floor}' AND time >= (SELECT rolled_to FROM aggregate_watermark)
 GROUP BY 1, 2;

CREATE OR REPLACE VIEW reading_1h AS
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM rolled_1h
 WHERE bucket < (SELECT date_trunc('hour', rolled_to, 'UTC') FROM aggregate_watermark)
 UNION ALL
SELECT time_bucket(INTERVAL '1 hour', time) AS bucket,
       series_id,
       sum(n)::bigint AS n,
       sum(sum) AS sum,
       min(min) AS min,
       max(max) AS max,
       first(first, time) AS first,
       last(last, time) AS last
  FROM (
      SELECT bucket AS time, series_id, n, sum, min, max, first, last
        FROM rolled_1m
       WHERE bucket >= TIMESTAMPTZ '{floor}'
         AND bucket >= (SELECT date_trunc('hour', rolled_to, 'UTC') FROM aggregate_watermark)
         AND bucket < (SELECT rolled_to FROM aggregate_watermark)
       UNION ALL
      SELECT time, series_id, 1, value, value, value, value, value
        FROM reading
       WHERE time >= TIMESTAMPTZ '{floor}' AND time >= (SELECT rolled_to FROM aggregate_watermark)
  ) AS tail
 GROUP BY 1, 2;

CREATE OR REPLACE VIEW reading_1d AS
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM rolled_1d
 WHERE bucket < (SELECT date_trunc('day', rolled_to, 'UTC') FROM aggregate_watermark)
 UNION ALL
SELECT time_bucket(INTERVAL '1 day', time) AS bucket,
       series_id,
       sum(n)::bigint AS n,
       sum(sum) AS sum,
       min(min) AS min,
       max(max) AS max,
       first(first, time) AS first,
       last(last, time) AS last
  FROM (
      SELECT bucket AS time, series_id, n, sum, min, max, first, last
        FROM rolled_1h
       WHERE bucket >= TIMESTAMPTZ '{floor}'
         AND bucket >= (SELECT date_trunc('day', rolled_to, 'UTC') FROM aggregate_watermark)
         AND bucket < (SELECT date_trunc('hour', rolled_to, 'UTC') FROM aggregate_watermark)
       UNION ALL
      SELECT bucket, series_id, n, sum, min, max, first, last
        FROM rolled_1m
       WHERE bucket >= TIMESTAMPTZ '{floor}'
         AND bucket >= (SELECT date_trunc('hour', rolled_to, 'UTC') FROM aggregate_watermark)
         AND bucket < (SELECT rolled_to FROM aggregate_watermark)
       UNION ALL
      SELECT time, series_id, 1, value, value, value, value, value
        FROM reading
       WHERE time >= TIMESTAMPTZ '{floor}' AND time >= (SELECT rolled_to FROM aggregate_watermark)
  ) AS tail
 GROUP BY 1, 2;
