"""Episodes in the database: loaded for a replay, and written back with the identity that revision gives them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from app.alerting.conditions import Condition
from app.alerting.episodes.machine import Episode, Step
from app.alerting.episodes.reasons import RETRACTED, UNSELECTED
from app.alerting.episodes.revision import (
    Ack,
    Deleted,
    Kept,
    Merged,
    New,
    Retracted,
    Split,
    StoredEpisode,
    Told,
    revise,
)
from app.alerting.evaluation.alert_feed import AlertFrame, Transition, end_alerts, publish
from app.alerting.evaluation.sql import SQL
from app.alerting.rules.matching import Match
from app.clock import from_us, now_us
from app.db.pool import Connection
from app.model import SeriesId, Tags, severity

Pair = tuple[str, SeriesId]
_encode = msgspec.json.Encoder().encode


class EvaluatedSeries(msgspec.Struct, frozen=True):
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


async def load_stored(
    connection: Connection, series_ids: Sequence[SeriesId], oldest_revised_us: int | None
) -> dict[Pair, list[tuple[int, StoredEpisode]]]:
    """Load what is open and, where readings came out of order, what ended at or after the oldest of them.

    By (rule, series), in order of time, each with its era: those of earlier eras are never recomputed.
    """
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
    return episodes


class _Note(msgspec.Struct):
    """A change on its way; the id of a new episode is known once it is inserted."""

    transition: Transition
    pair: Pair
    episode: Episode | None
    episode_id: int = 0


class _Insert(msgspec.Struct):
    """A new episode on its way, and what was told of what it was split from."""

    row: tuple[Any, ...]
    told: Mapping[str, Told]
    note: _Note


class Changes:
    """Collects the outcomes of one evaluation, writes them all at once, and keeps a list of what happened."""

    def __init__(
        self, connection: Connection, series: Mapping[SeriesId, EvaluatedSeries], matches: Mapping[Pair, Match]
    ) -> None:
        self.made: list[Change] = []
        self._connection = connection
        self._series = series
        self._matches = matches
        self._notes: list[_Note] = []
        self._inserts: list[_Insert] = []
        self._updates: list[tuple[Any, ...]] = []
        #: Episode, and the one that it is part of.
        self._withdrawn: list[tuple[int, int | None]] = []
        self._deleted: list[int] = []
        #: Channel, episode, what it was told, level.
        self._told: list[tuple[str, int, str, str]] = []

    def revise(
        self, pair: Pair, era: int, stored: Sequence[StoredEpisode], true: Sequence[Episode], *, beginning: bool
    ) -> None:
        """Match stored episodes with true ones and note what differs.

        `beginning`: the rule has just met this series, so what is over by now is history and not news.
        """
        before = {each.id: each for each in stored}
        for outcome in revise(stored, true):
            match outcome:
                case New(episode):
                    self._insert(pair, era, episode, {}, beginning=beginning)
                case Split(episode, told):
                    self._insert(pair, era, episode, told, beginning=beginning)
                case Kept():
                    self._update(pair, outcome, before[outcome.id])
                case Merged(episode_id, into):
                    self._withdraw(pair, episode_id, into)
                case Retracted(episode_id):
                    self._withdraw(pair, episode_id, None)
                case Deleted(episode_id):
                    self._deleted.append(episode_id)

    async def write(self) -> None:
        """Write all that was noted: first what goes, so that a rule and a series never have two open episodes."""
        if self._withdrawn:
            # What was told of a merged one stands with the other now: a merge by itself tells nobody anything.
            merged = [episode_id for episode_id, into in self._withdrawn if into is not None]
            await self._connection.execute(SQL["delete_told"], merged)
            await self._connection.execute(SQL["withdraw_episodes"], *_columns(self._withdrawn))
        if self._deleted:
            await self._connection.execute(SQL["delete_episodes"], self._deleted)
        if self._updates:
            await self._connection.execute(SQL["update_episodes"], *_columns(self._updates))
        if self._inserts:
            await self._write_inserts()
        if self._told:
            await self._connection.execute(SQL["upsert_told"], *_columns(self._told))
        self.made = [self._change(note) for note in self._notes]
        await publish(self._connection, [self._frame(note) for note in self._notes])

    async def end_unselected(self, pairs: Sequence[Pair]) -> None:
        """End the alerts of series that no longer fall under a rule."""
        rows = await self._connection.fetch(SQL["list_open_alerts_of"], *_columns(pairs))
        await end_alerts(self._connection, {row["id"]: UNSELECTED for row in rows})
        await self._connection.execute(SQL["mark_unselected"], *_columns(pairs))

    def _insert(self, pair: Pair, era: int, episode: Episode, told: Mapping[str, Told], *, beginning: bool) -> None:
        settled = (beginning and not episode.is_open) or self._is_history(pair, episode)
        note = self._note("firing" if episode.is_open else "resolved", pair, episode)
        row = (*pair, era, *_content(episode), self._threshold(pair, episode.level), settled)
        self._inserts.append(_Insert(row, told, note))

    def _is_history(self, pair: Pair, episode: Episode) -> bool:
        """Tell whether an episode that is over when it becomes known is told to nobody."""
        late_data = self._matches[pair].terms.late_data
        if episode.resolved_at is None:
            return False
        return late_data.notify == "never" or episode.resolved_at < now_us() - late_data.accept_us

    def _update(self, pair: Pair, kept: Kept, before: StoredEpisode) -> None:
        episode, ack = kept.episode, kept.ack
        acked = (None, None, None) if ack is None else (ack.by, ack.at_us, ack.level)
        # What is over and settled stays so: history is not news because it changes. But of what people were told of,
        # others may have to hear at a higher level.
        has_risen = bool(kept.told) and severity(episode.level) > severity(before.episode.level)
        has_news = episode.is_open or has_risen or any(told.state == "firing" for told in kept.told.values())
        self._updates.append((kept.id, *_content(episode), self._threshold(pair, episode.level), *acked, has_news))
        # Only what it inherits: a message may have been claimed since what was told was loaded.
        inherited = {channel: told for channel, told in kept.told.items() if before.told.get(channel) != told}
        self._tell(kept.id, inherited)
        ended = before.episode.is_open and not episode.is_open
        self._note("resolved" if ended else "changed", pair, episode, kept.id)

    def _withdraw(self, pair: Pair, episode_id: int, into: int | None) -> None:
        self._withdrawn.append((episode_id, into))
        self._note("retracted", pair, None, episode_id)

    def _tell(self, episode_id: int, told: Mapping[str, Told]) -> None:
        self._told += [(channel, episode_id, each.state, each.level) for channel, each in told.items()]

    def _note(self, transition: Transition, pair: Pair, episode: Episode | None, episode_id: int = 0) -> _Note:
        note = _Note(transition, pair, episode, episode_id)
        self._notes.append(note)
        return note

    async def _write_inserts(self) -> None:
        rows = await self._connection.fetch(SQL["insert_episodes"], *_columns([insert.row for insert in self._inserts]))
        ids = {(row["rule"], row["series_id"], row["fired_us"]): row["id"] for row in rows}
        for insert in self._inserts:
            rule, series_id, _, _, fired_us, *_ = insert.row
            insert.note.episode_id = ids[rule, series_id, fired_us]
            self._tell(insert.note.episode_id, insert.told)

    def _threshold(self, pair: Pair, level: str) -> str | None:
        for each in self._matches[pair].series_rule.levels:
            if each.name == level:
                return _encode(threshold_of(each.condition)).decode()
        return None

    def _change(self, note: _Note) -> Change:
        return Change(note.transition, note.episode_id, *note.pair, note.episode.level if note.episode else "")

    def _frame(self, note: _Note) -> AlertFrame:
        """Write a change as clients of the live feed get it."""
        episode, series = note.episode, self._series[note.pair[1]]
        return AlertFrame(
            transition=note.transition,
            id=note.episode_id,
            rule=note.pair[0],
            sensor=series.sensor,
            metric=series.metric,
            gateway=series.gateway,
            level=None if episode is None else episode.level,
            started_at=None if episode is None else from_us(episode.started_at),
            fired_at=None if episode is None else from_us(episode.fired_at),
            resolved_at=None if episode is None or episode.resolved_at is None else from_us(episode.resolved_at),
            reason=RETRACTED if note.transition == "retracted" else None,
        )


def threshold_of(condition: Condition) -> Any:
    """Give a condition's numbers: one, or [low, high]."""
    numbers = msgspec.structs.astuple(condition)  # type: ignore[arg-type]
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))


def _content(episode: Episode) -> tuple[int, int, int | None, str, str]:
    """Give what the readings decide: times, steps as JSON, level."""
    steps = _encode([[step.level, step.t] for step in episode.steps]).decode()
    return episode.started_at, episode.fired_at, episode.resolved_at, steps, episode.level


def _episode(row: asyncpg.Record) -> Episode:
    steps = tuple(Step(level, t) for level, t in row["steps"])
    return Episode(row["started_us"], row["fired_us"], row["resolved_us"], steps)
