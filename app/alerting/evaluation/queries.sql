-- Evaluation: new readings, states, episodes, missing data. Times are microseconds since 1970 (from_us, to_us).

-- name: list_dirty
-- $1 at most so many rows. Several processes never meet here: the lease lets one evaluate.
SELECT id, series_ids, late,
       array(SELECT to_us(t) FROM unnest(from_times) AS t) AS from_us,
       array(SELECT to_us(t) FROM unnest(to_times) AS t) AS to_us
  FROM dirty
 ORDER BY id
 LIMIT $1;

-- name: delete_dirty
-- $1 ids
DELETE FROM dirty WHERE id = ANY($1::bigint[]);

-- name: list_series
-- $1 series ids
SELECT series.id, series.metric, series.unit, to_us(series.created_at) AS created_us,
       sensor.name AS sensor, sensor.tags, sensor.gateway
  FROM series
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE series.id = ANY($1::int[]);

-- name: list_states
-- $1 series ids
SELECT rule, series_id, era, to_us(era_from) AS era_from_us, rule_hash, to_us(evaluated_to) AS evaluated_us, cache::text
  FROM alert_state
 WHERE series_id = ANY($1::int[]);

-- name: upsert_states
-- $1 rules, $2 series ids, $3 eras, $4 starts of the eras, $5 rule hashes, $6 evaluated to, $7 caches as JSON;
-- in order of (series, rule)
INSERT INTO alert_state AS state (rule, series_id, era, era_from, rule_hash, evaluated_to, cache)
SELECT rule, series_id, era, from_us(era_from_us), rule_hash, from_us(evaluated_us), cache::jsonb
  FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
       AS new (rule, series_id, era, era_from_us, rule_hash, evaluated_us, cache)
ON CONFLICT (rule, series_id) DO UPDATE SET
    era = excluded.era, era_from = excluded.era_from, rule_hash = excluded.rule_hash,
    evaluated_to = excluded.evaluated_to, cache = excluded.cache;

-- name: list_new_readings
-- $1 series ids, $2 earliest and $3 latest time
SELECT series_id, to_us(time) AS us, value
  FROM reading
 WHERE series_id = ANY($1::int[]) AND time >= $2 AND time <= $3
 ORDER BY 1, 2;

-- name: list_wanted_oldest
-- The oldest readings of ranges: $1 numbers of the asks, $2 series ids, $3 from, $4 to (excluded), $5 at most so
-- many; $6 and $7 bound them all
SELECT ask.number, to_us(found.time) AS us, found.value
  FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::int[])
       AS ask (number, series_id, from_time, to_time, at_most)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = ask.series_id AND time >= ask.from_time AND time < ask.to_time AND time >= $6 AND time < $7
       ORDER BY time
       LIMIT ask.at_most
 ) AS found
 ORDER BY 1, 2;

-- name: list_wanted_newest
-- As above, the newest readings of each range.
SELECT ask.number, to_us(found.time) AS us, found.value
  FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::int[])
       AS ask (number, series_id, from_time, to_time, at_most)
 CROSS JOIN LATERAL (
      SELECT time, value
        FROM reading
       WHERE series_id = ask.series_id AND time >= ask.from_time AND time < ask.to_time AND time >= $6 AND time < $7
       ORDER BY time DESC
       LIMIT ask.at_most
 ) AS found
 ORDER BY 1, 2;

-- name: list_open_episodes
-- $1 series ids
SELECT id, rule, series_id, era, to_us(started_at) AS started_us, to_us(fired_at) AS fired_us,
       to_us(resolved_at) AS resolved_us, steps, acked_by, to_us(acked_at) AS acked_us, acked_level
  FROM alert_episode
 WHERE kind = 'threshold' AND resolved_at IS NULL AND reason IS NULL AND series_id = ANY($1::int[]);

-- name: list_episodes_since
-- $1 series ids, $2 time since which they ended or are open. Also those that ended by themselves and not by a rule's
-- removal; withdrawn ones never count.
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
-- $1 rules, $2 series, $3 eras, $4 started, $5 fired, $6 resolved, $7 steps and $9 threshold as JSON, $8 levels,
-- $10 settled
INSERT INTO alert_episode
       (rule, series_id, era, started_at, fired_at, resolved_at, steps, level, threshold, settled)
