-- Queries for the rules in force.

-- name: get_rule_set
SELECT rules::text FROM rule_set;

-- name: put_rule_set
-- $1 rules as JSON
INSERT INTO rule_set (rules) VALUES ($1::text::jsonb)
ON CONFLICT (id) DO UPDATE SET rules = excluded.rules, accepted_at = now();

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
