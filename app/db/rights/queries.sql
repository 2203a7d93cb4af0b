-- The rights of each role. `tidegauge migrate` runs the statements of ensure_rights each time: roles belong to the server,
-- so a restored database may lack them, and a right that was refused once may be granted now. Each statement skips rights
-- that are correct already, because a GRANT on a hypertable goes through all of its chunks.

-- name: create_app_role
DO $$ BEGIN
    IF to_regrole('tidegauge_app') IS NULL THEN
        CREATE ROLE tidegauge_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- by another database of the same server at this moment
END $$;

-- name: let_owner_become_app
-- A superuser may become any role.
DO $$ BEGIN
    IF NOT pg_has_role(
        current_user, 'tidegauge_app', CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
        GRANT tidegauge_app TO CURRENT_USER;
    END IF;
END $$;

-- name: let_owner_end_readers
-- Only a member of a role may end its sessions.
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'tidegauge_reader', 'USAGE') THEN
        GRANT tidegauge_reader TO CURRENT_USER;
    END IF;
END $$;

-- name: grant_connections
DO $$ DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tidegauge_app', 'tidegauge_reader'] LOOP
        IF NOT has_database_privilege(wanted, current_database(), 'CONNECT') THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted);
        END IF;
        IF NOT has_schema_privilege(wanted, current_schema(), 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), wanted);
        END IF;
    END LOOP;
END $$;

-- name: grant_rows
-- The API reads and writes rows of every table, except those of migrations and those that only the worker uses.
DO $$ DECLARE
    relation record;
    wanted text;
BEGIN
    FOR relation IN
        SELECT oid::regclass AS name, relkind, relname
          FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v', 'S')
           AND pg_has_role(current_user, relowner, 'USAGE')
           AND NOT EXISTS (SELECT FROM pg_depend
                            WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('e', 'i'))
    LOOP
        wanted := CASE WHEN relation.relkind = 'S' THEN 'USAGE'
                       WHEN relation.relkind = 'v' OR relation.relname IN ('schema_migration', 'lease') THEN 'SELECT'
                       WHEN relation.relname IN ('migration_lock', 'evaluation_lock') THEN NULL
                       ELSE 'SELECT, INSERT, UPDATE, DELETE' END;
        IF wanted IS NULL THEN
            CONTINUE;
        ELSIF relation.relkind = 'S' AND has_sequence_privilege('tidegauge_app', relation.name, wanted) THEN
            CONTINUE;
        ELSIF relation.relkind <> 'S' AND (
            SELECT bool_and(has_table_privilege('tidegauge_app', relation.name, privilege))
              FROM regexp_split_to_table(wanted, ', ') AS privilege
        ) THEN
            CONTINUE;
        END IF;
        EXECUTE format('GRANT %s ON %s %s TO tidegauge_app', wanted,
                       CASE WHEN relation.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relation.name);
    END LOOP;
END $$;

