-- Readings before this moment are invisible in some aggregate until their day is refreshed. An hour back, because
-- on a database without materialised data the first run of a policy moves the watermark past everything older.
-- In PL/pgSQL, which keeps its plans: one in SQL is parsed and planned by each flush.
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN greatest(
        now() - INTERVAL '1 hour',
        (SELECT max(_timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id)))
           FROM _timescaledb_catalog.continuous_agg
          WHERE user_view_name IN ('reading_1m', 'reading_1h', 'reading_1d'))
    );
END $$;
