-- Queries of evaluation: new readings, states, episodes, missing data.
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

-- name: list_due
-- The series of which a held sample is still to come, and when the first one is due.
SELECT series_id, to_us(min(next_due)) AS due_us FROM alert_state WHERE next_due IS NOT NULL GROUP BY series_id;

-- name: list_timed_series
-- $1 metrics, or null for all. The series of sensors in use.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway,
       coalesce(sensor.gateway, sensor.created_by) AS uploader
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE ($1::text[] IS NULL OR series.metric = ANY($1)) AND sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY series.id;

-- name: list_upload_latenesses
-- When each gateway uploaded last, and how late the readings of its last uploads were, in seconds.
SELECT name, to_us(max(last_upload_at)) AS last_us,
       coalesce(array_agg(late.s) FILTER (WHERE late.s IS NOT NULL), '{}') AS latenesses_s
  FROM gateway
  LEFT JOIN LATERAL unnest(gateway.latenesses_s) AS late (s) ON TRUE
 GROUP BY name;

-- name: list_changed_series
-- $1 rules and $2 hashes of what they say, for all their series. The series for which a rule says something else than
-- when it was evaluated last.
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

-- name: list_open_episodes
-- $1 series ids
SELECT id, rule, series_id, era, to_us(started_at) AS started_us, to_us(fired_at) AS fired_us,
       to_us(resolved_at) AS resolved_us, steps, acked_by, to_us(acked_at) AS acked_us, acked_level
  FROM alert_episode
 WHERE kind = 'threshold' AND resolved_at IS NULL AND reason IS NULL AND series_id = ANY($1::int[]);

-- name: list_episodes_since
-- $1 series ids, $2 time. Open episodes, and those that ended by their readings at or after $2. Retracted ones and
-- those that ended for another reason are left out.
SELECT id, rule, series_id, era, to_us(started_at) AS started_us, to_us(fired_at) AS fired_us,
       to_us(resolved_at) AS resolved_us, steps, acked_by, to_us(acked_at) AS acked_us, acked_level
  FROM alert_episode
 WHERE kind = 'threshold' AND reason IS NULL AND series_id = ANY($1::int[])
   AND (resolved_at IS NULL OR resolved_at >= from_us($2::bigint))
 ORDER BY fired_at;

-- name: list_told
-- $1 episode ids
SELECT channel, episode_id, told, told_level FROM alert_told WHERE episode_id = ANY($1::bigint[]);

-- name: insert_episodes
-- $1 rules, $2 series ids, $3 eras, $4 started_at, $5 fired_at, $6 resolved_at, $7 steps as JSON, $8 levels,
-- $9 thresholds as JSON, $10 the rules' texts, $11 their units, $12 kinds and $13 windows of their values,
-- $14 keywords of the conditions, $15 settled
INSERT INTO alert_episode
       (rule, series_id, era, started_at, fired_at, resolved_at, steps, level, threshold, message_template, unit,
        value_kind, value_window, condition, settled)
SELECT rule, series_id, era, from_us(started_us), from_us(fired_us), from_us(resolved_us), steps::jsonb, level,
       threshold::jsonb, message_template, unit, value_kind, window_us * INTERVAL '1 microsecond', condition, settled
  FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::boolean[])
       AS new (rule, series_id, era, started_us, fired_us, resolved_us, steps, level, threshold, message_template, unit,
               value_kind, window_us, condition, settled)
RETURNING id, rule, series_id, to_us(fired_at) AS fired_us;

-- name: update_episodes
-- $1 ids, $2 started_at, $3 fired_at, $4 resolved_at, $5 steps as JSON, $6 levels, $7 thresholds as JSON,
-- $8 the rules' texts, $9 their units, $10 kinds and $11 windows of their values, $12 keywords of the conditions,
-- $13 acked_by, $14 acked_at, $15 acked_level, $16 whether a settled episode becomes unsettled.
-- Values of an episode that begins or is compared differently are computed anew, those of one that ends are completed.
UPDATE alert_episode AS episode
   SET started_at = from_us(started_us), fired_at = from_us(fired_us), resolved_at = from_us(resolved_us),
       steps = new.steps::jsonb, level = new.level, threshold = new.threshold::jsonb,
       message_template = new.message_template, unit = new.unit, value_kind = new.value_kind,
       value_window = window_us * INTERVAL '1 microsecond', condition = new.condition, acked_by = new.acked_by,
       acked_at = from_us(acked_us), acked_level = new.acked_level, revision = revision + 1,
       settled = settled AND NOT unsettles, values_final = FALSE,
       fired_value = CASE WHEN fired_at = from_us(fired_us) AND episode.value_kind = new.value_kind
                          THEN fired_value END,
       valued_to = CASE WHEN started_at = from_us(started_us) AND fired_at = from_us(fired_us)
                             AND episode.value_kind = new.value_kind
                             AND (resolved_us IS NULL OR valued_to <= from_us(resolved_us)) THEN valued_to END,
       peak = CASE WHEN started_at = from_us(started_us) AND episode.value_kind = new.value_kind
                        AND (resolved_us IS NULL OR peak_at <= from_us(resolved_us)) THEN peak END
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::text[],
              $16::boolean[])
       AS new (id, started_us, fired_us, resolved_us, steps, level, threshold, message_template, unit, value_kind,
               window_us, condition, acked_by, acked_us, acked_level, unsettles)
 WHERE episode.id = new.id;

