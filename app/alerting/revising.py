"""Episodes in the database: loaded for a replay, and written back with the identity that revision gives them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from app.alerting.alert_feed import UNSELECTED, AlertFrame, Transition, end_alerts, publish
from app.alerting.conditions import Condition
from app.alerting.episodes import Episode, Step
from app.alerting.matching import Match
from app.alerting.revision import (
    Ack,
    Deleted,
    Kept,
    Merged,
    New,
    Outcome,
    Retracted,
    Split,
    StoredEpisode,
    Told,
    revise,
)
from app.clock import from_us, now_us
from app.db.pool import Connection
from app.db.queries import load_queries
from app.model import SeriesId, Tags

SQL = load_queries(Path(__file__).with_name("queries.sql"))
Pair = tuple[str, SeriesId]


class Series(msgspec.Struct, frozen=True):
    """What rules look at in a series."""

    id: SeriesId
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    unit: str | None
    created_us: int


class Change(msgspec.Struct, frozen=True):
    """Something that happened to an episode, for the log and the live feed."""

    transition: Transition
    episode_id: int
    rule: str
    series_id: SeriesId
    level: str


class StoredEpisodes:
    """The episodes of some series that new readings may change, by (rule, series), in order of time."""

    def __init__(self, episodes: Mapping[Pair, list[tuple[int, StoredEpisode]]]) -> None:
        self._episodes = episodes

    def of(self, pair: Pair, era: int) -> list[StoredEpisode]:
        """Give those of one era: earlier ones are never recomputed."""
        return [stored for its_era, stored in self._episodes.get(pair, ()) if its_era == era]


async def load_stored(
    connection: Connection, series_ids: Sequence[SeriesId], oldest_revised_us: int | None
) -> StoredEpisodes:
    """Load what is open and, where readings came out of order, what ended at or after the oldest of them."""
    if oldest_revised_us is None:
        rows = await connection.fetch(SQL["list_open_episodes"], series_ids)
    else:
        rows = await connection.fetch(SQL["list_episodes_since"], series_ids, oldest_revised_us)
    told: defaultdict[int, dict[str, Told]] = defaultdict(dict)
    for row in await connection.fetch(SQL["list_told"], [row["id"] for row in rows]) if rows else ():
        told[row["episode_id"]][row["channel"]] = Told(row["told"], row["told_level"])
    episodes: defaultdict[Pair, list[tuple[int, StoredEpisode]]] = defaultdict(list)
    for row in rows:
        ack = Ack(row["acked_by"], row["acked_us"], row["acked_level"]) if row["acked_by"] else None
        stored = StoredEpisode(row["id"], _episode(row), told[row["id"]], ack)
        episodes[row["rule"], row["series_id"]].append((row["era"], stored))
    return StoredEpisodes(episodes)


class Changes:
    """Writes outcomes of one evaluation, and keeps a list of what happened."""

    def __init__(
        self, connection: Connection, series: Mapping[SeriesId, Series], matches: Mapping[Pair, Match]
    ) -> None:
        self.made: list[Change] = []
        self._connection = connection
        self._series = series
        self._matches = matches

    async def revise(
        self, pair: Pair, era: int, stored: Sequence[StoredEpisode], true: Sequence[Episode], *, beginning: bool
    ) -> None:
        """Match stored episodes with true ones and write what differs.

        `beginning`: the rule has just met this series, so what is over by now is history and not news.
        """
        before = {each.id: each for each in stored}
        for outcome in revise(stored, true):
            await self._apply(pair, era, outcome, before, beginning)

    async def end_unselected(self, pairs: Sequence[Pair]) -> None:
        """End the alerts of series that no longer fall under a rule."""
        columns = list(map(list, zip(*pairs, strict=True)))
        rows = await self._connection.fetch(SQL["list_open_alerts_of"], *columns)
        await end_alerts(self._connection, {row["id"]: UNSELECTED for row in rows})
        await self._connection.execute(SQL["mark_unselected"], *columns)

    async def _apply(
        self, pair: Pair, era: int, outcome: Outcome, before: Mapping[int, StoredEpisode], beginning: bool
    ) -> None:
        match outcome:
            case New(episode):
                await self._insert(pair, era, episode, {}, beginning=beginning)
            case Split(episode, told):
                await self._insert(pair, era, episode, told, beginning=beginning)
            case Kept():
                await self._update(pair, outcome, before[outcome.id])
            case Merged(episode_id, into):
                # What was told of it stands with the other now: a merge by itself tells nobody anything.
                await self._connection.execute(SQL["delete_told"], episode_id)
                await self._withdraw(pair, episode_id, into)
            case Retracted(episode_id):
                await self._withdraw(pair, episode_id, None)
            case Deleted(episode_id):
                await self._connection.execute(SQL["delete_episode"], episode_id)

    async def _insert(
        self, pair: Pair, era: int, episode: Episode, told: Mapping[str, Told], *, beginning: bool
    ) -> None:
        settled = (beginning and not episode.is_open) or self._is_history(pair, episode)
        episode_id = await self._connection.fetchval(
            SQL["insert_episode"], *pair, era, *_content(episode), self._threshold(pair, episode.level), settled
        )
        await self._tell(episode_id, told)
        await self._note("firing" if episode.is_open else "resolved", episode_id, pair, episode)

    def _is_history(self, pair: Pair, episode: Episode) -> bool:
        """Tell whether an episode that is over when it becomes known is told to nobody."""
        late_data = self._matches[pair].terms.late_data
        if episode.resolved_at is None:
            return False
        return late_data.notify == "never" or episode.resolved_at < now_us() - late_data.accept_us

    async def _update(self, pair: Pair, kept: Kept, before: StoredEpisode) -> None:
        episode, ack = kept.episode, kept.ack
        acked = (None, None, None) if ack is None else (ack.by, ack.at_us, ack.level)
        # What is over and settled stays so: history is not news because it changes.
        has_news = episode.is_open or any(told.state == "firing" for told in kept.told.values())
        await self._connection.execute(
            SQL["update_episode"], kept.id, *_content(episode), self._threshold(pair, episode.level), *acked, has_news
        )
        # Only what it inherits: a message may have been claimed since what was told was loaded.
        inherited = {channel: told for channel, told in kept.told.items() if before.told.get(channel) != told}
        await self._tell(kept.id, inherited)
        ended = before.episode.is_open and not episode.is_open
        await self._note("resolved" if ended else "changed", kept.id, pair, episode)

    async def _withdraw(self, pair: Pair, episode_id: int, into: int | None) -> None:
        await self._connection.execute(SQL["withdraw_episode"], episode_id, into)
        await self._note("retracted", episode_id, pair, None)

    async def _tell(self, episode_id: int, told: Mapping[str, Told]) -> None:
        for channel, each in told.items():
            await self._connection.execute(SQL["upsert_told"], channel, episode_id, each.state, each.level)

    def _threshold(self, pair: Pair, level: str) -> Any:
        for each in self._matches[pair].series_rule.levels:
            if each.name == level:
                return threshold_of(each.condition)
        return None

    async def _note(self, transition: Transition, episode_id: int, pair: Pair, episode: Episode | None) -> None:
        """Put a change on the live feed."""
        level = episode.level if episode else ""
        self.made.append(Change(transition, episode_id, *pair, level))
        series = self._series[pair[1]]
        frame = AlertFrame(
            transition=transition,
            id=episode_id,
            rule=pair[0],
            sensor=series.sensor,
            metric=series.metric,
            gateway=series.gateway,
            level=level or None,
            started_at=None if episode is None else from_us(episode.started_at),
            fired_at=None if episode is None else from_us(episode.fired_at),
            resolved_at=None if episode is None or episode.resolved_at is None else from_us(episode.resolved_at),
            reason="retracted" if transition == "retracted" else None,
        )
        await publish(self._connection, frame)


def threshold_of(condition: Condition) -> Any:
    """Give a condition's numbers: one, or [low, high]."""
    numbers = msgspec.structs.astuple(condition)  # type: ignore[arg-type]
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _content(episode: Episode) -> tuple[int, int, int | None, list[list[Any]], str]:
    steps = [[step.level, step.t] for step in episode.steps]
    return episode.started_at, episode.fired_at, episode.resolved_at, steps, episode.level


def _episode(row: asyncpg.Record) -> Episode:
    steps = tuple(Step(level, t) for level, t in row["steps"])
    return Episode(row["started_us"], row["fired_us"], row["resolved_us"], steps)
