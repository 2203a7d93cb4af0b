-- Alerts: what is new since the last evaluation, episodes, what people were told of them, and the outbox.

-- What each flush touched; appended by ingest, deleted in the transaction that commits the episodes.
CREATE TABLE dirty (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series_ids int[] NOT NULL,
    from_times timestamptz[] NOT NULL,
    to_times timestamptz[] NOT NULL,
    -- Late readings apart from fresh: one range over both would span all that lies between them.
    late boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The rules last accepted: they go on when the files are broken or gone, through a restart too.
CREATE TABLE rule_set (
    id boolean PRIMARY KEY DEFAULT TRUE CHECK (id),
    rules jsonb NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);

-- Since when each rule has been known: a series older than its rule does not have all its past evaluated.
CREATE TABLE alert_rule (
    name text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE alert_episode (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text NOT NULL,
    -- Null for a whole gateway that is offline; then `gateway` names it.
    series_id int REFERENCES series (id),
    gateway text,
    era int NOT NULL DEFAULT 1,
    kind text NOT NULL DEFAULT 'threshold' CHECK (kind IN ('threshold', 'no_data')),
    started_at timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    resolved_at timestamptz,
    -- [[level, microseconds since 1970], …]; levels only rise
    steps jsonb NOT NULL,
    level text NOT NULL,
    -- Of the level: a number, or [low, high]
    threshold jsonb,
    -- Why it ended or was withdrawn, where its readings do not say so themselves.
    reason text,
    merged_into bigint REFERENCES alert_episode (id),
    first_known_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    acked_by text,
    acked_at timestamptz,
    acked_level text,
    -- Counts the changes worth telling.
    revision int NOT NULL DEFAULT 1,
    -- Nothing is left to be told to anyone.
    settled boolean NOT NULL DEFAULT FALSE
);
CREATE UNIQUE INDEX alert_episode_open ON alert_episode (rule, series_id, era)
    WHERE kind = 'threshold' AND resolved_at IS NULL AND reason IS NULL;
CREATE UNIQUE INDEX alert_episode_no_data ON alert_episode (rule, coalesce(series_id, 0), coalesce(gateway, ''))
    WHERE kind = 'no_data' AND resolved_at IS NULL;
CREATE INDEX alert_episode_series ON alert_episode (series_id, rule, fired_at);
CREATE INDEX alert_episode_fired ON alert_episode (fired_at DESC, id DESC);
CREATE INDEX alert_episode_unsettled ON alert_episode (id) WHERE NOT settled;

CREATE TABLE alert_state (
    rule text NOT NULL,
    series_id int NOT NULL REFERENCES series (id),
    era int NOT NULL DEFAULT 1,
    -- The era's first moment; null: unbounded.
    era_from timestamptz,
    rule_hash text NOT NULL,
    evaluated_to timestamptz,
    -- Clocks at evaluated_to; only a cache: the era's samples tell as much.
    cache jsonb,
    PRIMARY KEY (rule, series_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX alert_state_series ON alert_state (series_id);

CREATE TABLE alert_told (
    channel text NOT NULL,
    episode_id bigint NOT NULL REFERENCES alert_episode (id) ON DELETE CASCADE,
    told text NOT NULL CHECK (told IN ('firing', 'resolved')),
    told_level text NOT NULL,
    -- What the service calls the message, to reply to it.
    message_ref text,
    told_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, episode_id)
);
CREATE INDEX alert_told_episode ON alert_told (episode_id);

CREATE TABLE silence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- {"rule"?, "sensor"?, "metric"?, "gateway"?, "level"?, "tags"?: {…}}; texts may hold * and ?
    matchers jsonb NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    author text NOT NULL,
    comment text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX silence_ends ON silence (ends_at);

-- The outbox. A row carries no text until it is claimed: then it says what is true at that moment.
CREATE TABLE notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    group_key text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'failed', 'dead')),
    due_at timestamptz NOT NULL,
    -- The message as rendered for the service; a resend sends the same.
    text jsonb,
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    claimed_at timestamptz,
    finished_at timestamptz,
    error text,
    -- Set on a re-sent dead letter: headed "delayed".
    delayed_from bigint REFERENCES notification (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX notification_waiting ON notification (channel, group_key) WHERE state = 'waiting';
CREATE UNIQUE INDEX notification_sending ON notification (channel, group_key) WHERE state = 'sending';
CREATE INDEX notification_due ON notification (due_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX notification_group ON notification (channel, group_key, finished_at DESC);

CREATE TABLE notification_item (
    notification_id bigint NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    channel text NOT NULL,
    episode_id bigint NOT NULL REFERENCES alert_episode (id) ON DELETE CASCADE,
    revision int NOT NULL,
    kind text NOT NULL,
    level text NOT NULL,
    -- What the channel had been told before, to be taken back when nothing arrived; null: nothing.
    told_before text,
    told_level_before text,
    PRIMARY KEY (notification_id, episode_id)
);
-- Whatever evaluates twice cannot tell twice. A reminder is no change, so it has no revision of its own.
CREATE UNIQUE INDEX notification_item_once ON notification_item (channel, episode_id, revision)
    WHERE kind <> 'reminder';

CREATE TABLE notification_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id bigint NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome text NOT NULL CHECK (outcome IN ('sent', 'refused', 'unknown', 'failed')),
    error text,
    seconds float8 NOT NULL
);
CREATE INDEX notification_attempt_of ON notification_attempt (notification_id);

-- Channels that failed for good: their messages wait until the configuration changes or a test succeeds.
CREATE TABLE channel_state (
    channel text PRIMARY KEY,
    -- Fingerprint of the configuration that failed; another configuration mends the channel.
    config_hash text NOT NULL,
    broken_since timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    -- Through which channel people were told.
    told_through text
);
