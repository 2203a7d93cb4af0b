-- The outbox of alert messages. All times are the database's clock, which all processes share.

-- name: enqueue
-- $1 channel, $2 group, $3 due at. A row that waits already is updated even if its time does not change. This locks the
-- row until commit, so that a claim skips it until the content of the message is visible.
INSERT INTO notification (channel, group_key, due_at) VALUES ($1, $2, $3)
ON CONFLICT (channel, group_key) WHERE state = 'waiting'
   DO UPDATE SET due_at = least(notification.due_at, excluded.due_at);

-- name: enqueue_delayed
-- $1 the dead letter to send again
INSERT INTO notification (channel, group_key, due_at, delayed_from)
SELECT channel, group_key, clock_timestamp(), id FROM notification WHERE id = $1
ON CONFLICT (channel, group_key) WHERE state = 'waiting'
   DO UPDATE SET due_at = least(notification.due_at, excluded.due_at),
                 delayed_from = coalesce(notification.delayed_from, excluded.delayed_from)
RETURNING id;

-- name: enqueue_again
-- $1 a message whose channel is broken; it is replaced by a waiting one
INSERT INTO notification (channel, group_key, due_at, delayed_from)
SELECT channel, group_key, due_at, delayed_from FROM notification WHERE id = $1
ON CONFLICT (channel, group_key) WHERE state = 'waiting'
   DO UPDATE SET due_at = least(notification.due_at, excluded.due_at),
                 delayed_from = coalesce(notification.delayed_from, excluded.delayed_from)
RETURNING id;

-- name: list_ready_channels
-- Channels for which `lock_ready` would find a message.
SELECT DISTINCT channel
  FROM notification AS ready
 WHERE (state = 'waiting' AND due_at <= clock_timestamp()
        AND NOT EXISTS (SELECT FROM notification AS ahead
                         WHERE ahead.channel = ready.channel AND ahead.group_key = ready.group_key
                           AND ahead.state = 'sending')
        OR state = 'sending' AND next_attempt_at <= clock_timestamp())
   AND NOT EXISTS (SELECT FROM channel_state WHERE channel_state.channel = ready.channel);

-- name: lock_ready
-- $1 channels. The first message that may be sent: a waiting one that is due and of whose group none is being sent, or
-- one whose next attempt is due, because the last one failed or its process died.
SELECT id, channel, group_key, state, text, delayed_from, attempt_started_at
  FROM notification AS ready
 WHERE (state = 'waiting' AND due_at <= clock_timestamp()
        AND NOT EXISTS (SELECT FROM notification AS ahead
                         WHERE ahead.channel = ready.channel AND ahead.group_key = ready.group_key
                           AND ahead.state = 'sending')
        OR state = 'sending' AND next_attempt_at <= clock_timestamp())
   AND NOT EXISTS (SELECT FROM channel_state WHERE channel_state.channel = ready.channel)
   AND channel = ANY($1::text[])
 ORDER BY due_at, id
 LIMIT 1
   FOR UPDATE OF ready SKIP LOCKED;

-- name: delete_notification
-- $1 id
DELETE FROM notification WHERE id = $1;

-- name: put_off
-- $1 id, $2 duration, $3 reason, $4 its state when it was read: another process may have claimed it since. Of one that was
-- claimed before, only the next attempt is put off.
UPDATE notification SET
    due_at = CASE state WHEN 'waiting' THEN clock_timestamp() + $2::interval ELSE due_at END,
    next_attempt_at = CASE state WHEN 'sending' THEN clock_timestamp() + $2::interval ELSE next_attempt_at END,
    error = $3
 WHERE id = $1 AND state = $4 AND (state = 'waiting' OR state = 'sending' AND next_attempt_at <= clock_timestamp());

-- name: insert_items
-- $1 message, $2 channel, then arrays: $3 episodes, $4 revisions, $5 kinds, $6 levels. Items that another message has
-- told in the meantime are left out.
INSERT INTO notification_item
       (notification_id, channel, episode_id, revision, kind, level, told_before, told_level_before)
