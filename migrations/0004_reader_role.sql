-- The role of Grafana and of anyone who only looks. It belongs to the whole server, so it may be there already.

DO $$ BEGIN
    CREATE ROLE tidegauge_reader NOLOGIN CONNECTION LIMIT 20;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

DO $$ BEGIN
    ALTER ROLE tidegauge_reader SET default_transaction_read_only = on;
    ALTER ROLE tidegauge_reader SET statement_timeout = '30s';
EXCEPTION WHEN OTHERS THEN
    -- Another database of the same server is setting the same values at this moment.
    IF SQLERRM NOT LIKE 'tuple concurrently%' THEN
        RAISE;
    END IF;
END $$;

GRANT USAGE ON SCHEMA public TO tidegauge_reader;
GRANT SELECT ON sensor, series, reading, series_state TO tidegauge_reader;
