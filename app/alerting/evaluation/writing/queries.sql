-- Queries that write episodes, their values, and changes for the live feed.
-- Times are microseconds since 1970 (from_us, to_us) unless a comment says otherwise.

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

-- name: mark_unselected
-- $1 rules, $2 ids of series that they no longer select. If a rule selects the series again, a new era begins.
UPDATE alert_state AS state
   SET rule_hash = ''
  FROM unnest($1::text[], $2::int[]) AS unselected (rule, series_id)
 WHERE state.rule = unselected.rule AND state.series_id = unselected.series_id;

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
