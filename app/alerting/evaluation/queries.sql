-- Queries of evaluation: new readings, states, readings for replays.
-- Times are microseconds since 1970 (from_us, to_us) unless a comment says otherwise.

-- name: read_evaluation_clock
-- The greatest time that an evaluation has seen, or now.
SELECT to_us(greatest(clock_timestamp(), seen)) FROM evaluation_clock;

-- name: note_evaluation_clock
-- $1 time up to which readings were evaluated
UPDATE evaluation_clock SET seen = greatest(seen, from_us($1::bigint));

-- name: list_dirty
-- $1 largest number of rows of each kind, $2 largest number of bytes of fresh and $3 of late rows. The first row of each
-- kind counts also if it is larger. Only the oldest rows of each kind are looked at, however many wait. $4 now: rows of
-- readings whose time has not come yet have a later `at`.
WITH oldest AS (
    (SELECT id, late, coalesce(octet_length(summaries), 20 * cardinality(series_ids)) AS bytes
       FROM dirty WHERE NOT late AND at <= from_us($4::bigint) ORDER BY id LIMIT $1)
    UNION ALL
    (SELECT id, late, coalesce(octet_length(summaries), 20 * cardinality(series_ids)) AS bytes
       FROM dirty WHERE late AND at <= from_us($4::bigint) ORDER BY id LIMIT $1)
), placed AS (
    SELECT id, late, bytes, sum(bytes) OVER (PARTITION BY late ORDER BY id) - bytes AS bytes_before FROM oldest
), taken AS (
    SELECT id
      FROM placed
     WHERE bytes_before = 0 OR bytes_before + bytes <= CASE WHEN late THEN $3::bigint ELSE $2::bigint END
)
SELECT id, late, matures, summaries, series_ids,
       array(SELECT to_us(t) FROM unnest(from_times) AS t) AS from_us,
       array(SELECT to_us(t) FROM unnest(to_times) AS t) AS to_us
  FROM dirty
  JOIN taken USING (id)
 ORDER BY id;

-- name: list_late
-- $1 ids of rows that are left out, $2 after this id, $3 largest number of rows
SELECT id, summaries, series_ids,
       array(SELECT to_us(t) FROM unnest(from_times) AS t) AS from_us,
       array(SELECT to_us(t) FROM unnest(to_times) AS t) AS to_us
  FROM dirty
 WHERE late AND id > $2 AND id <> ALL($1::bigint[])
 ORDER BY id
 LIMIT $3;

-- name: move_behind
-- $1 packed summaries of fresh readings that wait for late ones of their series
INSERT INTO dirty (summaries, late) VALUES ($1, TRUE) RETURNING id;

-- name: put_off
-- $1 packed summaries of readings whose time has not come yet, $2 whether they are late, $3 when they are looked at again
INSERT INTO dirty (summaries, late, at, matures) VALUES ($1, $2, from_us($3::bigint), TRUE);

-- name: mature_series_state
-- $1 series ids in ascending order, $2 the earliest time and $3 the latest time of readings whose time has come
INSERT INTO series_state AS state (series_id, last_time, last_value, received_at)
SELECT matured.series_id, newest.time, newest.value, now()
  FROM unnest($1::int[]) AS matured (series_id)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = matured.series_id AND time >= from_us($2::bigint) AND time <= from_us($3::bigint)
       ORDER BY time DESC
       LIMIT 1
 ) AS newest
ON CONFLICT (series_id) DO UPDATE SET
    last_value = excluded.last_value, last_time = excluded.last_time
 WHERE excluded.last_time > state.last_time;

-- name: shorten_dirty
-- $1 id, $2 packed summaries that are left
UPDATE dirty SET summaries = $2, series_ids = NULL, from_times = NULL, to_times = NULL WHERE id = $1;

-- name: take_sensor_changes
-- Returns the series of the sensors that have changed since the last evaluation.
WITH taken AS (
    DELETE FROM sensor_change RETURNING sensor_id
)
SELECT id FROM series WHERE sensor_id IN (SELECT sensor_id FROM taken);

-- name: delete_dirty
-- $1 ids
DELETE FROM dirty WHERE id = ANY($1::bigint[]);

-- name: list_series
-- $1 series ids
SELECT series.id, series.metric, series.unit, to_us(series.created_at) AS created_us,
       coalesce(sensor.name, sensor.deleted_name) AS sensor, sensor.tags, sensor.gateway,
       sensor.retired_at IS NOT NULL AS is_retired, sensor.deleted_at IS NOT NULL AS is_deleted
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE series.id = ANY($1::int[]);

-- name: list_states
-- $1 series ids
SELECT rule, series_id, era, to_us(era_from) AS era_from_us, rule_hash, to_us(evaluated_to) AS evaluated_us,
       cache::text, inherited::text, to_us(next_due) AS next_due_us, to_us(horizon) AS horizon_us
  FROM alert_state
 WHERE series_id = ANY($1::int[]);

