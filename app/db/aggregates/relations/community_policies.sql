-- Fresh readings by policies; days that late readings touch by the lease holder (refresh_late_days). Each start_offset
-- stays inside raw retention: refreshing over dropped chunks would delete the aggregates. No batches of buckets: see
-- refresh_day.

SELECT add_continuous_aggregate_policy(
    'reading_1m', INTERVAL '1 day', INTERVAL '2 minutes', INTERVAL '1 minute', buckets_per_batch => 0
);
SELECT add_continuous_aggregate_policy(
    'reading_1h', INTERVAL '7 days', INTERVAL '2 hours', INTERVAL '15 minutes', buckets_per_batch => 0
);
SELECT add_continuous_aggregate_policy(
    'reading_1d', INTERVAL '30 days', INTERVAL '2 days', INTERVAL '1 hour', buckets_per_batch => 0
);

SELECT add_retention_policy('reading', INTERVAL '400 days', if_not_exists => TRUE);
SELECT add_retention_policy('reading_1m', INTERVAL '800 days');

ALTER TABLE reading SET (
    timescaledb.enable_columnstore = TRUE,
    timescaledb.segmentby = 'series_id',
    timescaledb.orderby = 'time'
);
CALL add_columnstore_policy('reading', after => INTERVAL '7 days', if_not_exists => TRUE);
ALTER MATERIALIZED VIEW reading_1m SET (
    timescaledb.enable_columnstore = TRUE,
    timescaledb.segmentby = 'series_id',
    timescaledb.orderby = 'bucket'
);
CALL add_columnstore_policy('reading_1m', after => INTERVAL '30 days', if_not_exists => TRUE);
