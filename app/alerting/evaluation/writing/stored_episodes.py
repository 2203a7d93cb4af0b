"""Episodes in the database: loading them for a replay, and storing the outcomes of a revision."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from app.alerting.conditions import Condition, keyword_of
from app.alerting.episodes.machine import Episode, Step
from app.alerting.episodes.reasons import UNSELECTED, reason_out_of_use
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
from app.alerting.evaluation.writing.alert_feed import Transition, end_alerts, load_alerts, publish
from app.alerting.evaluation.writing.sql import SQL
from app.alerting.rules.matching import Match
from app.clock import now_us
from app.db.pool import Connection
from app.model import SeriesId, Tags, severity

Pair = tuple[str, SeriesId]
_encode = msgspec.json.Encoder().encode


class EvaluatedSeries(msgspec.Struct, frozen=True):
    """The fields of a series that rules use."""

    id: SeriesId
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    unit: str | None
    created_us: int
    is_retired: bool = False
    is_deleted: bool = False

    @property
    def out_of_use(self) -> str | None:
        """The reason for which its alerts end, or None if the sensor is in use."""
        return reason_out_of_use(self.is_retired, self.is_deleted)


class Change(msgspec.Struct, frozen=True):
    """A change of an episode, for the log."""

    transition: Transition
    episode_id: int
    rule: str
    series_id: SeriesId
    level: str


async def load_stored(
    connection: Connection, series_ids: Sequence[SeriesId], oldest_revised_us: int | None
) -> dict[Pair, list[tuple[int, StoredEpisode]]]:
    """Load the open episodes and, if `oldest_revised_us` is given, those that ended at or after that time.

    Return (era, episode) by (rule, series id), in order of time. Episodes of earlier eras are never recomputed.
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


async def mark_unselected(connection: Connection, pairs: Sequence[Pair]) -> None:
    """Note that rules no longer select these series; if they do so again, new eras begin."""
    if pairs:
        await connection.execute(SQL["mark_unselected"], *_columns(pairs))


class _PendingChange(msgspec.Struct):
    """A change that is not stored yet. The id of a new episode is set when it has been inserted."""

    transition: Transition
    pair: Pair
    episode: Episode | None
    episode_id: int = 0


class _Insert(msgspec.Struct):
    """A new episode to insert, and what it inherits of what was told about the episode that it was split from."""

    row: tuple[Any, ...]
    told: Mapping[str, Told]
    change: _PendingChange
    is_split: bool


