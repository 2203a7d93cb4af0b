"""Source of the readings that replays want. Many replays share a query, and the readings in memory are limited."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from app.alerting.episodes.replay import FIRST_PAGE, LARGEST_PAGE, Replay, Replaying, Want, replaying
from app.alerting.episodes.revision import StoredEpisode
from app.alerting.episodes.samples import StoredReading
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.progress import PairState
from app.alerting.evaluation.sql import SQL
from app.clock import DAY_US, from_us, now_us
from app.db.aggregates import RAW_RETENTION
from app.db.pool import Connection
from app.model import SeriesId

#: Largest number of readings that are fetched at a time, for all replays together.
READINGS_LIMIT = 50_000


#: Extremes are looked up until this many readings were looked at, in steps of some pairs.
EXTREMES_LIMIT = 300_000
_EXTREMES_PAIRS = 50


class ReplayTask(msgspec.Struct):
    """The replay of one pair; `result` is set when it has ended."""

    series_id: SeriesId
    state: PairState
    replay: Replaying
    #: All readings after `evaluated_to`, if they are known without a query.
    at_hand: Sequence[StoredReading] = ()
    evaluated_to: int | None = None
    result: Replay | None = None
    #: Of a timed rule.
    horizon_us: int | None = None

    @classmethod
    def begin(
        cls,
        series_id: SeriesId,
        state: PairState,
        news: News,
        ranges: Sequence[tuple[int, int]],
        episodes: Sequence[StoredEpisode],
        first_page: int = FIRST_PAGE,
        horizon_us: int = 0,
    ) -> "ReplayTask":
        """Return the task for a pair with news; `ranges` are those of the news that are to be replayed.

        `horizon_us` is how far values are held, for a timed rule.
        """
        known, rule, fresh = state.known(episodes), state.match.series_rule, news.fresh
        if (timing := state.timing(horizon_us)) is not None:
            steps = replaying(rule, known, ranges, first_page, timing=timing)
            return cls(series_id, state, steps, horizon_us=timing.horizon_us)
        if state.is_beginning:
            # Most of these read many pages. Long pages keep the number of replays at a time small.
            return cls(series_id, state, replaying(rule, known, ranges, first_page, LARGEST_PAGE))
        if news.late or fresh is None:
            return cls(series_id, state, replaying(rule, known, ranges, first_page))
        # One more, so that the page shows that it was the last one.
        task = cls(series_id, state, replaying(rule, known, ranges, first_page, min(fresh.count + 1, first_page)))
        # The stored `evaluated_to` may be old; it is the newest if this process evaluated the pair or nobody did.
        if fresh.count == 1 and (state.is_current or state.written_us is None):
            task.at_hand, task.evaluated_to = [(fresh.first_us, fresh.lowest)], known.evaluated_to
        return task

    def advance(self, answer: Sequence[StoredReading] | None) -> Want | None:
        """Go on with an answer, or begin with None; return the next want that needs a query, or None at the end."""
        try:
            want = next(self.replay) if answer is None else self.replay.send(answer)
            while self._is_at_hand(want):
                found = [reading for reading in self.at_hand if want.from_us is None or reading[0] >= want.from_us]
                want = self.replay.send(found[: want.limit])
        except StopIteration as end:
            self.result = end.value
            return None
        return want

    def _is_at_hand(self, want: Want) -> bool:
        if want.newest or want.to_us is not None or want.series_id is not None or not self.at_hand:
            return False
        return self.evaluated_to is None or (want.from_us is not None and want.from_us > self.evaluated_to)


class ReadingSource:
    """Fetches the readings that replays want from the database."""

    def __init__(self, connection: Connection, until_us: int) -> None:
        self._connection = connection
        #: Later readings do not count yet.
        self._until_us = until_us
        #: Number of readings fetched so far.
        self.fetched = 0

    async def run(self, tasks: Iterator[ReplayTask], fetch_limit: int) -> list[ReplayTask]:
        """Run tasks to their ends and return them; begin no further ones once `fetched` has reached the limit.

        A task begins when the wants of those before leave room for its own, so that few pages are held at a time.
        """
        begun: list[ReplayTask] = []
        asking: list[tuple[ReplayTask, Want]] = []
        while True:
            room = READINGS_LIMIT - sum(want.limit for _, want in asking)
            while room > 0 and (self.fetched < fetch_limit or not begun) and (task := next(tasks, None)) is not None:
                begun.append(task)
                if (want := task.advance(None)) is not None:
                    asking.append((task, want))
                    room -= want.limit
            if not asking:
                return begun
            asking = await self._answer(asking)

    async def complete_extremes(self, tasks: Sequence[ReplayTask]) -> None:
        """Look up the extremes of windows that began before this process evaluated their pairs.

        After EXTREMES_LIMIT readings it stops; the other pairs are completed after their next replay.
        """
        unknown = [(task, window) for task in tasks if (window := task.state.unknown_window) is not None]
        looked_at = 0
        while unknown and looked_at < EXTREMES_LIMIT:
            some, unknown = unknown[:_EXTREMES_PAIRS], unknown[_EXTREMES_PAIRS:]
            columns = zip(*((task.series_id, *map(from_us, window)) for task, window in some), strict=True)
            bounds = from_us(min(first for _, (first, _) in some)), from_us(max(last for _, (_, last) in some))
            rows = await self._connection.fetch(SQL["list_extremes"], *map(list, columns), *bounds)
            for row, (task, (first, _)) in zip(rows, some, strict=True):
                looked_at += row["n"]
                if row["n"] and task.state.extremes is not None:
                    task.state.extremes.reach_back(first, row["lowest"], row["highest"])

    async def _answer(self, asking: list[tuple[ReplayTask, Want]]) -> list[tuple[ReplayTask, Want]]:
        """Answer as many of the first wants as fit into one fetch; return the tasks with their next wants."""
        count, room = 0, READINGS_LIMIT
        while count < len(asking) and (room := room - asking[count][1].limit) >= 0:
            count += 1
        now = asking[: max(count, 1)]
        answers = await self._fetch([(task.series_id, want) for task, want in now])
        again = [
            (task, want)
            for (task, _), answer in zip(now, answers, strict=True)
            if (want := task.advance(answer)) is not None
        ]
        return again + asking[len(now) :]

    async def _fetch(self, wants: Sequence[tuple[SeriesId, Want]]) -> list[Sequence[StoredReading]]:
        """Return the readings wanted of each series, by at most two queries."""
        answers: list[Sequence[StoredReading]] = [()] * len(wants)
        for newest, query in ((False, "list_wanted_oldest"), (True, "list_wanted_newest")):
            rows = [
                (number, want.series_id or series_id, _from_time(want), self._to_time(want), want.limit)
                for number, (series_id, want) in enumerate(wants)
                if want.newest is newest
            ]
            if not rows:
                continue
            columns = list(map(list, zip(*rows, strict=True)))
            bounds = min(row[2] for row in rows), max(row[3] for row in rows)
            found: defaultdict[int, list[StoredReading]] = defaultdict(list)
            for number, us, value in await self._connection.fetch(SQL[query], *columns, *bounds):
                found[number].append((us, value))
            for number, readings in found.items():
                answers[number] = readings
                self.fetched += len(readings)
        return answers

    def _to_time(self, want: Want) -> datetime:
        after_us = self._until_us + 1
        return from_us(after_us if want.to_us is None else min(want.to_us, after_us))


def _from_time(want: Want) -> datetime:
    """Return the lower bound of a read. Every read of the hypertable is bounded by the retention of raw readings."""
    oldest = now_us() - (RAW_RETENTION.days + 1) * DAY_US
    return from_us(oldest if want.from_us is None else max(want.from_us, oldest))
