-- Queries for the rules in force.

-- name: get_rule_set_version
SELECT version FROM rule_set;

-- name: get_rule_set
SELECT rules::text, version FROM rule_set;

-- name: put_rule_set
-- $1 rules as JSON. Equal rules keep their version.
INSERT INTO rule_set (rules) VALUES ($1::text::jsonb)
ON CONFLICT (id) DO UPDATE
   SET rules = excluded.rules, accepted_at = now(),
       version = rule_set.version + (rule_set.rules <> excluded.rules)::int
RETURNING version;

-- name: sync_rules
-- $1 names of all rules. Inserts new names (`since` is now) and deletes removed ones.
WITH gone AS (
    DELETE FROM alert_rule WHERE name <> ALL($1::text[])
)
INSERT INTO alert_rule (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING;

-- name: list_rules_since
SELECT name, to_us(since) AS us FROM alert_rule;

-- name: put_rule_problems
-- $1 messages, in order of file and line
WITH gone AS (
    DELETE FROM rule_problem WHERE position > cardinality($1::text[])
)
INSERT INTO rule_problem (position, message)
SELECT position, message FROM unnest($1::text[]) WITH ORDINALITY AS given (message, position)
ON CONFLICT (position) DO UPDATE SET message = excluded.message;

-- name: put_last_evaluation
-- $1 as JSON
UPDATE worker_status SET last_evaluation = $1;

-- name: note_evaluated
UPDATE worker_status SET evaluated_at = now();

-- name: put_rule_warnings
-- $1 warnings by rule, as JSON
UPDATE worker_status SET rule_warnings = $1 WHERE rule_warnings <> $1;

-- name: put_worker_status
-- $1 warnings, $2 channels, both as JSON
UPDATE worker_status SET warnings = $1, channels = $2 WHERE (warnings, channels) IS DISTINCT FROM ($1, $2);

-- name: get_worker_status
SELECT last_evaluation, rule_warnings, companion_warnings, channels FROM worker_status;

-- name: list_unknown_companions
-- Of each rule and second metric: one series for which it is not known, since when, and for how many.
SELECT DISTINCT ON (rule, unknown.metric)
       rule, unknown.metric, sensor.name AS sensor, since, count(*) OVER (PARTITION BY rule, unknown.metric) AS n
  FROM unknown_companion_view AS unknown
  JOIN series ON series.id = unknown.series_id
  JOIN sensor ON sensor.id = series.sensor_id
 WHERE sensor.retired_at IS NULL AND sensor.deleted_at IS NULL
 ORDER BY rule, unknown.metric, since DESC NULLS LAST, sensor.name;

-- name: list_rule_problems
SELECT message FROM rule_problem ORDER BY position;
