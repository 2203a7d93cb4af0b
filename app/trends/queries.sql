-- Raw readings and trends. Every read of the hypertable bounds time.

-- name: list_series
-- $1 sensor names, present or old ones. One row for each series; a sensor without series has one row, in which the series
-- is null.
SELECT asked.name AS asked, sensor.id AS sensor_id, sensor.name AS sensor, series.id AS series_id, series.metric,
       coalesce(series.unit, series.rule_unit) AS unit
  FROM unnest($1::text[]) AS asked (name)
  JOIN sensor ON sensor.id = find_sensor(asked.name)
  LEFT JOIN series ON series.sensor_id = sensor.id
 ORDER BY sensor.name COLLATE "C", series.metric COLLATE "C";

-- name: list_readings
-- $1 sensor ids or null, $2 metrics or null, $3 from, $4 to (excluded), $5 after this time and $6 this sensor id,
-- $7 limit. Only the first $7 rows of each series are read, by the primary key; later ones cannot be on this page. With
-- many series, $4 is the end of the page, see page_end.py.
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
 WHERE ($1::int[] IS NULL OR sensor.id = ANY($1)) AND sensor.deleted_at IS NULL
   AND ($2::text[] IS NULL OR series.metric = ANY($2))
 GROUP BY found.time, sensor.id, sensor.name
 ORDER BY found.time, sensor.id
 LIMIT $7;

-- name: get_series_of_page
-- $1 sensor ids or null, $2 metrics or null: ids of the series, and of the sensor of each.
SELECT coalesce(array_agg(series.id), '{}') AS series, coalesce(array_agg(sensor.id), '{}') AS sensors
  FROM sensor
  JOIN series ON series.sensor_id = sensor.id
 WHERE ($1::int[] IS NULL OR sensor.id = ANY($1)) AND sensor.deleted_at IS NULL
   AND ($2::text[] IS NULL OR series.metric = ANY($2));

-- name: list_first_times
-- $1 series, $2 the sensor of each, $3 from for each in microseconds, $4 to (excluded) for all, $5 most times of each
-- series, $6 limit. unfinished: the series of which this is the last of $5 times.
SELECT to_us(found.time) AS time_us, chosen.sensor_id,
       array_agg(chosen.series_id) FILTER (WHERE found.position = $5) AS unfinished
  FROM unnest($1::int[], $2::int[], $3::bigint[]) AS chosen (series_id, sensor_id, from_us)
 CROSS JOIN LATERAL (
      SELECT time, row_number() OVER (ORDER BY time) AS position
        FROM reading
       WHERE series_id = chosen.series_id AND time >= from_us(chosen.from_us) AND time < $4
       ORDER BY time
       LIMIT $5::int
 ) AS found
 GROUP BY found.time, chosen.sensor_id
 ORDER BY found.time, chosen.sensor_id
 LIMIT $6;

-- name: list_buckets_1m
-- $1 series, $2 width, $3 from, $4 to (excluded). The average is weighted by the count of each minute.
SELECT series_id, time_bucket($2::interval, bucket) AS time,
       least(greatest(sum(sum) / sum(n), min(min)), max(max)) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1m
 WHERE series_id = ANY($1::int[]) AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1, 2
 ORDER BY 1, 2;

-- name: list_buckets_1h
-- As above, over hours.
SELECT series_id, time_bucket($2::interval, bucket) AS time,
       least(greatest(sum(sum) / sum(n), min(min)), max(max)) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1h
 WHERE series_id = ANY($1::int[]) AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1, 2
 ORDER BY 1, 2;

-- name: list_buckets_1d
-- As above, over days.
SELECT series_id, time_bucket($2::interval, bucket) AS time,
       least(greatest(sum(sum) / sum(n), min(min)), max(max)) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1d
 WHERE series_id = ANY($1::int[]) AND bucket >= time_bucket($2, $3::timestamptz) AND bucket < $4
 GROUP BY 1, 2
 ORDER BY 1, 2;

-- name: list_local_buckets_1h
-- $1 series, $2 edges of the buckets in ascending order, one more than buckets, $3 the first and $4 the last edge.
-- Over hours.
SELECT series_id, ($2::timestamptz[])[width_bucket(bucket, $2::timestamptz[])] AS time,
       least(greatest(sum(sum) / sum(n), min(min)), max(max)) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1h
 WHERE series_id = ANY($1::int[]) AND bucket >= $3 AND bucket < $4
 GROUP BY 1, 2
 ORDER BY 1, 2;

-- name: list_local_buckets_1m
-- As above, over minutes.
SELECT series_id, ($2::timestamptz[])[width_bucket(bucket, $2::timestamptz[])] AS time,
       least(greatest(sum(sum) / sum(n), min(min)), max(max)) AS avg, min(min) AS min, max(max) AS max, sum(n)::bigint AS count,
       first(first, bucket) AS first, last(last, bucket) AS last
  FROM reading_1m
 WHERE series_id = ANY($1::int[]) AND bucket >= $3 AND bucket < $4
 GROUP BY 1, 2
 ORDER BY 1, 2;

-- name: list_all_series
SELECT series.id, sensor.name AS sensor, series.metric, coalesce(series.unit, series.rule_unit) AS unit
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.deleted_at IS NULL;

-- name: list_chunk_windows
-- $1 from, $2 to (excluded): the ranges of the chunks of readings that reach into it, cut to it, in order of time
SELECT greatest(range_start, $1), least(range_end, $2)
  FROM timescaledb_information.chunks
 WHERE hypertable_schema = current_schema() AND hypertable_name = 'reading'
   AND range_end > $1::timestamptz AND range_start < $2::timestamptz
 ORDER BY range_start;

-- name: export_readings
-- $1 series in the order of their names, $2 from, $3 to (excluded). Returns the position of each series from 1.
SELECT chosen.position, to_us(reading.time) AS time_us, reading.value
  FROM unnest($1::int[]) WITH ORDINALITY AS chosen (series_id, position)
  JOIN reading ON reading.series_id = chosen.series_id
 WHERE reading.time >= $2 AND reading.time < $3
 ORDER BY reading.time, chosen.position;