SELECT $1, $2, item.episode_id, item.revision, item.kind, item.level, alert_told.told, alert_told.told_level
  FROM unnest($3::bigint[], $4::int[], $5::text[], $6::text[]) AS item (episode_id, revision, kind, level)
  LEFT JOIN alert_told ON alert_told.channel = $2 AND alert_told.episode_id = item.episode_id
 ORDER BY item.episode_id
ON CONFLICT DO NOTHING
RETURNING episode_id;

-- name: write_told
-- $1 channel, then arrays: $2 episodes, $3 told, $4 levels. `told_at` equals the claim's `claimed_at`, so that
-- `restore_told` can recognize the rows of this claim.
INSERT INTO alert_told (channel, episode_id, told, told_level, told_at)
SELECT $1, item.episode_id, item.told, item.level, now()
  FROM unnest($2::bigint[], $3::text[], $4::text[]) AS item (episode_id, told, level)
 ORDER BY item.episode_id
ON CONFLICT (channel, episode_id)
   DO UPDATE SET told = excluded.told, told_level = excluded.told_level, told_at = excluded.told_at;

-- name: begin_sending
-- $1 id, $2 text, $3 time after which another process may take over
UPDATE notification
   SET state = 'sending', text = $2, attempts = 1, claimed_at = now(), error = NULL,
       attempt_started_at = clock_timestamp(), next_attempt_at = clock_timestamp() + $3::interval
 WHERE id = $1;

-- name: begin_attempt
-- $1 id, $2 time after which another process may take over
UPDATE notification
   SET attempts = attempts + 1, attempt_started_at = clock_timestamp(),
       next_attempt_at = clock_timestamp() + $2::interval
 WHERE id = $1
RETURNING attempts;

-- name: lock_attempt
-- $1 id
SELECT state, attempts FROM notification WHERE id = $1 FOR UPDATE;

-- name: insert_attempt
-- $1 message, $2 outcome, $3 error, $4 seconds
INSERT INTO notification_attempt (notification_id, outcome, error, seconds) VALUES ($1, $2, $3, $4);

-- name: insert_lost_attempt
-- $1 message, $2 error. The attempt's process died, so it is unknown whether the message arrived.
INSERT INTO notification_attempt (notification_id, outcome, error, seconds)
SELECT id, 'unknown', $2, extract(epoch FROM next_attempt_at - attempt_started_at) FROM notification WHERE id = $1;

-- name: finish_sent
-- $1 id
UPDATE notification
   SET state = 'sent', finished_at = clock_timestamp(), error = NULL, attempt_started_at = NULL, next_attempt_at = NULL
 WHERE id = $1;

-- name: write_message_ref
-- $1 message, $2 the service's id of the message
UPDATE alert_told
   SET message_ref = $2
  FROM notification_item AS item
 WHERE item.notification_id = $1
   AND alert_told.channel = item.channel AND alert_told.episode_id = item.episode_id;

-- name: end_attempt
-- $1 id, $2 error, $3 time to the next attempt, $4 time from the claim to the deadline
UPDATE notification
   SET error = $2, attempt_started_at = NULL, next_attempt_at = clock_timestamp() + $3::interval
 WHERE id = $1
RETURNING claimed_at + $4::interval <= clock_timestamp() AS is_late;

-- name: lock_expired
-- $1 time from the claim to the deadline, $2 configured channels. A message whose next attempt is due already is not
-- given up: it gets one more attempt. Messages are given up whose next attempt is later, or whose channel is no longer
-- configured.
SELECT id, channel, group_key, attempts, error
  FROM notification
 WHERE state = 'sending' AND claimed_at + $1::interval <= clock_timestamp()
   AND CASE WHEN channel = ANY($2::text[]) THEN attempt_started_at IS NULL AND next_attempt_at > clock_timestamp()
            ELSE attempt_started_at IS NULL OR next_attempt_at <= clock_timestamp() END
 ORDER BY id
   FOR UPDATE SKIP LOCKED;

