-- State of the database and of the work on it. Ages are in seconds, by the clock of the database.

-- name: is_read_only
SELECT current_setting('transaction_read_only')::boolean;

-- name: get_work
-- Operators who accept lost readings, as in tests, set tidegauge.may_lose_readings in PostgreSQL.
-- $1 largest number of rows of `dirty` that are counted: after a long time without a worker there are very many; $2
-- largest number of sensors whose names two gateways use
SELECT worker_status.evaluated_at,
       extract(epoch FROM clock_timestamp() - worker_status.evaluated_at)::float8 AS evaluated_ago_s,
       worker_status.warnings AS worker_warnings,
       (SELECT count(*) FROM (SELECT FROM dirty WHERE at <= clock_timestamp() LIMIT $1) AS counted) AS dirty_rows,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - at)
                   FROM dirty WHERE at <= clock_timestamp() ORDER BY id LIMIT 1), 0)::float8
           AS dirty_oldest_s,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(due_at))
                   FROM notification WHERE state IN ('waiting', 'sending')), 0)::float8 AS unsent_oldest_s,
       ARRAY(SELECT jsonb_build_array(sensor.name, coalesce(sensor.owner, sensor.created_by), others.gateway)
               FROM foreign_sensor AS others
               JOIN sensor ON sensor.id = others.sensor_id AND sensor.deleted_at IS NULL
              WHERE others.seen_at > now() - INTERVAL '1 hour'
                AND others.gateway <> coalesce(sensor.owner, sensor.created_by)
                AND EXISTS (SELECT FROM gateway
                             WHERE gateway.name = coalesce(sensor.owner, sensor.created_by)
                               AND gateway.last_upload_at > now() - INTERVAL '1 hour')
              ORDER BY sensor.name, others.gateway
              LIMIT $2) AS shared_names,
       ARRAY(SELECT message FROM rule_problem ORDER BY position) AS rule_problems,
       ARRAY(SELECT name FROM unnest('{fsync,full_page_writes,synchronous_commit}'::text[]) AS name
              WHERE current_setting(name) = 'off'
                AND coalesce(current_setting('tidegauge.may_lose_readings', TRUE), '') <> 'on') AS not_durable
  FROM worker_status;