-- name: value_again
-- $1 series ids, $2 first and $3 last times of late readings: the values of episodes over these times are not final.
-- Windows end later than their readings, and the values of an episode whose window is long are computed anew.
UPDATE alert_episode AS episode
   SET values_final = FALSE, valued_to = CASE WHEN value_kind = 'last' AND episode.started_at < from_us(late.first_us)
                                              THEN least(valued_to, from_us(late.first_us - 1)) END,
       peak = CASE WHEN value_kind = 'last' THEN peak END, peak_at = CASE WHEN value_kind = 'last' THEN peak_at END
  FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS late (series_id, first_us, last_us)
 WHERE episode.series_id = late.series_id AND episode.kind = 'threshold'
   AND episode.started_at <= from_us(late.last_us) + coalesce(episode.value_window, INTERVAL '0')
   AND (episode.resolved_at IS NULL OR episode.resolved_at >= from_us(late.first_us))
   AND (episode.values_final OR episode.valued_to >= from_us(late.first_us));

-- name: list_valued_alerts
-- $1 series with new readings, $2 largest number. Alerts whose values are not final and lack samples, the oldest first.
SELECT episode.id, episode.rule, episode.series_id, coalesce(sensor.name, sensor.deleted_name) AS sensor, series.metric,
       sensor.tags, sensor.gateway, coalesce(episode.value_kind, 'last') AS value_kind,
       (extract(epoch FROM coalesce(episode.value_window, INTERVAL '0')) * 1000000)::bigint AS window_us,
       episode.condition, episode.threshold, to_us(episode.started_at) AS started_us,
       to_us(episode.fired_at) AS fired_us, to_us(episode.resolved_at) AS resolved_us,
       to_us(state.last_time) AS last_us, episode.fired_value, episode.value, episode.peak,
       to_us(episode.peak_at) AS peak_us, to_us(episode.valued_to) AS valued_us
  FROM alert_episode AS episode
  JOIN series ON series.id = episode.series_id
  JOIN sensor ON sensor.id = series.sensor_id
  JOIN series_state AS state ON state.series_id = episode.series_id
 WHERE NOT episode.values_final AND episode.kind = 'threshold' AND episode.reason IS DISTINCT FROM 'retracted'
   AND (episode.valued_to IS NULL OR episode.valued_to < least(coalesce(episode.resolved_at, 'infinity'), state.last_time)
        OR episode.resolved_at IS NOT NULL AND state.last_time > episode.resolved_at + INTERVAL '2 minutes'
        OR episode.series_id = ANY($1::int[]))
 ORDER BY episode.valued_to NULLS FIRST, episode.id
 LIMIT $2;

-- name: list_value_readings
-- $1 ids of alerts, $2 their series, $3 from (included), $4 the first sample, $5 to (included), $6 largest number of
-- readings of each from the first sample on
SELECT wanted.id, to_us(found.time) AS us, found.value
  FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[])
       AS wanted (id, series_id, first_us, sample_us, last_us)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = wanted.series_id
         AND time >= from_us(wanted.first_us) AND time < from_us(wanted.sample_us)
       UNION ALL
      (SELECT time, value
         FROM reading
        WHERE series_id = wanted.series_id
          AND time >= from_us(wanted.sample_us) AND time <= from_us(wanted.last_us)
        ORDER BY time
        LIMIT $6)
 ) AS found
 ORDER BY wanted.id, found.time;

-- name: put_values
-- $1 ids, $2 values when they fired, $3 values now, $4 peaks, $5 times of the peaks, $6 newest samples that these
-- include, $7 whether they are final
UPDATE alert_episode AS episode
   SET fired_value = new.fired_value, value = new.value, peak = new.peak, peak_at = from_us(new.peak_us),
       valued_to = from_us(new.valued_us), values_final = new.is_final
  FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::float8[], $5::bigint[], $6::bigint[], $7::boolean[])
       AS new (id, fired_value, value, peak, peak_us, valued_us, is_final)
 WHERE episode.id = new.id;

-- name: retract_episodes
-- $1 ids, $2 ids of the episodes that they were merged into, or null
UPDATE alert_episode AS episode
   SET reason = 'retracted', merged_into = new.merged_into, revision = revision + 1, settled = FALSE
  FROM unnest($1::bigint[], $2::bigint[]) AS new (id, merged_into)
 WHERE episode.id = new.id;

