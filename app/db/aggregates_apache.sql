-- Plain views, each straight over the hypertable: nested ones would lose the exclusion of chunks.

CREATE VIEW reading_1m AS
SELECT time_bucket(INTERVAL '1 minute', time) AS bucket,
       series_id,
       count(*) AS n,
       sum(value) AS sum,
       min(value) AS min,
       max(value) AS max,
       first(value, time) AS first,
       last(value, time) AS last
  FROM reading
 GROUP BY 1, 2;

CREATE VIEW reading_1h AS
SELECT time_bucket(INTERVAL '1 hour', time) AS bucket,
       series_id,
       count(*) AS n,
       sum(value) AS sum,
       min(value) AS min,
       max(value) AS max,
       first(value, time) AS first,
       last(value, time) AS last
  FROM reading
 GROUP BY 1, 2;

CREATE VIEW reading_1d AS
SELECT time_bucket(INTERVAL '1 day', time) AS bucket,
       series_id,
       count(*) AS n,
       sum(value) AS sum,
       min(value) AS min,
       max(value) AS max,
       first(value, time) AS first,
       last(value, time) AS last
  FROM reading
 GROUP BY 1, 2;

-- A view is never behind: no reading is late.
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT TIMESTAMPTZ '-infinity'
$$;
