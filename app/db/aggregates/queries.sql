-- The aggregates, on both editions.

-- name: get_aggregates_fingerprint
SELECT obj_description(to_regclass('reading_1d'), 'pg_class');

-- name: get_view_kind
-- $1 relation
SELECT CASE WHEN EXISTS (
           SELECT FROM timescaledb_information.continuous_aggregates
            WHERE view_schema = current_schema() AND view_name = $1
       ) THEN 'MATERIALIZED VIEW'
       WHEN to_regclass($1) IS NOT NULL THEN 'VIEW' END;

-- name: find_stored_aggregate
-- $1 relation. The table that holds what is stored of it, whichever edition made it; null where nothing is.
SELECT coalesce(
    (SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
       FROM timescaledb_information.continuous_aggregates
      WHERE view_schema = current_schema() AND view_name = $1),
    to_regclass(replace($1, 'reading_', 'rolled_'))::text
);

-- name: count_compressed_chunks
-- Of readings and of continuous aggregates over them.
SELECT count(*)
  FROM timescaledb_information.chunks AS chunks
  LEFT JOIN timescaledb_information.continuous_aggregates AS aggregate
    ON materialization_hypertable_schema = chunks.hypertable_schema
   AND materialization_hypertable_name = chunks.hypertable_name
 WHERE chunks.is_compressed
   AND ((chunks.hypertable_schema = current_schema() AND chunks.hypertable_name = 'reading')
        OR aggregate.view_schema = current_schema());

-- name: note_all_as_late
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN 'infinity';
END $$;

-- name: insert_placeholder
-- $1 time
INSERT INTO reading (series_id, time, value) VALUES (-1, $1, 0) ON CONFLICT DO NOTHING;

-- name: delete_placeholders
DELETE FROM reading WHERE series_id = -1 AND time > '-infinity';

-- name: get_oldest_reading
-- $1 from when on, or null. Once per rebuild; the planner walks chunks in order and stops at the first row.
SELECT min(time) AS oldest, now() AS now FROM reading WHERE time >= coalesce($1::timestamptz, '-infinity');

-- name: get_continuous_watermark
-- $1 relation of the Community edition; null where nothing is materialised yet
SELECT CASE WHEN watermark > '0001-01-01' THEN watermark END
  FROM _timescaledb_catalog.continuous_agg
 CROSS JOIN _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id)) AS watermark
 WHERE user_view_schema = current_schema() AND user_view_name = $1;

-- name: has_refresh_options
-- Whether refresh_continuous_aggregate takes options, and with them `force`, as it does in newer versions.
SELECT EXISTS (
    SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'options' = ANY(proargnames)
);

-- name: get_transaction_number
SELECT pg_current_xact_id()::text;

-- name: are_earlier_transactions_over
-- $1 number of a transaction that is over
SELECT pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8;

-- name: list_late_days
SELECT id, day FROM late_day ORDER BY id LIMIT 10000;

-- name: delete_late_days
-- $1 ids
DELETE FROM late_day WHERE id = ANY($1::bigint[]);

-- name: get_raw_retention
-- How long the policy of the Community edition keeps raw readings; no row where none is in force. Subtracting makes days
-- of the months and years of an interval.
SELECT now() - (now() - (config ->> 'drop_after')::interval)
  FROM timescaledb_information.jobs
 WHERE proc_name = 'policy_retention' AND scheduled
   AND hypertable_schema = current_schema() AND hypertable_name = 'reading';

-- name: has_gone_readings
-- $1 start and $2 end of a UTC day: whether the aggregates count more readings of some series than are stored. A series
-- that was deleted does not count.
SELECT EXISTS (
    SELECT
      FROM (SELECT series_id, sum(n) AS n FROM reading_1d WHERE bucket >= $1 AND bucket < $2 GROUP BY 1) AS known
      JOIN series ON series.id = known.series_id
      JOIN sensor ON sensor.id = series.sensor_id AND sensor.deleted_at IS NULL
      LEFT JOIN (SELECT series_id, count(*) AS n FROM reading WHERE time >= $1 AND time < $2 GROUP BY 1) AS raw
        ON raw.series_id = known.series_id
     WHERE known.n > coalesce(raw.n, 0)
);

-- name: list_overdue_policies
-- Policies of the Community edition whose last run failed, or that have not succeeded for three of their intervals. One
-- that was switched off stays off. TimescaleDB calls an aggregate by its view or by the table below, by version.
SELECT job.job_id, job.proc_name, coalesce(aggregate.view_name, job.hypertable_name) AS relation,
       job.schedule_interval, (job.config ->> 'start_offset')::interval AS start_offset,
       greatest(stats.last_successful_finish, built.at) AS succeeded_at,
       coalesce(isfinite(stats.last_successful_finish), FALSE) AS has_succeeded
  FROM timescaledb_information.jobs AS job
 CROSS JOIN aggregates_built AS built
  LEFT JOIN timescaledb_information.job_stats AS stats USING (job_id)
  LEFT JOIN timescaledb_information.continuous_aggregates AS aggregate
    ON materialization_hypertable_schema = job.hypertable_schema
   AND materialization_hypertable_name = job.hypertable_name
 WHERE job.scheduled
   AND ((job.hypertable_schema = current_schema()
         AND job.hypertable_name IN ('reading', 'reading_1m', 'reading_1h', 'reading_1d'))
        OR aggregate.view_schema = current_schema())
   AND (stats.last_run_status = 'Failed'
        OR now() - greatest(stats.last_successful_finish, built.at) > 3 * job.schedule_interval)
 ORDER BY job.proc_name = 'policy_refresh_continuous_aggregate' DESC, job.job_id;

-- name: list_reading_chunks
-- From the oldest on.
SELECT range_start, range_end
  FROM timescaledb_information.chunks
 WHERE hypertable_schema = current_schema() AND hypertable_name = 'reading'
 ORDER BY range_start;

-- name: delete_readings
-- $1 series ids, $2 from, $3 to (excluded)
DELETE FROM reading WHERE series_id = ANY($1::int[]) AND time >= $2 AND time < $3;