class Changes:
    """Collects the outcomes of one evaluation and stores them together. `made` lists the stored changes."""

    def __init__(self, connection: Connection) -> None:
        self.made: list[Change] = []
        self._connection = connection
        self._matches: dict[Pair, Match] = {}
        self._pending: list[_PendingChange] = []
        self._inserts: list[_Insert] = []
        self._updates: list[tuple[Any, ...]] = []
        #: (episode id, id of the episode that it was merged into or None).
        self._retracted: list[tuple[int, int | None]] = []
        self._deleted: list[int] = []
        #: (channel, episode id, told, level).
        self._told: list[tuple[str, int, str, str]] = []

    def revise(
        self,
        pair: Pair,
        match: Match,
        era: int,
        stored: Sequence[StoredEpisode],
        recomputed: Sequence[Episode],
        *,
        is_backfill: bool,
    ) -> None:
        """Match stored episodes with recomputed ones and collect the outcomes.

        With `is_backfill`, new episodes that are over are stored as settled: no message is sent about them.
        """
        self._matches[pair] = match
        before = {each.id: each for each in stored}
        for outcome in revise(stored, recomputed):
            match outcome:
                case New(episode):
                    self._insert(pair, era, episode, None, is_backfill=is_backfill)
                case Split(episode, told):
                    self._insert(pair, era, episode, told, is_backfill=is_backfill)
                case Kept():
                    self._update(pair, outcome, before[outcome.id])
                case Merged(episode_id, into):
                    self._retract(pair, episode_id, into)
                case Retracted(episode_id):
                    self._retract(pair, episode_id, None)
                case Deleted(episode_id):
                    self._deleted.append(episode_id)

    async def write(self) -> None:
        """Store everything collected. Removals come first: a rule and a series have at most one open episode."""
        if self._retracted:
            # The other episode inherits alert_told of a merged one, so that the merge itself sends no message.
            merged = [episode_id for episode_id, into in self._retracted if into is not None]
            await self._connection.execute(SQL["delete_told"], merged)
            await self._connection.execute(SQL["inherit_closing"], *_columns(self._retracted))
            await self._connection.execute(SQL["retract_episodes"], *_columns(self._retracted))
        deleted = await load_alerts(self._connection, self._deleted)
        if deleted:
            await self._connection.execute(SQL["delete_episodes"], self._deleted)
        if self._updates:
            await self._connection.execute(SQL["update_episodes"], *_columns(self._updates))
        if self._inserts:
            await self._write_inserts()
        if self._told:
            await self._connection.execute(SQL["upsert_told"], *_columns(self._told))
        self.made = [self._change(change) for change in self._pending]
        await publish(self._connection, [(change.transition, change.episode_id) for change in self._pending], deleted)

    async def end_unselected(self, series_of: Mapping[Pair, EvaluatedSeries]) -> None:
        """End the open alerts of pairs whose rule no longer selects the series, or whose sensor is out of use."""
        pairs = list(series_of)
        rows = await self._connection.fetch(SQL["list_open_alerts_of"], *_columns(pairs))
        await end_alerts(
            self._connection,
            {row["id"]: series_of[row["rule"], row["series_id"]].out_of_use or UNSELECTED for row in rows},
        )
        await mark_unselected(self._connection, list(pairs))

    def _insert(
        self, pair: Pair, era: int, episode: Episode, told: Mapping[str, Told] | None, *, is_backfill: bool
    ) -> None:
        settled = (is_backfill and not episode.is_open) or self._is_settled(pair, episode)
        change = self._add_change("firing" if episode.is_open else "resolved", pair, episode)
        row = (*pair, era, *_content(episode), *self._rule_content(pair, episode.level), settled)
        self._inserts.append(_Insert(row, told or {}, change, told is not None))

    def _is_settled(self, pair: Pair, episode: Episode) -> bool:
        """Return whether no message is sent about a new episode because it is over, by the `late_data` of its rule."""
        late_data = self._matches[pair].terms.late_data
        if episode.resolved_at is None:
            return False
        return late_data.notify == "never" or episode.resolved_at < now_us() - late_data.accept_us

    def _update(self, pair: Pair, kept: Kept, before: StoredEpisode) -> None:
        episode, ack = kept.episode, kept.ack
        acked = (None, None, None) if ack is None else (ack.by, ack.at_us, ack.level)
        # A settled episode that is over stays settled when only its times change. But if it was told and its level has
        # risen, channels of the higher level may still need a message.
        has_risen = bool(kept.told) and severity(episode.level) > severity(before.episode.level)
        unsettles = episode.is_open or has_risen or any(told.state == "firing" for told in kept.told.values())
        self._updates.append((kept.id, *_content(episode), *self._rule_content(pair, episode.level), *acked, unsettles))
        # Write only inherited values: a claimed message may have changed the others since they were loaded.
        inherited = {channel: told for channel, told in kept.told.items() if before.told.get(channel) != told}
        self._add_told(kept.id, inherited)
        ended = before.episode.is_open and not episode.is_open
        self._add_change("resolved" if ended else "changed", pair, episode, kept.id)

    def _retract(self, pair: Pair, episode_id: int, into: int | None) -> None:
        self._retracted.append((episode_id, into))
        self._add_change("retracted", pair, None, episode_id)

    def _add_told(self, episode_id: int, told: Mapping[str, Told]) -> None:
        self._told += [(channel, episode_id, each.state, each.level) for channel, each in told.items()]

    def _add_change(
        self, transition: Transition, pair: Pair, episode: Episode | None, episode_id: int = 0
    ) -> _PendingChange:
        change = _PendingChange(transition, pair, episode, episode_id)
        self._pending.append(change)
        return change

    async def _write_inserts(self) -> None:
        rows = await self._connection.fetch(SQL["insert_episodes"], *_columns([insert.row for insert in self._inserts]))
        ids = {(row["rule"], row["series_id"], row["fired_us"]): row["id"] for row in rows}
        for insert in self._inserts:
            rule, series_id, _, _, fired_us, *_ = insert.row
            insert.change.episode_id = ids[rule, series_id, fired_us]
            self._add_told(insert.change.episode_id, insert.told)
        split = [insert.change.episode_id for insert in self._inserts if insert.is_split]
        if split:
            await self._connection.execute(SQL["split_closing"], split)

    def _rule_content(self, pair: Pair, level: str) -> tuple[str | None, str | None, str | None, str, int, str | None]:
        """Return the level's threshold as JSON, the rule's text and unit, its value's kind and window, and a keyword.

        The keyword is that of the level's condition.
        """
        match = self._matches[pair]
        conditions = {each.name: each.condition for each in match.series_rule.levels}
        threshold = _encode(threshold_of(conditions[level])).decode() if level in conditions else None
        value = match.series_rule.value
        keyword = keyword_of(conditions[level]) if level in conditions else None
        return threshold, match.terms.message, match.terms.unit, value.name, value.window_us, keyword

    def _change(self, change: _PendingChange) -> Change:
        return Change(
            change.transition, change.episode_id, *change.pair, change.episode.level if change.episode else ""
        )


def threshold_of(condition: Condition) -> Any:
    """Return the numbers of a condition: one number, or [low, high]."""
    numbers = msgspec.structs.astuple(condition)  # type: ignore[arg-type]
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))


def _content(episode: Episode) -> tuple[int, int, int | None, str, str]:
    """Return started_at, fired_at and resolved_at, the steps as JSON, and the level."""
    steps = _encode([[step.level, step.t] for step in episode.steps]).decode()
    return episode.started_at, episode.fired_at, episode.resolved_at, steps, episode.level


def _episode(row: asyncpg.Record) -> Episode:
    steps = tuple(Step(level, t) for level, t in row["steps"])
    return Episode(row["started_us"], row["fired_us"], row["resolved_us"], steps)
