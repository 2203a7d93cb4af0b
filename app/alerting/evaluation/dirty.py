"""The rows of `dirty`: the new readings that an evaluation takes, and those that it leaves for the next one.

Fresh rows do not wait for late rows. Late rows do not wait for fresh rows either, because a quarter of an evaluation is
reserved for them. Readings whose time has not come yet are put off until it has.

The readings of one series stay in order: while a late row of a series waits, its fresh readings are
moved behind that row. Otherwise an alert could fire, and be withdrawn when the late row is evaluated.
"""

from collections import Counter
from collections.abc import Iterable, Set
from math import inf

import asyncpg
import msgspec

from app.alerting.evaluation.sql import SQL
from app.clock import PENDING_AFTER_US, SECOND_US
from app.db.pool import Connection
from app.model import SeriesId
from app.summaries import Summaries, Summary, pack, unpack

#: Largest number of bytes of fresh and of late rows in one evaluation, unless the first row alone has more. A series
#: takes 20 or 48 bytes of a row.
FRESH_BYTES, LATE_BYTES = 1_500_000, 500_000
#: Largest number of rows of each kind in one evaluation.
ROWS_LIMIT = 500
#: What is put off is looked at again after this time at the earliest.
LOOK_AGAIN_US = SECOND_US
#: Number of late rows that are counted at a time.
_COUNT_ROWS = 50


