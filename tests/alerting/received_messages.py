"""The messages that receivers accepted, by episode and in order of arrival, compared with the stored episodes."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.clock import rfc3339
from app.db.pool import Pool
from tests.alerting.delivery_checks import ALLOWED_NEXT
from tests.alerting.random_day import RULES
from tests.receivers import Accepted

#: Kind of the last item that a channel received -> what counts as told.
TOLD_AFTER: dict[str | None, str | None] = {
    None: None,
    "firing": "firing",
    "raised": "firing",
    "again": "firing",
    "resolved": "resolved",
    "retracted": "resolved",
    "summary": "resolved",
    "withdrawn": "resolved",
}


class ReceivedItem(msgspec.Struct, frozen=True):
    """One notification item about one episode that one channel received. Reminders are left out."""

    channel: str
    episode_id: int
    revision: int
    kind: str
    #: What counted as told before this item.
    told_before: str | None
    #: All entries of the message that contained the item.
    entries: list[dict[str, Any]]


class Received(msgspec.Struct, frozen=True):
    """All items in order of arrival, and the messages that arrived a second time."""

    items: list[ReceivedItem]
    repeats: list[Accepted]


class EpisodeRow(msgspec.Struct, frozen=True):
    """A stored episode; times in RFC 3339."""

    id: int
    rule: str
    sensor: str
    level: str
    started_at: str
    resolved_at: str | None
    reason: str | None
    merged_into: int | None
    revision: int
    #: What counts as told, by channel.
    told: dict[str, str]


async def load_episodes(pool: Pool) -> dict[int, EpisodeRow]:
    """Load all episodes by id, including retracted ones."""
    rows = await pool.fetch(
        """SELECT episode.id, rule, sensor.name AS sensor, level, to_us(started_at) AS started_at,
                  to_us(resolved_at) AS resolved_at, reason, merged_into, revision,
                  (SELECT coalesce(jsonb_object_agg(channel, told), '{}')
                     FROM alert_told WHERE episode_id = episode.id) AS told
             FROM alert_episode AS episode
             JOIN series ON series.id = series_id
             JOIN sensor ON sensor.id = sensor_id"""
    )
    times = ("started_at", "resolved_at")
    return {
        row["id"]: EpisodeRow(**{**row, **{name: None if row[name] is None else rfc3339(row[name]) for name in times}})
        for row in rows
    }


async def load_received(pool: Pool, accepted: Iterable[Accepted]) -> Received:
    """Find the notification items of each accepted message. A message names no episode ids, so its body is the key."""
    rows = await pool.fetch(
        """SELECT channel, text -> 'body' AS body,
                  (SELECT jsonb_agg(jsonb_build_object('episode_id', episode_id, 'revision', revision,
                                                       'kind', kind, 'told_before', told_before) ORDER BY episode_id)
                     FROM notification_item AS item
                    WHERE item.notification_id = notification.id AND kind <> 'reminder') AS items
             FROM notification
            WHERE text IS NOT NULL
            ORDER BY claimed_at, id"""
    )
    sent = defaultdict[bytes, deque[Any]](deque)
    for row in rows:
        sent[_key(row["channel"], row["body"])].append(row)
    received = Received([], [])
    for message in accepted:
        same = sent[_key(message.path.strip("/"), message.body)]
        if same:
            row = same.popleft()
            received.items.extend(
                ReceivedItem(**item, channel=row["channel"], entries=message.body["entries"])
                for item in row["items"] or ()
            )
        else:
            received.repeats.append(message)
    return received


def list_wrongly_told(episodes: Iterable[EpisodeRow]) -> list[tuple[str, EpisodeRow]]:
    """List each (channel, episode) whose row in alert_told does not match the episode's final state."""
    return [
        (channel, episode)
        for episode in episodes
        for channel in sorted({*RULES[episode.rule].channels[episode.level], *episode.told})
        if episode.told.get(channel) not in _expected_told(episode)
    ]


def check_received(received: Received, episodes: Mapping[int, EpisodeRow]) -> None:
    """Check that a channel receives each item once, in an allowed order, and that the last one matches alert_told."""
    counts = Counter((item.channel, item.episode_id, item.revision) for item in received.items)
    assert max(counts.values()) == 1
    merge_targets = {episode.merged_into for episode in episodes.values()}
    last: dict[tuple[str, int], str] = {}
    for item in received.items:
        before = last.get((item.channel, item.episode_id))
        if item.told_before != TOLD_AFTER[before]:
            # An episode inherits alert_told from episodes merged into it, and an ended split part from the whole.
            inherited = item.episode_id in merge_targets or (before, item.told_before) == (None, "resolved")
            assert inherited, (item, before)
            before = item.told_before
        assert item.kind in ALLOWED_NEXT[before], (item, before)
        last[item.channel, item.episode_id] = item.kind
    for (channel, episode_id), kind in last.items():
        episode = episodes[episode_id]
        if episode.merged_into is None and episode_id not in merge_targets:
            assert TOLD_AFTER[kind] == episode.told[channel], (channel, kind, episode)


def list_inherited(received: Received, episodes: Mapping[int, EpisodeRow]) -> list[tuple[str, int]]:
    """List each (channel, episode id) that counts as told only because of a merge or a split."""
    told = {(item.channel, item.episode_id) for item in received.items}
    return [(channel, each.id) for each in episodes.values() for channel in each.told if (channel, each.id) not in told]


def list_final(received: Received, episodes: Mapping[int, EpisodeRow]) -> list[tuple[ReceivedItem, EpisodeRow]]:
    """List the items that were sent for the last revision of their episode."""
    pairs = [(item, episodes[item.episode_id]) for item in received.items]
    return [(item, episode) for item, episode in pairs if item.revision == episode.revision]


def _expected_told(episode: EpisodeRow) -> tuple[str | None, ...]:
    """Return the values of alert_told.told that are right for an episode after the last message."""
    if episode.reason == "retracted":
        return None, "resolved"
    if episode.resolved_at is None:
        return ("firing",)
    return (None, "resolved") if RULES[episode.rule].late_notify == "never" else ("resolved",)


def _key(channel: str, body: Any) -> bytes:
    return channel.encode() + msgspec.json.encode(body, order="sorted")
