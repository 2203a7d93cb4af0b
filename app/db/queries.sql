-- Migrations, locks, the lease, the size of the database, and the columnstore.

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

-- name: get_database_size
SELECT pg_database_size(current_database());

-- name: try_lease
-- $1 lease number; held by the session
SELECT pg_try_advisory_lock(7421, $1);

-- name: begin_term
-- $1 lease number; returns the term, which counts how often the lease was taken
INSERT INTO lease (number) VALUES ($1) ON CONFLICT (number) DO UPDATE SET term = lease.term + 1 RETURNING term;

-- name: get_term
-- $1 lease number
SELECT term FROM lease WHERE number = $1;

-- name: signal_leader
SELECT pg_notify('tidegauge_work', '');

-- name: is_lease_held
-- $1 lease number
SELECT EXISTS (
    SELECT FROM pg_locks
     WHERE locktype = 'advisory' AND classid = 7421 AND objid = $1::int::oid AND objsubid = 2 AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
);

-- name: allow_any_decompression
-- Late readings in the columnstore, and their deletion, may need more rows decompressed than the usual limit.
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;

-- name: can_inspect_restore
-- Whether there is what inspect_restore looks at: there is neither before the first migration.
SELECT to_regclass('reading') IS NOT NULL AND to_regclass('timescaledb_information.chunks') IS NOT NULL;

-- name: inspect_restore
-- A chunk that is stored, but not known to TimescaleDB, is one that a dump brought. The table of readings has no rows
-- beside its chunks unless some were stored during a restore.
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
