-- What an evaluation looks for among episodes costs the same however many have ended.

CREATE INDEX alert_episode_going_on ON alert_episode (series_id)
    WHERE kind = 'threshold' AND reason IS NULL AND resolved_at IS NULL;
CREATE INDEX alert_episode_ended ON alert_episode (series_id, resolved_at)
    WHERE kind = 'threshold' AND reason IS NULL AND resolved_at IS NOT NULL;
