-- The rolled-up tables of the Apache-2 edition; they do not exist on the other one.

-- name: announce_watermark
-- $1 age. From the commit on, flushes note the days of readings before late_before as late.
UPDATE aggregate_watermark
   SET late_before = greatest(late_before, date_trunc('minute', now() - $1::interval, 'UTC'))
RETURNING tableoid, late_before, late_before <= rolled_to AS is_reached;

-- name: lock_watermark
-- Null stands for no beginning.
SELECT tableoid, nullif(rolled_to, '-infinity') AS rolled_to, nullif(view_floor, '-infinity') AS view_floor
  FROM aggregate_watermark FOR UPDATE;

-- name: find_oldest_day
-- $1 end, excluded; null where there is no reading before it
SELECT date_trunc('day', min(time), 'UTC') FROM reading WHERE time > '-infinity' AND time < $1;

-- name: move_watermark
-- $1 new rolled_to
UPDATE aggregate_watermark SET rolled_to = $1;

-- name: set_watermark
-- $1 start of a day
UPDATE aggregate_watermark SET late_before = greatest(late_before, $1), rolled_to = $1;

-- name: set_view_floor
-- $1 start of a day
UPDATE aggregate_watermark SET view_floor = $1;

-- name: rewrite_minutes
-- $1 from, $2 to (excluded). Rows that are right already are not touched.
WITH fresh AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 minute', time) AS bucket, series_id, count(*) AS n, sum(value) AS sum,
           min(value) AS min, max(value) AS max, first(value, time) AS first, last(value, time) AS last
      FROM reading
     WHERE time >= $1 AND time < $2
     GROUP BY 1, 2
), gone AS (
    DELETE FROM rolled_1m AS old
     WHERE bucket >= $1 AND bucket < $2
       AND NOT EXISTS (SELECT FROM fresh WHERE fresh.series_id = old.series_id AND fresh.bucket = old.bucket)
)
INSERT INTO rolled_1m AS old (bucket, series_id, n, sum, min, max, first, last)
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM fresh
 WHERE NOT EXISTS (
      SELECT FROM rolled_1m AS same
       WHERE same.bucket >= $1 AND same.bucket < $2
         AND same.bucket = fresh.bucket AND same.series_id = fresh.series_id AND same.n = fresh.n
         AND same.sum = fresh.sum AND same.min = fresh.min AND same.max = fresh.max
         AND same.first = fresh.first AND same.last = fresh.last
 )
ON CONFLICT (series_id, bucket) DO UPDATE
   SET n = excluded.n, sum = excluded.sum, min = excluded.min, max = excluded.max,
       first = excluded.first, last = excluded.last;

-- name: rewrite_hours
-- As above, from the minutes.
WITH fresh AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket, series_id, sum(n)::bigint AS n, sum(sum) AS sum,
           min(min) AS min, max(max) AS max, first(first, bucket) AS first, last(last, bucket) AS last
      FROM rolled_1m
     WHERE bucket >= $1 AND bucket < $2
     GROUP BY 1, 2
), gone AS (
    DELETE FROM rolled_1h AS old
     WHERE bucket >= $1 AND bucket < $2
       AND NOT EXISTS (SELECT FROM fresh WHERE fresh.series_id = old.series_id AND fresh.bucket = old.bucket)
)
INSERT INTO rolled_1h AS old (bucket, series_id, n, sum, min, max, first, last)
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM fresh
 WHERE NOT EXISTS (
      SELECT FROM rolled_1h AS same
       WHERE same.bucket >= $1 AND same.bucket < $2
         AND same.bucket = fresh.bucket AND same.series_id = fresh.series_id AND same.n = fresh.n
         AND same.sum = fresh.sum AND same.min = fresh.min AND same.max = fresh.max
         AND same.first = fresh.first AND same.last = fresh.last
 )
ON CONFLICT (series_id, bucket) DO UPDATE
   SET n = excluded.n, sum = excluded.sum, min = excluded.min, max = excluded.max,
       first = excluded.first, last = excluded.last;

-- name: rewrite_days
-- As above, from the hours.
WITH fresh AS MATERIALIZED (
    SELECT time_bucket(INTERVAL '1 day', bucket) AS bucket, series_id, sum(n)::bigint AS n, sum(sum) AS sum,
           min(min) AS min, max(max) AS max, first(first, bucket) AS first, last(last, bucket) AS last
      FROM rolled_1h
     WHERE bucket >= $1 AND bucket < $2
     GROUP BY 1, 2
), gone AS (
    DELETE FROM rolled_1d AS old
     WHERE bucket >= $1 AND bucket < $2
       AND NOT EXISTS (SELECT FROM fresh WHERE fresh.series_id = old.series_id AND fresh.bucket = old.bucket)
)
INSERT INTO rolled_1d AS old (bucket, series_id, n, sum, min, max, first, last)
SELECT bucket, series_id, n, sum, min, max, first, last
  FROM fresh
 WHERE NOT EXISTS (
      SELECT FROM rolled_1d AS same
       WHERE same.bucket >= $1 AND same.bucket < $2
         AND same.bucket = fresh.bucket AND same.series_id = fresh.series_id AND same.n = fresh.n
         AND same.sum = fresh.sum AND same.min = fresh.min AND same.max = fresh.max
         AND same.first = fresh.first AND same.last = fresh.last
 )
ON CONFLICT (series_id, bucket) DO UPDATE
   SET n = excluded.n, sum = excluded.sum, min = excluded.min, max = excluded.max,
       first = excluded.first, last = excluded.last;

-- name: drop_old_readings
-- $1 age. Never a reading that is not rolled up yet.
SELECT drop_chunks('reading', older_than => least(
    now() - $1::interval,
    (SELECT greatest(date_trunc('day', rolled_to, 'UTC'), TIMESTAMPTZ 'epoch') FROM aggregate_watermark)
));

-- name: drop_old_minutes
-- $1 age
SELECT drop_chunks('rolled_1m', older_than => now() - $1::interval);

-- name: get_watermark
-- With the oldest transaction that has written something, which is what the watermark may be waiting for.
SELECT now() - greatest(watermark.rolled_to, built.at) AS lag, writer.pid, writer.xact_start
  FROM aggregate_watermark AS watermark
 CROSS JOIN aggregates_built AS built
  LEFT JOIN LATERAL (
      SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1
  ) AS writer ON TRUE;
