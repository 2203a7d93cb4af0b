"""Holds what people were told against what is true, by what the database and a receiver know."""

from collections import defaultdict
from collections.abc import Collection

from app.db.pool import Pool
from tests.receivers import Accepted

#: What may follow what, in what one channel hears of one episode.
FOLLOWS: dict[str | None, set[str]] = {
    None: {"firing", "summary"},
    "firing": {"raised", "resolved", "retracted"},
    "raised": {"raised", "resolved", "retracted"},
    "again": {"raised", "resolved", "retracted"},
    "resolved": {"again", "withdrawn"},
    "summary": {"again", "withdrawn"},
    "retracted": set(),
    "withdrawn": set(),
}


async def heard_of(pool: Pool) -> dict[tuple[str, int], list[tuple[str, str | None]]]:
    """Give all that may have arrived but reminders, in order, by channel and episode: kind, and told until then."""
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
    heard: defaultdict[tuple[str, int], list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        heard[row["channel"], row["episode_id"]].append((row["kind"], row["told_before"]))
    return heard


async def check_told(pool: Pool) -> None:
    """What each channel heard of each episode alternates, and ends in the truth."""
    # What was told of one that became part of another stands with that one.
    inherited = {row["id"] for row in await pool.fetch("SELECT DISTINCT merged_into AS id FROM alert_episode")}
    for (channel, episode_id), kinds in (await heard_of(pool)).items():
        before = None
        for kind, told_before in kinds:
            if before is None and told_before == "resolved":
                before = "resolved"  # split from what was told, and over
            assert kind in FOLLOWS[before] or (before is None and episode_id in inherited), (channel, episode_id, kinds)
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
    """Each message arrived once, or perhaps more often where an answer was lost."""
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