SELECT rule, series_id, era, from_us(started_us), from_us(fired_us), from_us(resolved_us), steps::jsonb, level,
       threshold::jsonb, settled
  FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
              $9::text[], $10::boolean[])
       AS new (rule, series_id, era, started_us, fired_us, resolved_us, steps, level, threshold, settled)
RETURNING id, rule, series_id, to_us(fired_at) AS fired_us;

-- name: update_episodes
-- $1 ids, $2 started, $3 fired, $4 resolved, $5 steps and $7 threshold as JSON, $6 levels, $8 to $10 acks (by, at,
-- level), $11 whether there is something to tell even if it was settled
UPDATE alert_episode AS episode
   SET started_at = from_us(started_us), fired_at = from_us(fired_us), resolved_at = from_us(resolved_us),
       steps = new.steps::jsonb, level = new.level, threshold = new.threshold::jsonb, acked_by = new.acked_by,
       acked_at = from_us(acked_us), acked_level = new.acked_level, revision = revision + 1,
       settled = settled AND NOT has_news
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::bigint[], $10::text[], $11::boolean[])
       AS new (id, started_us, fired_us, resolved_us, steps, level, threshold, acked_by, acked_us, acked_level,
               has_news)
 WHERE episode.id = new.id;

-- name: withdraw_episodes
-- $1 ids, $2 the episodes that they are part of, or null
UPDATE alert_episode AS episode
   SET reason = 'retracted', merged_into = new.merged_into, revision = revision + 1, settled = FALSE
  FROM unnest($1::bigint[], $2::bigint[]) AS new (id, merged_into)
 WHERE episode.id = new.id;

-- name: delete_episodes
-- $1 ids
DELETE FROM alert_episode WHERE id = ANY($1::bigint[]);

-- name: upsert_told
-- $1 channels, $2 episodes, $3 told, $4 levels
INSERT INTO alert_told (channel, episode_id, told, told_level)
SELECT channel, episode_id, told, told_level
  FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS new (channel, episode_id, told, told_level)
 ORDER BY episode_id, channel
ON CONFLICT (channel, episode_id) DO UPDATE SET told = excluded.told, told_level = excluded.told_level;

-- name: delete_told
-- $1 episodes
DELETE FROM alert_told WHERE episode_id = ANY($1::bigint[]);

-- name: move_open_episode
-- $1 rule, $2 series, $3 new era: an open episode stays open when what the rule says changes
UPDATE alert_episode SET era = $3
 WHERE rule = $1 AND series_id = $2 AND kind = 'threshold' AND resolved_at IS NULL AND reason IS NULL;

-- name: list_open_alerts
-- With what rules select by.
SELECT episode.id, episode.rule, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway
  FROM alert_episode AS episode
  JOIN series ON series.id = episode.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted';

-- name: list_open_alerts_of
-- $1 rules, $2 series ids
SELECT episode.id
  FROM alert_episode AS episode
  JOIN unnest($1::text[], $2::int[]) AS pair (rule, series_id) USING (rule, series_id)
 WHERE episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted';

-- name: end_alerts
-- $1 ids, $2 why: null leaves the reason as it is. Marks of silent series are no alerts, so they are not given back.
WITH ended AS (
    UPDATE alert_episode AS episode
       SET resolved_at = greatest(now(), fired_at), revision = revision + 1, settled = FALSE,
           reason = CASE episode.reason WHEN 'no_data_clear' THEN episode.reason
                                        ELSE coalesce(given.reason, episode.reason) END
      FROM unnest($1::bigint[], $2::text[]) AS given (id, reason)
     WHERE episode.id = given.id AND episode.resolved_at IS NULL
    RETURNING episode.*
)
SELECT ended.id, ended.rule, sensor.name AS sensor, series.metric, coalesce(ended.gateway, sensor.gateway) AS gateway,
       ended.level, ended.started_at, ended.fired_at, ended.resolved_at, ended.reason
  FROM ended
  LEFT JOIN series ON series.id = ended.series_id
  LEFT JOIN sensor ON sensor.id = series.sensor_id
 WHERE ended.reason IS DISTINCT FROM 'no_data_clear'
 ORDER BY ended.id;

