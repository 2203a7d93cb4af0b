"""The series of second metrics, and the pairs of timed rules that are looked at without new readings of their own."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.alerting.episodes.timed import Companion
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.timed.horizon import Horizons
from app.alerting.evaluation.timed.sql import SQL
from app.alerting.rules.companions import CompanionIndex, CompanionSeries
from app.alerting.rules.matching import Match, RuleBook
from app.db.pool import Connection
from app.model import SeriesId, Tags
from app.summaries import Summary


class _TimedSeries(msgspec.Struct, frozen=True):
    """The fields of a series that decide its companions and its horizon."""

    id: SeriesId
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    #: The gateway, or else the API key whose upload created the sensor.
    uploader: str


class TimedPairs:
    """The companions of all series that timed rules select, and the times at which held samples are due.

    Without a timed rule it asks nothing of the database.
    """

    def __init__(self) -> None:
        self.horizons = Horizons()
        #: Rule → what is wrong with its second metrics.
        self.problems: dict[str, str] = {}
        self.stored_problems: dict[str, str] | None = None
        #: (series, rule) → its companions.
        self._companions: dict[tuple[SeriesId, str], tuple[Companion, ...]] = {}
        self._mains_of: defaultdict[SeriesId, set[SeriesId]] = defaultdict(set)
        self._uploaders: dict[SeriesId, str] = {}
        #: Series → when its first held sample is due, and `late_data: {live: …}` of the rule, None if not known yet.
        self._due: dict[SeriesId, tuple[int, int | None]] = {}
        self._metrics: frozenset[str] = frozenset()
        self._known: set[SeriesId] = set()
        self._book: RuleBook | None = None

    def forget(self) -> None:
        """Find all series again."""
        self.stored_problems = None
        self._book = None

    async def find(
        self, connection: Connection, book: RuleBook, news: Iterable[SeriesId], *, changed: bool
    ) -> set[SeriesId]:
        """Find the companions again if rules or sensors have `changed`, or for new series; return which have others."""
        is_new = book is not self._book
        if is_new:
            self._metrics = frozenset(book.second_metrics)
        if not book.has_timed:
            self._book = book
            self._due.clear()
            self.problems = {}
            return set()
        if not is_new and not changed and (not self._metrics or self._known.issuperset(news)):
            return set()
        if is_new:
            rows = await connection.fetch(SQL["list_due"])
            self._due = {row["series_id"]: (row["due_us"], None) for row in rows}
            self._known = set()
        self._book = book
        metrics = None if book.timed_metrics is None else [*book.timed_metrics, *self._metrics]
        before = self._companions
        self._index([_TimedSeries(**row) for row in await connection.fetch(SQL["list_timed_series"], metrics)], book)
        self._known.update(news)
        pairs = {key for key in before.keys() | self._companions.keys() if before.get(key) != self._companions.get(key)}
        return {series_id for series_id, _ in pairs}

    def companions(self, series_id: SeriesId, rule: str) -> tuple[Companion, ...]:
        """Return the companions of a series for a rule."""
        return self._companions.get((series_id, rule), ())

    def look(self, news: Mapping[SeriesId, News]) -> dict[SeriesId, dict[SeriesId, list[Summary]]]:
        """Return the series to look at besides those with news, each with the news of its companions."""
        found: dict[SeriesId, dict[SeriesId, list[Summary]]] = {}
        for series_id in news.keys() & self._mains_of.keys():
            for main in self._mains_of[series_id]:
                found.setdefault(main, {})[series_id] = news[series_id].parts
        for series_id, (due_us, live_us) in self._due.items():
            if due_us <= self.horizons.horizon_us(self._uploaders.get(series_id, ""), live_us):
                found.setdefault(series_id, {})
        return found

    def horizon_us(self, series_id: SeriesId, match: Match) -> int:
        """Return how far values of a series are held for a rule."""
        return self.horizons.horizon_us(self._uploaders.get(series_id, ""), match.terms.late_data.live_us)

    def note_due(self, series_id: SeriesId, states: Iterable[tuple[Match, int | None]]) -> None:
        """Take note of when the first held sample of each rule for a series is due; None: never."""
        due = [(due_us, match.terms.late_data.live_us) for match, due_us in states if due_us is not None]
        if due:
            self._due[series_id] = min(due)
        else:
            self._due.pop(series_id, None)

    def _index(self, series: Sequence[_TimedSeries], book: RuleBook) -> None:
        self.problems = {}
        self._mains_of.clear()
        self._known.update(each.id for each in series)
        self._uploaders = {each.id: each.uploader for each in series}
        index = CompanionIndex([CompanionSeries(each.id, each.sensor, each.metric, each.tags) for each in series])
        self._companions = {}
        for each in series:
            for match in book.matches(each.sensor, each.metric, each.tags, each.gateway):
                if match.is_timed:
                    self._add(each, match, index)

    def _add(self, series: _TimedSeries, match: Match, index: CompanionIndex) -> None:
        problems: list[str] = []
        found = index.companions(series.sensor, series.tags, match.series_rule, problems)
        self._companions[series.id, match.rule.name] = found
        for companion in found:
            self._mains_of[companion.series_id].add(series.id)
        if problems:
            self.problems[match.rule.name] = problems[0]
