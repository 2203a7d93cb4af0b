-- Delivery: which attempts are under way, what dead letters were about, and where chats have moved.

ALTER TABLE notification
    -- Set while an attempt is under way. Should its process die, next_attempt_at says from when another may take over.
    ADD COLUMN attempt_started_at timestamptz,
    -- What a dead letter was about: its rows in notification_item go when what was told is taken back.
    ADD COLUMN lost_items jsonb;
CREATE INDEX notification_delayed_from ON notification (delayed_from) WHERE delayed_from IS NOT NULL;
CREATE INDEX notification_dead ON notification (id) WHERE state IN ('dead', 'failed');

-- A group chat gets another id when it grows; Telegram says so once, in a refusal.
CREATE TABLE channel_move (
    -- Fingerprint of the bot and of the chat that the configuration names.
    destination text PRIMARY KEY,
    moved_to bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