-- name: upsert_states
-- $1 rules, $2 series ids, $3 eras, $4 starts of the eras, $5 rule hashes, $6 evaluated_to, $7 caches and $8 inherited
-- episodes as JSON, $9 next_due, $10 horizons, $11 companions as JSON; the arrays must be in order of (series id, rule)
INSERT INTO alert_state AS state
       (rule, series_id, era, era_from, rule_hash, evaluated_to, cache, inherited, next_due, horizon, companions)
SELECT rule, series_id, era, from_us(era_from_us), rule_hash, from_us(evaluated_us), cache::jsonb, inherited::jsonb,
       from_us(next_due_us), from_us(horizon_us), companions::jsonb
  FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[],
              $9::bigint[], $10::bigint[], $11::text[])
       AS new (rule, series_id, era, era_from_us, rule_hash, evaluated_us, cache, inherited, next_due_us, horizon_us,
               companions)
ON CONFLICT (rule, series_id) DO UPDATE SET
    era = excluded.era, era_from = excluded.era_from, rule_hash = excluded.rule_hash,
    evaluated_to = excluded.evaluated_to, cache = excluded.cache, inherited = excluded.inherited,
    next_due = excluded.next_due, horizon = excluded.horizon, companions = excluded.companions;

-- name: list_changed_series
-- $1 rules and $2 hashes of their terms, for all their series. The series for which the terms of a rule have changed since
-- it was evaluated last.
SELECT DISTINCT state.series_id AS id
  FROM alert_state AS state
 WHERE state.rule_hash <> '' AND state.rule = ANY($1::text[])
   AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS known (rule, hash)
                    WHERE known.rule = state.rule AND known.hash = split_part(state.rule_hash, '+', 1));

-- name: list_evaluated_series
SELECT DISTINCT series_id AS id FROM alert_state;

-- name: put_companion_warnings
-- $1 what is wrong with the second metrics of rules, by rule
UPDATE worker_status SET companion_warnings = $1 WHERE companion_warnings IS DISTINCT FROM $1;

-- name: list_wanted_oldest
-- The oldest readings of several ranges. $1 numbers of the ranges, $2 series ids, $3 from (included), $4 to (excluded),
-- $5 largest number of readings. $6 and $7 are the earliest $3 and the latest $4, for chunk exclusion.
SELECT wanted.number, to_us(found.time) AS us, found.value
  FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::int[])
       AS wanted (number, series_id, from_time, to_time, at_most)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = wanted.series_id AND time >= wanted.from_time AND time < wanted.to_time
         AND time >= $6 AND time < $7
       ORDER BY time
       LIMIT wanted.at_most
 ) AS found
 ORDER BY 1, 2;

-- name: list_wanted_newest
-- The newest readings of several ranges, in ascending order; parameters as for list_wanted_oldest.
SELECT wanted.number, to_us(found.time) AS us, found.value
  FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::int[])
       AS wanted (number, series_id, from_time, to_time, at_most)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = wanted.series_id AND time >= wanted.from_time AND time < wanted.to_time
         AND time >= $6 AND time < $7
       ORDER BY time DESC
       LIMIT wanted.at_most
 ) AS found
 ORDER BY 1, 2;

-- name: list_extremes
-- The number, lowest and highest value of the readings of several ranges, in their order. $1 series ids, $2 from and
-- $3 to (included). $4 and $5 are the earliest $2 and the latest $3, for chunk exclusion.
SELECT found.n, found.lowest, found.highest
  FROM unnest($1::int[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY
       AS wanted (series_id, from_time, to_time, number)
 CROSS JOIN LATERAL (
      SELECT count(*) AS n, min(value) AS lowest, max(value) AS highest
        FROM reading
       WHERE series_id = wanted.series_id AND time >= wanted.from_time AND time <= wanted.to_time
         AND time >= $4 AND time <= $5
 ) AS found
 ORDER BY wanted.number;

-- name: move_open_episodes
-- $1 rules, $2 series ids, $3 new eras. An open episode stays open when the terms of its rule change.
UPDATE alert_episode AS episode SET era = new.era
  FROM unnest($1::text[], $2::int[], $3::int[]) AS new (rule, series_id, era)
 WHERE episode.rule = new.rule AND episode.series_id = new.series_id
   AND kind = 'threshold' AND resolved_at IS NULL AND reason IS NULL;

-- name: list_open_alerts
-- All open alerts with the fields by which rules select series.
SELECT episode.id, episode.rule, episode.series_id, coalesce(sensor.name, sensor.deleted_name) AS sensor, series.metric,
       sensor.tags, sensor.gateway
  FROM alert_episode AS episode
  JOIN series ON series.id = episode.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted';

-- name: delete_states_of_removed_rules
-- $1 names of the rules that still exist
DELETE FROM alert_state WHERE rule <> ALL($1::text[]);

-- name: list_older_series
-- $1 time. Series of sensors in use that have readings and were registered before that time.
SELECT series.id
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE series.created_at < from_us($1::bigint) AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;

-- name: list_newest_times
-- $1 series ids
SELECT series_id, to_us(last_time) AS us FROM series_state WHERE series_id = ANY($1::int[]);

-- name: get_ingest_since
-- The time since which uploads could be taken without a break; now() during a break.
SELECT to_us(since) FROM ingest_view;