-- name: inherit_closing
-- $1 ids of closed episodes, $2 ids of the episodes that they were merged into, which are closed then, too.
UPDATE alert_episode AS episode
   SET closed_at = merged.closed_at, closed_by = merged.closed_by, closed_note = merged.closed_note,
       closed_level = merged.closed_level
  FROM unnest($1::bigint[], $2::bigint[]) AS given (id, merged_into)
  JOIN alert_episode AS merged ON merged.id = given.id
 WHERE episode.id = given.merged_into AND merged.closed_at IS NOT NULL AND episode.closed_at IS NULL;

-- name: split_closing
-- $1 ids of episodes that were split from others. Those during which one of the same rule and series was closed, are
-- closed.
UPDATE alert_episode AS episode
   SET closed_at = whole.closed_at, closed_by = whole.closed_by, closed_note = whole.closed_note,
       closed_level = whole.closed_level
  FROM alert_episode AS whole
 WHERE episode.id = ANY($1::bigint[]) AND whole.id <> episode.id AND whole.rule = episode.rule
   AND whole.series_id = episode.series_id AND whole.era = episode.era
   AND whole.closed_at >= episode.started_at AND whole.closed_at <= coalesce(episode.resolved_at, 'infinity');

-- name: delete_episodes
-- $1 ids
DELETE FROM alert_episode WHERE id = ANY($1::bigint[]);

-- name: upsert_told
-- $1 channels, $2 episode ids, $3 told, $4 levels
INSERT INTO alert_told (channel, episode_id, told, told_level)
SELECT channel, episode_id, told, told_level
  FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS new (channel, episode_id, told, told_level)
 ORDER BY episode_id, channel
ON CONFLICT (channel, episode_id) DO UPDATE SET told = excluded.told, told_level = excluded.told_level;

-- name: delete_told
-- $1 episode ids
DELETE FROM alert_told WHERE episode_id = ANY($1::bigint[]);

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

-- name: list_open_alerts_of
-- $1 rules, $2 series ids
SELECT episode.id, episode.rule, episode.series_id
  FROM alert_episode AS episode
  JOIN unnest($1::text[], $2::int[]) AS pair (rule, series_id) USING (rule, series_id)
 WHERE episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted';

-- name: end_alerts
-- $1 ids, $2 reasons; null keeps the stored reason. Rows with the reason no_data_clear are ended but not returned,
-- because they are not alerts.
WITH ended AS (
    UPDATE alert_episode AS episode
       SET resolved_at = greatest(now(), fired_at), revision = revision + 1, settled = FALSE,
           reason = CASE episode.reason WHEN 'no_data_clear' THEN episode.reason
                                        ELSE coalesce(given.reason, episode.reason) END
      FROM unnest($1::bigint[], $2::text[]) AS given (id, reason)
     WHERE episode.id = given.id AND episode.resolved_at IS NULL
    RETURNING episode.id, episode.reason
)
SELECT id FROM ended WHERE reason IS DISTINCT FROM 'no_data_clear' ORDER BY id;

-- name: delete_states_of_removed_rules
-- $1 names of the rules that still exist
DELETE FROM alert_state WHERE rule <> ALL($1::text[]);

-- name: mark_unselected
-- $1 rules, $2 ids of series that they no longer select. If a rule selects the series again, a new era begins.
UPDATE alert_state AS state
   SET rule_hash = ''
  FROM unnest($1::text[], $2::int[]) AS unselected (rule, series_id)
 WHERE state.rule = unselected.rule AND state.series_id = unselected.series_id;

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

-- name: list_alerts_by_id
-- $1 ids
SELECT id, rule, kind, sensor, display_name, metric, gateway, tags, unit, level, value, fired_value, condition,
       threshold, message_template, started_at, fired_at, resolved_at, reason, acked_by, acked_at, acked_level,
       closed_at, closed_by, closed_note
  FROM every_alert_view
 WHERE id = ANY($1::bigint[]);

-- name: insert_alert_feed
-- $1 payloads, in order
INSERT INTO feed (kind, n, payload) SELECT 'alert', 1, payload FROM unnest($1::bytea[]) AS payload;

-- name: list_watched
-- All series with readings of sensors in use, for the check for missing data, without those of which only history was
-- imported.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway,
       coalesce(sensor.gateway, sensor.created_by) AS uploader,
       extract(epoch FROM sensor.expected_interval)::float8 AS expected_s, to_us(state.received_at) AS received_us,
       (extract(epoch FROM series.silent_after) * 1000000)::bigint AS silent_after_us, series.limits,
       series.rule_unit
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
   AND NOT state.only_imported;