-- name: delete_unruled_states
-- $1 names of the rules that are left
DELETE FROM alert_state WHERE rule <> ALL($1::text[]);

-- name: mark_unselected
-- $1 rules, $2 series ids that fall under them no more: should they again, a new era begins
UPDATE alert_state AS state
   SET rule_hash = ''
  FROM unnest($1::text[], $2::int[]) AS gone (rule, series_id)
 WHERE state.rule = gone.rule AND state.series_id = gone.series_id;

-- name: list_newest_times
-- $1 series ids
SELECT series_id, to_us(last_time) AS us FROM series_state WHERE series_id = ANY($1::int[]);

-- name: insert_alert_feed
-- $1 payloads, in order
INSERT INTO feed (kind, n, payload) SELECT 'alert', 1, payload FROM unnest($1::bytea[]) AS payload;

-- name: list_watched
-- Every series that was ever seen, for the watch over silence.
SELECT series.id, sensor.name AS sensor, series.metric, sensor.tags, sensor.gateway,
       coalesce(sensor.gateway, sensor.created_by) AS uploader,
       extract(epoch FROM sensor.expected_interval)::float8 AS expected_s, to_us(state.received_at) AS received_us,
       (extract(epoch FROM series.silent_after) * 1000000)::bigint AS silent_after_us, series.limits
  FROM series_state AS state
  JOIN series ON series.id = state.series_id
  JOIN sensor ON sensor.id = series.sensor_id;

-- name: update_ingest_state
-- $1 since when uploads could be stored without a break
UPDATE ingest_state SET since = from_us($1::bigint) WHERE since <> from_us($1::bigint);

-- name: update_series_watch
-- $1 series ids, $2 how long each may be silent, $3 limits as JSON
UPDATE series
   SET silent_after = new.after_us * INTERVAL '1 microsecond', limits = new.limits::jsonb
  FROM unnest($1::int[], $2::bigint[], $3::text[]) AS new (id, after_us, limits)
 WHERE series.id = new.id;

-- name: list_upload_intervals
-- The usual time between uploads of each gateway.
SELECT name, percentile_cont(0.5) WITHIN GROUP (ORDER BY interval_s) AS median_s
  FROM gateway
 CROSS JOIN unnest(intervals_s) AS interval_s
 GROUP BY name;

-- name: list_open_silences_of_data
-- Alerts of missing data that are open; `gateway` for a whole gateway.
SELECT id, rule, series_id, gateway FROM alert_episode WHERE kind = 'no_data' AND resolved_at IS NULL;

-- name: list_gateways_back
-- When gateways that had been offline were heard of again, for as long as that may matter.
SELECT gateway, to_us(max(resolved_at)) AS us
  FROM alert_episode
 WHERE kind = 'no_data' AND gateway IS NOT NULL AND resolved_at > now() - INTERVAL '7 days'
 GROUP BY gateway;

-- name: list_broken_silences
-- $1 series of which something new came: the alerts of missing data that this ends, also those of their gateways
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
-- $1 rules, $2 series ids: there is something more to tell of their open episodes
UPDATE alert_episode AS episode
   SET revision = revision + 1
  FROM unnest($1::text[], $2::int[]) AS changed (rule, series_id)
 WHERE episode.rule = changed.rule AND episode.series_id = changed.series_id
   AND episode.kind = 'threshold' AND episode.resolved_at IS NULL AND episode.reason IS NULL;

-- name: insert_no_data
-- $1 rule, $2 series or null, $3 gateway or null, $4 since, $5 level, $6 reason
INSERT INTO alert_episode (rule, series_id, gateway, kind, started_at, fired_at, steps, level, reason)
VALUES ($1, $2, $3, 'no_data', from_us($4), now(), '[]', $5, $6)
ON CONFLICT DO NOTHING
RETURNING id;
