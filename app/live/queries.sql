-- The live feed.

-- name: get_feed_head
-- head: the newest committed row, at which a process begins. pruned_to: the newest pruned row; clients can resume from
-- there on. A copied, restored or promoted database may reuse sequence numbers of the original, so the epoch also
-- depends on the system identifier, the database and the timeline, which differ between the two.
SELECT substr(md5(concat_ws(' ', epoch, system_identifier, database.oid, timeline)), 1, 12) AS epoch,
       (SELECT coalesce(max(seq), pruned_to) FROM feed) AS head,
       pruned_to
  FROM feed_epoch, pg_control_system(), pg_database AS database,
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline
 WHERE database.datname = current_database();

-- name: get_newest_feed_row
-- $1 after this seq
SELECT seq, at FROM feed WHERE seq > $1 ORDER BY seq DESC LIMIT 1;

-- name: list_feed
-- $1 after this seq, $2 up to this seq, $3 limit of rows, $4 limit of bytes of payload; the row that reaches it is the
-- last one. The server knows the size of a payload without reading it.
SELECT seq, at, kind, payload
  FROM (
      SELECT seq, at, kind, payload,
             sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
        FROM (
            SELECT seq, at, kind, payload FROM feed WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3
        ) AS next_rows
  ) AS sized
 WHERE bytes_before < $4::int
 ORDER BY seq;

-- name: prune_feed
-- $1 age, $2 bytes of payload to keep at most. The tighter of the two limits counts; the newest row always stays.
WITH sized AS (
    SELECT seq, at, sum(octet_length(payload)) OVER (ORDER BY seq DESC) AS bytes_from_here FROM feed
), cut AS (
    SELECT max(seq) AS seq
      FROM sized
     WHERE (at < now() - $1::interval OR bytes_from_here > $2) AND seq < (SELECT max(seq) FROM feed)
), moved AS (
    UPDATE feed_epoch SET pruned_to = cut.seq FROM cut WHERE cut.seq > pruned_to
)
DELETE FROM feed USING cut WHERE feed.seq <= cut.seq;

-- name: list_latest
SELECT sensor.name, series.metric, state.last_time, state.last_value
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY sensor.name, state.last_time, series.metric;

-- name: get_last_legacy_reading
SELECT id, sensor, to_us(time) AS time_us, temperature, humidity, pressure, client_ip
  FROM legacy_reading ORDER BY id DESC LIMIT 1;

-- name: list_open_alerts
-- For the snapshot, the newest first.
SELECT id, rule, kind, sensor, display_name, metric, gateway, tags, unit, level, value, fired_value, threshold,
       message_template, started_at, fired_at, resolved_at, reason, acked_by, acked_at, acked_level
  FROM alert_view
 WHERE state = 'firing' AND resolved_at IS NULL
 ORDER BY fired_at DESC, id DESC;

-- name: list_sensor_facts
-- For the snapshot: what is known of each sensor in use, without its values.
SELECT sensor_view.sensor AS name, display_name, tags, gateway, received_at, state, level,
       (SELECT jsonb_object_agg(metric, coalesce(unit, rule_unit)) FROM series
         WHERE series.sensor_id = sensor_view.sensor_id AND coalesce(unit, rule_unit) IS NOT NULL) AS units
  FROM sensor_view
 WHERE retired_at IS NULL
 ORDER BY sensor_view.sensor;

-- name: list_states
SELECT sensor AS name, state, level FROM sensor_view WHERE retired_at IS NULL;

-- name: list_rule_problems
SELECT message FROM rule_problem ORDER BY position;

-- name: list_sensor_labels
-- For filters by tag and gateway.
SELECT name, tags, gateway FROM sensor WHERE deleted_at IS NULL;

-- name: list_old_names
-- For filters by name.
SELECT sensor.name, alias.name AS old_name FROM sensor_alias AS alias JOIN sensor ON sensor.id = alias.sensor_id;
