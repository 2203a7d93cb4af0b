-- Migrations, aggregates, locks, the lease and the health checks.

-- name: create_migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
    version int PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: find_migration_table
SELECT to_regclass('schema_migration') IS NOT NULL;

-- name: list_migrations
SELECT version, name, sha256 FROM schema_migration ORDER BY version;

-- name: record_migration
-- $1 version, $2 file name, $3 sha256 of the file in hex
INSERT INTO schema_migration (version, name, sha256) VALUES ($1, $2, $3);

-- name: try_lock_migrations
-- Held by the session. Several processes may start at once; the one with the lock migrates.
SELECT pg_try_advisory_lock(7420, 2);

-- name: unlock_migrations
SELECT pg_advisory_unlock(7420, 2);

-- name: lock_exclusively
-- $1 and $2 key of the lock, held until the transaction ends
SELECT pg_advisory_xact_lock($1, $2);

-- name: lock_shared
-- $1 and $2 key of the lock, held until the transaction ends
SELECT pg_advisory_xact_lock_shared($1, $2);

-- name: get_aggregates_fingerprint
SELECT obj_description(to_regclass('reading_1d'), 'pg_class');

-- name: get_view_kind
-- $1 relation
SELECT CASE WHEN EXISTS (
           SELECT FROM timescaledb_information.continuous_aggregates
            WHERE view_schema = current_schema() AND view_name = $1
       ) THEN 'MATERIALIZED VIEW'
       WHEN to_regclass($1) IS NOT NULL THEN 'VIEW' END;

-- name: count_compressed_chunks
SELECT count(*)
  FROM timescaledb_information.chunks
 WHERE hypertable_schema = current_schema() AND hypertable_name = 'reading' AND is_compressed;

-- name: get_oldest_reading
-- Not bounded in time, but read once per rebuild only; the planner reads chunks in order and stops at the first row.
SELECT min(time) AS oldest, now() AS now FROM reading WHERE time > '-infinity';

-- name: has_refresh_options
-- Whether refresh_continuous_aggregate takes options, as in newer versions of TimescaleDB.
SELECT EXISTS (
    SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'options' = ANY(proargnames)
);

-- name: list_late_days
SELECT id, day FROM late_day ORDER BY id LIMIT 10000;

-- name: delete_late_days
-- $1 ids
DELETE FROM late_day WHERE id = ANY($1::bigint[]);

-- name: drop_old_chunks
-- $1 age
SELECT drop_chunks('reading', older_than => $1::interval);

-- name: get_database_size
SELECT pg_database_size(current_database());

-- name: list_job_problems
-- Jobs of the Community edition whose last run failed.
SELECT job.job_id, job.proc_name, stats.last_run_status, stats.total_failures
  FROM timescaledb_information.job_stats AS stats
  JOIN timescaledb_information.jobs AS job USING (job_id)
 WHERE stats.last_run_status = 'Failed' AND job.hypertable_name IS NOT NULL;

-- name: try_lease
-- $1 lease number; held by the session
SELECT pg_try_advisory_lock(7421, $1);
