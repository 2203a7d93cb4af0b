-- What rules need that compare counters, hold values, look at a second metric, and take readings from the future.

-- As in 0012, with counters and ranges, as app/alerting/episodes/samples.py computes them.
CREATE OR REPLACE FUNCTION rule_value(kind text, width interval, series int, at timestamptz) RETURNS float8
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path FROM CURRENT
    SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    RETURN (
        SELECT CASE
               WHEN kind = 'last' THEN max(value) FILTER (WHERE time = at)
               WHEN kind = 'avg' THEN avg(value) FILTER (WHERE time > at - width)
               WHEN kind = 'min' THEN min(value) FILTER (WHERE time > at - width)
               WHEN kind = 'max' THEN max(value) FILTER (WHERE time > at - width)
               WHEN 2 * (at - min(time)) < width OR max(time) < at THEN NULL
               WHEN kind = 'range' THEN max(value) - min(value)
               WHEN kind = 'increase' THEN sum(grown)
               WHEN kind = 'counter_rate' THEN sum(grown) * 3600 / extract(epoch FROM at - min(time))::float8
               ELSE (max(value) FILTER (WHERE time = at) - (array_agg(value ORDER BY time))[1])
                    * CASE kind WHEN 'rate' THEN 3600 / extract(epoch FROM at - min(time))::float8 ELSE 1 END
               END
          FROM (
              SELECT time, value,
                     CASE WHEN kind IN ('increase', 'counter_rate') THEN
                         CASE WHEN value < lag(value) OVER earlier THEN value ELSE value - lag(value) OVER earlier END
                     END AS grown
                FROM reading
               WHERE series_id = series AND time >= at - width AND time <= at
              WINDOW earlier AS (ORDER BY time)
          ) AS windowed
    );
END $$;

-- Rows of readings that are ahead of now are put off: they have a later `at`. When their time has come, they also become
-- the latest ones of their series.
ALTER TABLE dirty ADD COLUMN matures boolean NOT NULL DEFAULT FALSE;

-- The greatest time that an evaluation has seen: a clock that is set back takes nothing back.
CREATE TABLE evaluation_clock (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    seen timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO evaluation_clock DEFAULT VALUES;

ALTER TABLE alert_state
    -- The episode that was open when the era began, as JSON.
    ADD COLUMN inherited jsonb,
    -- Of rules that hold values: the first held sample still to come, and how far held values have been evaluated.
    ADD COLUMN next_due timestamptz,
    ADD COLUMN horizon timestamptz,
    -- Of rules with second metrics: [[metric, longest age in microseconds, [series ids]], …]
    ADD COLUMN companions jsonb;
CREATE INDEX alert_state_due ON alert_state (series_id) WHERE next_due IS NOT NULL;

-- Seconds from the oldest reading to its receipt, of the last uploads that brought only new readings, at most 20.
ALTER TABLE gateway ADD COLUMN latenesses_s float8[] NOT NULL DEFAULT '{}';

-- What is wrong with the second metrics of rules: rule → text. Written by the evaluation.
ALTER TABLE worker_status ADD COLUMN companion_warnings jsonb NOT NULL DEFAULT '{}';

-- The second metrics of which no companion is known now; `since` is null if none was ever seen.
CREATE VIEW unknown_companion_view AS
SELECT state.rule, state.series_id, second ->> 0 AS metric,
       max(companion.last_time) + (second ->> 1)::bigint * INTERVAL '1 microsecond' AS since
  FROM alert_state AS state
 CROSS JOIN LATERAL jsonb_array_elements(state.companions) AS second
  LEFT JOIN series_state AS companion
         ON companion.series_id IN (SELECT id::int FROM jsonb_array_elements_text(second -> 2) AS id)
 WHERE state.companions IS NOT NULL
 GROUP BY state.rule, state.series_id, second
HAVING coalesce(max(companion.last_time) + (second ->> 1)::bigint * INTERVAL '1 microsecond', '-infinity') < now();
