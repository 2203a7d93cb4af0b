"""Checks that the messages sent match the stored episodes and the messages that a receiver accepted."""

from collections import defaultdict
from collections.abc import Collection

from app.db.pool import Pool
from tests.receivers import Accepted

#: Kind of the last item about an episode that a channel was sent -> the kinds that may come next.
ALLOWED_NEXT: dict[str | None, set[str]] = {
    None: {"firing", "summary"},
    "firing": {"raised", "resolved", "retracted"},
    "raised": {"raised", "resolved", "retracted"},
    "again": {"raised", "resolved", "retracted"},
    "resolved": {"again", "withdrawn"},
    "summary": {"again", "withdrawn"},
    "retracted": set(),
    "withdrawn": set(),
}


async def load_items(pool: Pool) -> dict[tuple[str, int], list[tuple[str, str | None]]]:
    """Load (kind, told_before) of all items that may have arrived, in order, by channel and episode id.

    Reminders are left out. A dead letter may have arrived if the answer to one of its attempts was lost.
    """
    rows = await pool.fetch(
        """SELECT item.channel, item.episode_id, item.kind, item.told_before
             FROM notification JOIN notification_item AS item ON item.notification_id = notification.id
            WHERE kind <> 'reminder'
              AND (state = 'sent' OR state = 'dead' AND EXISTS (SELECT
                                                                  FROM notification_attempt AS attempt
                                                                 WHERE attempt.notification_id = notification.id
                                                                   AND attempt.outcome = 'unknown'))
            ORDER BY finished_at, notification.id"""
    )
    items: defaultdict[tuple[str, int], list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        items[row["channel"], row["episode_id"]].append((row["kind"], row["told_before"]))
    return items


async def check_told(pool: Pool) -> None:
    """Check that a channel is sent items about an episode in an allowed order, and that alert_told is right."""
    # An episode inherits what was told of the episodes that were merged into it.
    merge_targets = {row["id"] for row in await pool.fetch("SELECT DISTINCT merged_into AS id FROM alert_episode")}
    for (channel, episode_id), items in (await load_items(pool)).items():
        before = None
        for kind, told_before in items:
            if before is None and told_before == "resolved":
                before = "resolved"  # split from an episode that was told, and over
            is_first_after_merge = before is None and episode_id in merge_targets
            assert kind in ALLOWED_NEXT[before] or is_first_after_merge, (channel, episode_id, items)
            before = kind
    rows = await pool.fetch(
        """SELECT told.channel, told.episode_id, told.told, episode.reason,
                  episode.resolved_at IS NULL AND episode.reason IS DISTINCT FROM 'retracted' AS is_open,
                  EXISTS (SELECT FROM alert_episode AS mark
                           WHERE mark.reason = 'no_data_clear' AND mark.resolved_at IS NULL
                             AND mark.rule = episode.rule AND mark.series_id = episode.series_id) AS is_cleared
             FROM alert_told AS told JOIN alert_episode AS episode ON episode.id = told.episode_id"""
    )
    for row in rows:
        assert row["told"] == ("firing" if row["is_open"] and not row["is_cleared"] else "resolved"), dict(row)


async def check_arrived(pool: Pool, accepted: Collection[Accepted]) -> None:
    """Check that each sent message arrived exactly once, or more often only if an answer to it was lost."""
    rows = await pool.fetch(
        """SELECT body, count(*) AS n, bool_or(is_lost) AS is_lost
             FROM notification
            CROSS JOIN LATERAL (SELECT text -> 'body' AS body,
                                       EXISTS (SELECT FROM notification_attempt AS attempt
                                                WHERE attempt.notification_id = notification.id
                                                  AND attempt.outcome = 'unknown') AS is_lost) AS sent
            WHERE state = 'sent'
            GROUP BY body"""
    )
    for row in rows:
        times = sum(message.body == row["body"] for message in accepted)
        assert times == row["n"] or (times > row["n"] and row["is_lost"]), row["body"]
