-- Statements over a table of stored aggregates, `{relation}`, on either edition; `{name}` is the relation people read.

-- name: find_day_after_gone_readings
-- $1 first day that retention cannot have touched. Reads all raw readings.
WITH old_day AS (
    SELECT date_trunc('day', bucket, 'UTC') AS day, sum(n) AS n FROM {relation} GROUP BY 1
), raw_day AS (
    SELECT date_trunc('day', time, 'UTC') AS day, count(*) AS n FROM reading WHERE time > '-infinity' GROUP BY 1
)
SELECT max(day) + INTERVAL '1 day'
  FROM old_day
  LEFT JOIN raw_day USING (day)
 WHERE old_day.n > coalesce(raw_day.n, 0) OR (day < $1 AND old_day.n = raw_day.n);

-- name: note_incomplete_days
-- $1 first day that is filled from raw readings.
INSERT INTO late_day (day)
SELECT raw_day.day::date
  FROM (SELECT date_trunc('day', time, 'UTC') AS day, count(*) AS n FROM reading WHERE time < $1 GROUP BY 1) AS raw_day
  LEFT JOIN (SELECT date_trunc('day', bucket, 'UTC') AS day, sum(n) AS n FROM {relation} WHERE bucket < $1 GROUP BY 1)
       AS stored USING (day)
 WHERE raw_day.n > coalesce(stored.n, 0);

-- name: copy_old_days
-- `{end}` is excluded.
CREATE TEMPORARY TABLE old_{name} ON COMMIT DROP AS
SELECT bucket, series_id, n, sum, min, max, first, last FROM {relation} WHERE bucket < TIMESTAMPTZ '{end}';

-- name: insert_old_days
INSERT INTO {relation} (bucket, series_id, n, sum, min, max, first, last)
SELECT bucket, series_id, n, sum, min, max, first, last FROM old_{name};
