-- What the health checks ask: since when nobody evaluates rules, and for how long flushes wait to be evaluated.

ALTER TABLE worker_status ADD COLUMN evaluated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE dirty ADD COLUMN at timestamptz NOT NULL DEFAULT now();