-- name: may_have_arrived
-- $1 message. Returns whether any answer since its claim was lost.
SELECT attempt_started_at IS NOT NULL
       OR EXISTS (SELECT FROM notification_attempt AS attempt
                   WHERE attempt.notification_id = notification.id AND attempt.outcome = 'unknown'
                     AND attempt.at >= notification.claimed_at)
  FROM notification
 WHERE id = $1;

-- name: mark_dead
-- $1 id
UPDATE notification
   SET state = 'dead', finished_at = clock_timestamp(), attempt_started_at = NULL, next_attempt_at = NULL,
       lost_items = (SELECT jsonb_agg(jsonb_build_object('episode_id', episode_id, 'revision', revision,
                                                         'kind', kind, 'level', level) ORDER BY episode_id)
                       FROM notification_item WHERE notification_id = $1)
 WHERE id = $1;

-- name: restore_told
-- $1 message. Restores `alert_told` for each episode that has not been told about since the claim. All its episodes are
-- marked as not settled, so that they are told again.
WITH item AS (
    DELETE FROM notification_item WHERE notification_id = $1
    RETURNING channel, episode_id, told_before, told_level_before
), untold AS (
    DELETE FROM alert_told AS told
     USING item, notification
     WHERE notification.id = $1 AND told.told_at = notification.claimed_at AND item.told_before IS NULL
       AND told.channel = item.channel AND told.episode_id = item.episode_id
), retold AS (
    UPDATE alert_told AS told
       SET told = item.told_before, told_level = item.told_level_before
      FROM item, notification
     WHERE notification.id = $1 AND told.told_at = notification.claimed_at AND item.told_before IS NOT NULL
       AND told.channel = item.channel AND told.episode_id = item.episode_id
)
UPDATE alert_episode SET settled = FALSE FROM item WHERE alert_episode.id = item.episode_id AND settled;

-- name: lock_dead
-- $1 id
SELECT state, channel, group_key FROM notification WHERE id = $1 FOR UPDATE;

-- name: mark_resent
-- $1 the dead letter that was sent again
UPDATE notification SET state = 'failed' WHERE id = $1;

-- name: list_notifications
-- $1 state, $2 id below which to list, $3 limit
SELECT id, channel, group_key, state, due_at, created_at, claimed_at, finished_at, next_attempt_at, error, delayed_from,
       text -> 'body' AS body,
       coalesce(lost_items,
                (SELECT jsonb_agg(jsonb_build_object('episode_id', episode_id, 'revision', revision,
                                                     'kind', kind, 'level', level) ORDER BY episode_id)
                   FROM notification_item WHERE notification_id = notification.id),
                '[]') AS items,
       coalesce((SELECT jsonb_agg(jsonb_build_object('at', at, 'outcome', outcome,
                                                     'error', error, 'seconds', seconds) ORDER BY id)
                   FROM notification_attempt WHERE notification_id = notification.id),
                '[]') AS attempts
  FROM notification
 WHERE state = $1 AND id < $2
 ORDER BY id DESC
 LIMIT $3;

-- name: measure_outbox
SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       greatest(extract(epoch FROM clock_timestamp() - min(due_at) FILTER (WHERE state <> 'dead')), 0)::float8
           AS oldest_due_s,
       (SELECT count(*) FROM channel_state) AS channels_broken
  FROM notification
 WHERE state IN ('waiting', 'sending') OR state IN ('dead', 'failed');

-- name: prune_notifications
-- $1 age of sent messages, $2 age of dead letters. A dead letter is kept as long as the message that replaced it.
DELETE FROM notification
 WHERE (state = 'sent' AND finished_at < now() - $1::interval
        OR state IN ('dead', 'failed') AND finished_at < now() - $2::interval)
   AND NOT EXISTS (SELECT FROM notification AS later WHERE later.delayed_from = notification.id);

-- Channels: the broken ones, and the new ids of chats that have moved.

-- name: list_channel_states
SELECT channel, config_hash, broken_since, reason, told_through, now() AS now FROM channel_state ORDER BY channel;

-- name: get_channel_state
-- $1 channel
SELECT broken_since, reason FROM channel_state WHERE channel = $1;

