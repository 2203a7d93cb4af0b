-- Raw readings and trends. Every read of the hypertable bounds time.

-- name: find_sensor
-- $1 name
SELECT find_sensor($1);

-- name: find_trend_series
-- $1 sensor, $2 metric
SELECT series.id
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.id = find_sensor($1) AND series.metric = $2;

-- name: list_metrics
-- $1 sensor
SELECT series.metric
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.id = find_sensor($1)
 ORDER BY series.metric;

-- name: list_readings
-- $1 sensor names or null, $2 metrics or null, $3 from, $4 to (excluded), $5 after this time and $6 this sensor id,
-- $7 limit. Only the first $7 rows of each series are read, by the primary key; later ones cannot be on this page.
SELECT to_us(found.time) AS time_us, sensor.id AS sensor_id, sensor.name,
       jsonb_object_agg(series.metric, found.value) AS values
  FROM sensor
  JOIN series ON series.sensor_id = sensor.id
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = series.id
         AND time >= greatest($3::timestamptz, $5::timestamptz) AND time < $4
         AND (time, sensor.id) > ($5, $6::bigint)
       ORDER BY time
       LIMIT $7
 ) AS found
 WHERE ($1::text[] IS NULL OR sensor.id = ANY(ARRAY(SELECT find_sensor(name) FROM unnest($1) AS name)))
   AND sensor.deleted_at IS NULL
   AND ($2::text[] IS NULL OR series.metric = ANY($2))
 GROUP BY found.time, sensor.id, sensor.name
 ORDER BY found.time, sensor.id
 LIMIT $7;

-- name: list_buckets_1m
-- $1 series, $2 width, $3 from, $4 to (excluded). The average is weighted by the count of each minute.
SELECT time_bucket($2::interval, bucket) AS time,
       sum(sum) / sum(n) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1m
 WHERE series_id = $1 AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1
 ORDER BY 1;

-- name: list_buckets_1h
-- As above, over hours.
SELECT time_bucket($2::interval, bucket) AS time,
       sum(sum) / sum(n) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1h
 WHERE series_id = $1 AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1
 ORDER BY 1;

-- name: list_buckets_1d
-- As above, over days.
SELECT time_bucket($2::interval, bucket) AS time,
       sum(sum) / sum(n) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1d
 WHERE series_id = $1 AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1
 ORDER BY 1;