class News(msgspec.Struct, gc=False):
    """The new readings of one series that an evaluation takes."""

    #: All fresh readings together.
    fresh: Summary | None = None
    #: Late readings by row: between two rows there may be many that were evaluated before.
    late: list[Summary] = []
    #: Whether a part ended later than now. Its end is now, and its values may be those of readings that come later.
    is_cut: bool = False

    @property
    def parts(self) -> list[Summary]:
        """All parts."""
        return self.late if self.fresh is None else [self.fresh, *self.late]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The times of the earliest and the latest reading of each part."""
        return [(part.first_us, part.last_us) for part in self.parts]


class DirtyRow(msgspec.Struct, frozen=True):
    """A row of `dirty`."""

    id: int
    is_late: bool
    summaries: Summaries
    #: The parts whose time has not come yet.
    pending: Summaries = Summaries()
    #: Series that have a part on both sides.
    cut: frozenset[SeriesId] = frozenset()
    #: Whether the row was put off before.
    matures: bool = False

    def split(self, until_us: int) -> "DirtyRow":
        """Return the row, in which readings that are later than a time are `pending`."""
        if not self.summaries.series_ids or self.summaries.latest_us <= until_us:
            return self
        items = list(self.summaries.items())
        cut = [item for item in items if item[1].first_us <= until_us < item[1].last_us]
        come = [(series_id, part.until(until_us)) for series_id, part in items if part.first_us <= until_us]
        later = [(series_id, part.after(until_us)) for series_id, part in items if part.last_us > until_us]
        return msgspec.structs.replace(
            self,
            summaries=Summaries.of(come),
            pending=Summaries.of(later),
            cut=frozenset(series_id for series_id, _ in cut),
        )

    def only(self, series_ids: Set[SeriesId]) -> Summaries:
        """Return the summaries of these series."""
        return Summaries.of(item for item in self.summaries.items() if item[0] in series_ids)


class LateRows(msgspec.Struct):
    """The late rows that this process has seen waiting: their ids, and in how many of them each series occurs."""

    ids: set[int] = msgspec.field(default_factory=set)
    of_series: Counter[SeriesId] = msgspec.field(default_factory=Counter)

    def add(self, row_id: int, summaries: Summaries) -> None:
        """Take note of a waiting row."""
        self.ids.add(row_id)
        self.of_series.update(summaries.series_ids)

    def remove(self, summaries: Summaries) -> None:
        """Take note that these parts of a row do not wait any longer."""
        self.of_series.subtract(summaries.series_ids)
        for series_id in summaries.series_ids:
            if not self.of_series[series_id]:
                del self.of_series[series_id]


class Taken:
    """The rows that an evaluation takes, in order of id, and their new readings by series."""

    def __init__(self, rows: Iterable[DirtyRow], late: LateRows, now_us: int = 2**62) -> None:
        #: Later readings are put off.
        self.until_us = now_us + PENDING_AFTER_US
        self.rows = [row.split(self.until_us) for row in rows]
        self._late = late
        taken: Counter[SeriesId] = Counter()
        for row in self.rows:
            if row.is_late:
                taken.update(row.summaries.series_ids)
        #: Series of which another late row waits.
        self._blocked = {series_id for series_id, count in late.of_series.items() if count > taken[series_id]}
        self.news: dict[SeriesId, News] = {}
        for row in self.rows:
            self._add(row)

    def _add(self, row: DirtyRow) -> None:
        self._add_parts(row)
        for series_id in row.cut & self.news.keys():
            self.news[series_id].is_cut = True

    def _add_parts(self, row: DirtyRow) -> None:
        news, blocked = self.news, self._blocked
        for series_id, summary in row.summaries.items():
            if row.is_late:
                news.setdefault(series_id, News(late=[])).late.append(summary)
            elif series_id not in blocked:
                of_series = news.get(series_id)
                if of_series is None:
                    news[series_id] = News(summary)
                else:
                    of_series.fresh = summary if of_series.fresh is None else of_series.fresh.join(summary)

    async def finish(self, connection: Connection, put_back: Set[SeriesId]) -> None:
        """Delete the rows, but leave in them the series that are put back, and move the blocked ones behind."""
        done: list[int] = []
        await self._mature(connection)
        for row in self.rows:
            if row.pending.series_ids:
                await connection.execute(SQL["put_off"], pack(row.pending), row.is_late, self._due_us(row.pending))
            blocked = Summaries() if row.is_late or not self._blocked else row.only(self._blocked)
            left = row.only(put_back if row.is_late else put_back - self._blocked) if put_back else Summaries()
            if blocked.series_ids:
                moved = await connection.fetchval(SQL["move_behind"], pack(blocked))
                self._late.add(moved, blocked)
            if left.series_ids:
                await connection.execute(SQL["shorten_dirty"], row.id, pack(left))
            else:
                done.append(row.id)
            if row.is_late:
                self._late.remove(row.summaries)
                self._late.of_series.update(left.series_ids)
        await connection.execute(SQL["delete_dirty"], done)
        self._late.ids.difference_update(done)

    def _due_us(self, pending: Summaries) -> int:
        """Return when pending readings are looked at again: when the first of them count, but not at once."""
        first_us = min(summary.first_us for _, summary in pending.items())
        return max(first_us - PENDING_AFTER_US, self.until_us - PENDING_AFTER_US + LOOK_AGAIN_US)

    async def _mature(self, connection: Connection) -> None:
        """Let readings whose time has come count as the latest ones of their series."""
        come = {item for row in self.rows if row.matures for item in row.summaries.items()}
        if come:
            first_us = min(summary.first_us for _, summary in come)
            ids = sorted({series_id for series_id, _ in come})
            await connection.execute(SQL["mature_series_state"], ids, first_us, self.until_us)


async def take_dirty(connection: Connection, late: LateRows, now_us: int) -> Taken:
    """Return the oldest rows. Rows are not locked: only the process that holds the lease evaluates."""
    rows = await connection.fetch(SQL["list_dirty"], ROWS_LIMIT, FRESH_BYTES, LATE_BYTES, now_us)
    # The first look reads all rows by id. Later, a row with a smaller id than others may be committed.
    known, after = list(late.ids), 0
    while unseen := await connection.fetch(SQL["list_late"], known, after, _COUNT_ROWS):
        for row in unseen:
            late.add(row["id"], _summaries(row))
        after = unseen[-1]["id"]
    taken = (DirtyRow(row["id"], row["late"], _summaries(row), matures=row["matures"]) for row in rows)
    return Taken(taken, late, now_us)


def _summaries(row: asyncpg.Record) -> Summaries:
    if row["summaries"] is not None:
        return unpack(row["summaries"])
    # Neither the values nor their number is known.
    return Summaries.of(
        (series_id, Summary(2, first, last, -inf, inf, last - first))
        for series_id, first, last in zip(row["series_ids"], row["from_us"], row["to_us"], strict=True)
    )