-- name: break_channel
-- $1 channel, $2 fingerprint of its configuration, $3 reason. Returns no row if the channel is marked as broken already
-- with this fingerprint.
INSERT INTO channel_state (channel, config_hash, reason) VALUES ($1, $2, $3)
ON CONFLICT (channel) DO UPDATE
   SET config_hash = excluded.config_hash, broken_since = now(), reason = excluded.reason, told_through = NULL
 WHERE channel_state.config_hash <> excluded.config_hash
RETURNING channel;

-- name: mend_reconfigured
-- Arrays: $1 channels, $2 fingerprints of their configurations. Returns the channels that had another fingerprint.
DELETE FROM channel_state
 USING unnest($1::text[], $2::text[]) AS configured (channel, config_hash)
 WHERE channel_state.channel = configured.channel AND channel_state.config_hash <> configured.config_hash
RETURNING channel_state.channel;

-- name: mend_channel
-- $1 channel
DELETE FROM channel_state WHERE channel = $1 RETURNING channel;

-- name: note_told_through
-- $1 channel, $2 the channel through which people are told. Returns no row if another process was first.
UPDATE channel_state SET told_through = $2 WHERE channel = $1 AND told_through IS NULL RETURNING channel;

-- name: withdraw_notices
-- $1 prefix of the groups of notices about broken channels. Deletes the notices in channels that are broken themselves.
WITH withdrawn AS (
    DELETE FROM notification
     WHERE starts_with(group_key, $1) AND channel IN (SELECT channel FROM channel_state)
       AND (state = 'waiting' OR state = 'sending' AND attempt_started_at IS NULL)
    RETURNING channel, substr(group_key, length($1) + 1) AS about
)
UPDATE channel_state
   SET told_through = NULL
  FROM withdrawn
 WHERE channel_state.channel = withdrawn.about AND channel_state.told_through = withdrawn.channel;

-- name: lock_sending_through_broken
-- Claimed messages without a running attempt whose channel is broken.
SELECT id
  FROM notification
 WHERE state = 'sending' AND (attempt_started_at IS NULL OR next_attempt_at <= clock_timestamp())
   AND channel IN (SELECT channel FROM channel_state)
 ORDER BY id
   FOR UPDATE SKIP LOCKED;

-- name: move_attempts
-- $1 message to move from, $2 message to move to
UPDATE notification_attempt SET notification_id = $2 WHERE notification_id = $1;

-- name: list_moves
SELECT destination, moved_to FROM channel_move;

-- name: upsert_move
-- $1 destination as configured, $2 the chat's new id
INSERT INTO channel_move (destination, moved_to) VALUES ($1, $2)
ON CONFLICT (destination) DO UPDATE SET moved_to = excluded.moved_to, moved_at = now();

-- name: list_channels
-- The channels that the worker can use, with their state.
SELECT usable ->> 'name' AS name, usable ->> 'type' AS type,
       CASE WHEN state.channel IS NULL THEN 'working' ELSE 'broken' END AS state,
       state.broken_since, state.reason, state.told_through
  FROM worker_status
 CROSS JOIN jsonb_array_elements(channels) AS usable
  LEFT JOIN channel_state AS state ON state.channel = usable ->> 'name'
 ORDER BY 1;

-- name: insert_channel_test
-- $1 channel
INSERT INTO channel_test (channel) VALUES ($1) RETURNING id;

-- name: get_channel_test
-- $1 id
SELECT answer FROM channel_test WHERE id = $1;

-- name: take_channel_tests
-- $1 how long the API waits for an answer, in seconds. Older rows are deleted.
WITH old AS (
    DELETE FROM channel_test WHERE asked_at <= now() - $1::float8 * INTERVAL '1 second'
)
UPDATE channel_test
   SET taken_at = now()
 WHERE taken_at IS NULL AND asked_at > now() - $1::float8 * INTERVAL '1 second'
RETURNING id, channel;

-- name: answer_channel_test
-- $1 id, $2 outcome
UPDATE channel_test SET answer = $2 WHERE id = $1;