-- name: keep_functions_that_write
-- Only the API may call functions that write. Functions that only read serve views; a view checks the rights of its user.
DO $$ DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT oid
          FROM pg_proc
         WHERE pronamespace = current_schema()::regnamespace AND provolatile = 'v'
           AND pg_has_role(current_user, proowner, 'USAGE')
           AND NOT EXISTS (SELECT FROM pg_depend
                            WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
    LOOP
        IF has_function_privilege('public', function, 'EXECUTE') THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
        END IF;
        IF NOT has_function_privilege('tidegauge_app', function, 'EXECUTE') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tidegauge_app', function);
        END IF;
    END LOOP;
END $$;

-- name: revoke_temporary_tables
-- They would fill the disk.
DO $$ BEGIN
    IF has_database_privilege('public', current_database(), 'TEMPORARY') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
END $$;

-- name: revoke_creation
-- Databases that come from PostgreSQL 14 or older let everyone create tables.
DO $$ BEGIN
    IF has_schema_privilege('public', current_schema(), 'CREATE') THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    END IF;
END $$;

-- name: revoke_costly_functions
-- Functions that write large objects, write into the log, or add jobs of TimescaleDB. They belong to the superuser of the
-- server, so an owner who is no superuser revokes nothing.
DO $$ DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT oid
          FROM pg_proc
         WHERE (proname LIKE 'lo\_%' OR proname IN ('lowrite', 'pg_logical_emit_message', 'add_job'))
           AND has_function_privilege('public', oid, 'EXECUTE') AND pg_has_role(current_user, proowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;

-- name: limit_reader
-- These are defaults, which operators may change. The reader may change most of them for itself, so the worker also ends
-- its long transactions. Only a superuser can change temp_file_limit.
DO $$ DECLARE
    set_already text[] := coalesce(
        (SELECT array_agg(split_part(setting, '=', 1))
           FROM pg_db_role_setting, unnest(setconfig) AS setting
          WHERE setdatabase = 0 AND setrole = 'tidegauge_reader'::regrole),
        '{}'
    );
BEGIN
    IF NOT 'default_transaction_read_only' = ANY(set_already) THEN
        ALTER ROLE tidegauge_reader SET default_transaction_read_only = on;
    END IF;
    IF NOT 'statement_timeout' = ANY(set_already) THEN
        ALTER ROLE tidegauge_reader SET statement_timeout = '30s';
    END IF;
    IF NOT 'idle_in_transaction_session_timeout' = ANY(set_already) THEN
        ALTER ROLE tidegauge_reader SET idle_in_transaction_session_timeout = '30s';
    END IF;
    IF NOT 'temp_file_limit' = ANY(set_already) AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        ALTER ROLE tidegauge_reader SET temp_file_limit = '1GB';
    END IF;
END $$;

-- name: has_app_role
-- Whether the user of this session may become tidegauge_app.
SELECT to_regrole('tidegauge_app') IS NOT NULL AND pg_has_role(
    session_user, to_regrole('tidegauge_app'),
    CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
);

-- name: list_open_rights
-- Rights of the reader, and of everyone who can connect, that could stop the server, each with the statement that revokes it.
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()) AS remedy,
       'everyone may fill the disk with temporary tables' AS text
 WHERE has_database_privilege('public', current_database(), 'TEMPORARY')
 UNION ALL
SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema()), 'everyone may create tables'
 WHERE has_schema_privilege('public', current_schema(), 'CREATE')
 UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', string_agg(oid::regprocedure::text, ', ' ORDER BY proname)),
       'everyone may fill the disk, or keep TimescaleDB''s workers busy, by functions'
  FROM pg_proc
 WHERE (proname LIKE 'lo\_%' OR proname IN ('lowrite', 'pg_logical_emit_message', 'add_job'))
   AND has_function_privilege('public', oid, 'EXECUTE')
HAVING count(*) > 0
 UNION ALL
SELECT 'ALTER ROLE tidegauge_reader SET temp_file_limit = ''1GB''', 'the reader may fill the disk with temporary files'
 WHERE to_regrole('tidegauge_reader') IS NOT NULL
   AND NOT EXISTS (
       SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting
        WHERE setrole = to_regrole('tidegauge_reader') AND setting LIKE 'temp\_file\_limit=%'
   )
   AND current_setting('temp_file_limit') = '-1'
 UNION ALL
SELECT format('GRANT tidegauge_reader TO %I', current_user), 'the worker cannot end long transactions of the reader'
 WHERE to_regrole('tidegauge_reader') IS NOT NULL AND NOT pg_has_role(current_user, to_regrole('tidegauge_reader'), 'USAGE')
 UNION ALL
SELECT 'max_prepared_transactions = 0 in postgresql.conf', 'a prepared transaction may hold locks for ever'
 WHERE current_setting('max_prepared_transactions') <> '0';

-- name: end_reader_transactions
-- $1 seconds after which a transaction of the reader is ended, $2 seconds for which it may make another session wait for
-- a lock. Uploads and queries wait behind DDL, retention or compression that wait for it, and it blocks vacuum. The limits
-- of the role itself are defaults that the reader may change.
SELECT pid, pg_terminate_backend(pid) AS ended
  FROM pg_stat_activity
 WHERE datname = current_database() AND usename = 'tidegauge_reader' AND pg_has_role(current_user, usesysid, 'USAGE')
   AND (clock_timestamp() - xact_start > $1 * INTERVAL '1 second'
        OR pid IN (SELECT unnest(pg_blocking_pids(waiting.pid))
                     FROM pg_locks AS waiting
                    WHERE NOT granted AND clock_timestamp() - waitstart > $2 * INTERVAL '1 second'));
