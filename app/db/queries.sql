-- Migrations, locks, the lease, the size of the database, and the columnstore.

-- name: create_migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
    version int PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: create_migration_lock
CREATE TABLE IF NOT EXISTS migration_lock (
    id boolean PRIMARY KEY DEFAULT TRUE,
    session_pid int NOT NULL,
    session_start timestamptz
);

-- name: find_migration_table
SELECT to_regclass('schema_migration') IS NOT NULL;

-- name: list_migrations
SELECT version, name, sha256 FROM schema_migration ORDER BY version;

-- name: record_migration
-- $1 version, $2 file name, $3 sha256 of the file in hex
INSERT INTO schema_migration (version, name, sha256) VALUES ($1, $2, $3);

-- name: try_lock_migrations
-- Held until the session ends or gives it up; returns no row while another session holds it. Several processes may start
-- at once; the one with the lock migrates.
INSERT INTO migration_lock AS held (session_pid, session_start)
VALUES (pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()))
ON CONFLICT (id) DO UPDATE SET session_pid = excluded.session_pid, session_start = excluded.session_start
 WHERE NOT EXISTS (
       SELECT FROM pg_stat_activity AS holder
        WHERE holder.pid = held.session_pid AND (holder.backend_start = held.session_start) IS NOT FALSE
   )
RETURNING TRUE;

-- name: unlock_migrations
DELETE FROM migration_lock;

-- name: lock_evaluation
-- Held until the transaction ends.
LOCK TABLE evaluation_lock IN EXCLUSIVE MODE;

-- name: share_evaluation_lock
-- Held until the transaction ends.
LOCK TABLE evaluation_lock IN SHARE MODE;

-- name: end_stalled_sessions
-- $1 how long a session of our login may wait for its client while other sessions wait for its locks
SELECT application_name, extract(epoch FROM clock_timestamp() - query_start)::float8 AS waited_s,
       pg_terminate_backend(pid)
  FROM pg_stat_activity
 WHERE datname = current_database() AND usename = session_user AND application_name LIKE 'tidegauge%'
   AND state = 'active' AND wait_event_type = 'Client' AND query_start < clock_timestamp() - $1::interval
   AND pid = ANY (
       ARRAY(
           SELECT unnest(pg_blocking_pids(waiting.pid)) FROM pg_stat_activity AS waiting
            WHERE waiting.datname = current_database() AND waiting.wait_event_type = 'Lock'
       )
   );
-- name: get_clock
-- In microseconds since 1970; not `to_us`, which the migrations create.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: get_database_size
SELECT pg_database_size(current_database());

-- name: take_lease
-- $1 lease number; returns the new term, which counts how often the lease was taken, or no row while the session that
-- took it last is open. The server does not show when sessions of other users started.
INSERT INTO lease AS held (number, session_pid, session_start)
VALUES ($1, pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()))
ON CONFLICT (number) DO UPDATE
   SET term = held.term + 1, session_pid = excluded.session_pid, session_start = excluded.session_start
 WHERE NOT EXISTS (
       SELECT FROM pg_stat_activity AS holder
        WHERE holder.pid = held.session_pid AND (holder.backend_start = held.session_start) IS NOT FALSE
   )
RETURNING term;

-- name: get_term
-- $1 lease number
SELECT term FROM lease WHERE number = $1;

-- name: signal_leader
-- No signal while the queue of notifications is filling up: see feed_publish. The leader looks a little later anyway.
SELECT pg_notify('tidegauge_work', '') WHERE pg_notification_queue_usage() < 0.001;

-- name: is_lease_held
-- $1 lease number
SELECT EXISTS (
    SELECT
      FROM lease AS held
      JOIN pg_stat_activity AS holder
        ON holder.pid = held.session_pid AND (holder.backend_start = held.session_start) IS NOT FALSE
     WHERE held.number = $1
);

-- name: allow_any_decompression
-- Late readings in the columnstore, and their deletion, may need more rows decompressed than the usual limit.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: can_inspect_restore
-- Returns whether the relations exist that inspect_restore reads; before the first migration they do not.
SELECT to_regclass('reading') IS NOT NULL AND to_regclass('timescaledb_information.chunks') IS NOT NULL;

-- name: inspect_restore
-- A chunk that is stored, but unknown to TimescaleDB, came with a dump. The table `reading` itself has rows outside its
-- chunks only if some were stored during a restore.
SELECT EXISTS (
           SELECT FROM timescaledb_information.hypertables
            WHERE hypertable_schema = current_schema() AND hypertable_name = 'reading'
       ) AS is_hypertable,
       EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'reading'::regclass AND contype = 'p') AS has_key,
       (SELECT count(*)
          FROM pg_class AS stored
          LEFT JOIN timescaledb_information.chunks AS known
            ON known.chunk_schema = '_timescaledb_internal' AND known.chunk_name = stored.relname
         WHERE stored.relnamespace = to_regnamespace('_timescaledb_internal') AND stored.relkind = 'r'
           AND stored.relname ~ '^_hyper_\d+_\d+_chunk$' AND known.chunk_name IS NULL) AS unknown_chunks,
       coalesce(current_setting('timescaledb.restoring', TRUE), 'off') = 'on' AS is_restoring,
       pg_relation_size('reading') > 0 AS has_stray_rows;
