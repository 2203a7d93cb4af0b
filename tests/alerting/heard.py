"""What a receiver heard of each episode, in the order in which it came, against what is true in the end."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.clock import rfc3339
from app.db.pool import Pool
from tests.alerting.noisy_day import WATCHES
from tests.alerting.truth import FOLLOWS
from tests.receivers import Accepted

#: What counts as told once a channel has heard a thing.
TOLD_BY: dict[str | None, str | None] = {
    None: None,
    "firing": "firing",
    "raised": "firing",
    "again": "firing",
    "resolved": "resolved",
    "retracted": "resolved",
    "summary": "resolved",
    "withdrawn": "resolved",
}


class Line(msgspec.Struct, frozen=True):
    """One thing that one channel heard of one episode; reminders are none."""

    channel: str
    episode_id: int
    revision: int
    kind: str
    #: What counted as told by then.
    told_before: str | None
    #: All entries of the message that it came in.
    entries: list[dict[str, Any]]


class Heard(msgspec.Struct, frozen=True):
    """Every line in order of arrival, and the messages that arrived once more."""

    lines: list[Line]
    repeats: list[Accepted]


class Known(msgspec.Struct, frozen=True):
    """An episode as history has it; times in RFC 3339."""

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


async def load_known(pool: Pool) -> dict[int, Known]:
    """Load all episodes by id, withdrawn ones too."""
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
        row["id"]: Known(**{**row, **{name: None if row[name] is None else rfc3339(row[name]) for name in times}})
        for row in rows
    }


async def load_heard(pool: Pool, accepted: Iterable[Accepted]) -> Heard:
    """Find out which episodes the messages that arrived were about; their texts do not name any."""
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
    heard = Heard([], [])
    for message in accepted:
        same = sent[_key(message.path.strip("/"), message.body)]
        if same:
            row = same.popleft()
            heard.lines.extend(
                Line(**item, channel=row["channel"], entries=message.body["entries"]) for item in row["items"] or ()
            )
        else:
            heard.repeats.append(message)
    return heard


def list_untold(known: Iterable[Known]) -> list[tuple[str, Known]]:
    """List the channels for which what counts as told is not the truth, each with the episode."""
    return [
        (channel, episode)
        for episode in known
        for channel in sorted({*WATCHES[episode.rule].channels[episode.level], *episode.told})
        if episode.told.get(channel) not in _true_of(episode)
    ]


def check_heard(heard: Heard, known: Mapping[int, Known]) -> None:
    """Of each episode a channel hears everything once, alternating, and the last of it is true."""
    once = Counter((line.channel, line.episode_id, line.revision) for line in heard.lines)
    assert max(once.values()) == 1
    heirs = {episode.merged_into for episode in known.values()}
    last: dict[tuple[str, int], str] = {}
    for line in heard.lines:
        before = last.get((line.channel, line.episode_id))
        if line.told_before != TOLD_BY[before]:
            # What was told of one that became part of it stands with it, and what was over when it was split from one.
            assert line.episode_id in heirs or (before, line.told_before) == (None, "resolved"), (line, before)
            before = line.told_before
        assert line.kind in FOLLOWS[before], (line, before)
        last[line.channel, line.episode_id] = line.kind
    for (channel, episode_id), kind in last.items():
        episode = known[episode_id]
        if episode.merged_into is None and episode_id not in heirs:
            assert TOLD_BY[kind] == episode.told[channel], (channel, kind, episode)


def list_inherited(heard: Heard, known: Mapping[int, Known]) -> list[tuple[str, int]]:
    """List the channels and episodes that count as told though no message told of them, but of another part."""
    told = {(line.channel, line.episode_id) for line in heard.lines}
    return [(channel, each.id) for each in known.values() for channel in each.told if (channel, each.id) not in told]


def list_final(heard: Heard, known: Mapping[int, Known]) -> list[tuple[Line, Known]]:
    """List the lines after which their episodes changed no more."""
    return [(line, known[line.episode_id]) for line in heard.lines if line.revision == known[line.episode_id].revision]


def _true_of(episode: Known) -> tuple[str | None, ...]:
    """Give what may count as told of an episode in the end."""
    if episode.reason == "retracted":
        return None, "resolved"
    if episode.resolved_at is None:
        return ("firing",)
    return (None, "resolved") if WATCHES[episode.rule].late == "never" else ("resolved",)


def _key(channel: str, body: Any) -> bytes:
    return channel.encode() + msgspec.json.encode(body, order="sorted")
