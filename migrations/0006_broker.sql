-- What the notification broker sent, and what became of it. No secrets: of a destination only its fingerprint.

CREATE TABLE broker_notification (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    -- The label of the key that sent it.
    api_key text NOT NULL,
    level text NOT NULL CHECK (level IN ('INFO', 'WARNING', 'ERROR', 'CRITICAL', 'DISASTER')),
    title text NOT NULL,
    message text NOT NULL,
    source text,
    metadata jsonb,
    -- {"slack": {"success", "error"?, "attempts", "destination"?}, "telegram": …}
    channels jsonb NOT NULL
);
CREATE INDEX broker_notification_newest ON broker_notification (created_at DESC, id DESC);
CREATE INDEX broker_notification_level ON broker_notification (level, created_at DESC, id DESC);
CREATE INDEX broker_notification_source ON broker_notification (source, created_at DESC, id DESC);
