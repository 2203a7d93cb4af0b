-- Readings before this moment are not in the rolled-up tables until their day is rolled up again. In PL/pgSQL, which keeps
-- its plans: one in SQL is parsed and planned by each flush.
CREATE OR REPLACE FUNCTION late_before() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT aggregate_watermark.late_before FROM aggregate_watermark);
END $$;