-- name: get_now
-- The database's clock, in microseconds since 1970.
SELECT to_us(clock_timestamp());

-- name: get_ingest_since
-- The time since which uploads could be taken without a break; now() during a break.
SELECT to_us(since) FROM ingest_view;

-- name: update_series_watch
-- $1 series ids, $2 how long each may be silent, $3 limits as JSON, $4 units by the rules. Locks the rows in order of
-- id, as uploads do that bring units.
WITH locked AS MATERIALIZED (
    SELECT id FROM series WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE series
   SET silent_after = new.after_us * INTERVAL '1 microsecond', limits = new.limits::jsonb, rule_unit = new.rule_unit
  FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[]) AS new (id, after_us, limits, rule_unit)
  JOIN locked USING (id)
 WHERE series.id = new.id;

-- name: update_gateway_watch
-- $1 names of gateways, $2 how long each may be silent by a rule of its own, null without one.
UPDATE gateway
   SET offline_after = new.after_us * INTERVAL '1 microsecond'
  FROM unnest($1::text[], $2::bigint[]) AS new (name, after_us)
 WHERE gateway.name = new.name AND offline_after IS DISTINCT FROM new.after_us * INTERVAL '1 microsecond';

-- name: list_upload_intervals
-- The median time between uploads of each gateway, in seconds.
SELECT name, percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) AS median_s
  FROM gateway
 CROSS JOIN unnest(intervals_s) AS interval_s
 GROUP BY name;

-- name: list_open_no_data
-- Open alerts of missing data, and open marks of series without data; `gateway` is set for a whole gateway.
SELECT episode.id, episode.rule, episode.series_id, episode.gateway,
       sensor.retired_at IS NOT NULL AS is_retired, sensor.deleted_at IS NOT NULL AS is_deleted
  FROM alert_episode AS episode
  LEFT JOIN series ON series.id = episode.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
 WHERE episode.kind = 'no_data' AND episode.resolved_at IS NULL;

-- name: list_gateways_back
-- When gateways that had been offline last sent data again, within the last 7 days.
SELECT gateway, to_us(max(resolved_at)) AS us
  FROM alert_episode
 WHERE kind = 'no_data' AND gateway IS NOT NULL AND resolved_at > now() - INTERVAL '7 days'
 GROUP BY gateway;

-- name: list_no_data_with_new_readings
-- $1 ids of series with new readings. The open alerts of missing data of these series and of their gateways, if a
-- reading was received after the alert fired.
SELECT episode.id, episode.rule, episode.series_id
  FROM alert_episode AS episode
 WHERE episode.kind = 'no_data' AND episode.resolved_at IS NULL
   AND EXISTS (SELECT
                 FROM series_state AS state
                 JOIN series ON series.id = state.series_id
                 JOIN sensor ON sensor.id = series.sensor_id
                WHERE state.series_id = ANY($1::int[]) AND state.received_at > episode.fired_at
                  AND (state.series_id = episode.series_id OR sensor.gateway = episode.gateway));

-- name: count_change_of_open
-- $1 rules, $2 series ids. Increases the revision of their open episodes, because a further message may be needed.
UPDATE alert_episode AS episode
   SET revision = revision + 1
  FROM unnest($1::text[], $2::int[]) AS changed (rule, series_id)
 WHERE episode.rule = changed.rule AND episode.series_id = changed.series_id
   AND episode.kind = 'threshold' AND episode.resolved_at IS NULL AND episode.reason IS NULL;

-- name: insert_no_data
-- $1 rule, $2 series id or null, $3 gateway or null, $4 time since which data are missing, $5 level, $6 reason,
-- $7 the rule's unit
INSERT INTO alert_episode (rule, series_id, gateway, kind, started_at, fired_at, steps, level, reason, unit)
VALUES ($1, $2, $3, 'no_data', from_us($4), now(), '[]', $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: list_skews
-- Of each gateway that has uploaded within days, the skews of the last uploads by the key that it used last, and the times
-- of these uploads, oldest first.
SELECT DISTINCT ON (name) name, skews_s,
       ARRAY(SELECT to_us(at) FROM unnest(skews_at) WITH ORDINALITY AS each (at, place) ORDER BY place) AS times_us
  FROM gateway
 WHERE last_upload_at > now() - INTERVAL '7 days'
 ORDER BY name, last_upload_at DESC;

-- name: list_open_clock_alerts
SELECT id, gateway FROM alert_episode WHERE kind = 'clock' AND resolved_at IS NULL;

-- name: insert_clock_alert
-- $1 rule, $2 gateway, $3 time of the first upload with a wrong clock, $4 level, $5 what is wrong
INSERT INTO alert_episode (rule, gateway, kind, started_at, fired_at, steps, level, reason)
VALUES ($1, $2, 'clock', from_us($3), now(), '[]', $4, $5)
RETURNING id;
