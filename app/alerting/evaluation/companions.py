"""The series of second metrics, and which pairs of timed rules an evaluation looks at besides those with new readings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from app.alerting.episodes.timed import Companion
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.horizon import Horizons
from app.alerting.evaluation.sql import SQL
from app.alerting.rules.matching import Match, RuleBook
from app.db.pool import Connection
from app.model import SeriesId, Tags
from app.summaries import Summary

#: A series with more companions of one second metric has none: the rule is wrong.
MOST_COMPANIONS = 8
#: Parts of news by series.
Parts = Mapping[SeriesId, Sequence[Summary]]


class _Series(msgspec.Struct, frozen=True):
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
        """Find the companions again if rules or sensors have `changed`, or new series; return whose have changed."""
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
        self._index([_Series(**row) for row in await connection.fetch(SQL["list_timed_series"], metrics)], book)
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

    def _index(self, series: Sequence[_Series], book: RuleBook) -> None:
        self.problems = {}
        self._mains_of.clear()
        self._known.update(each.id for each in series)
        self._uploaders = {each.id: each.uploader for each in series}
        by_labels = _ByLabels(series)
        self._companions = {}
        for each in series:
            for match in book.matches(each.sensor, each.metric, each.tags, each.gateway):
                if match.is_timed:
                    found = tuple(self._find_companions(each, match, by_labels))
                    self._companions[each.id, match.rule.name] = found
                    for companion in found:
                        self._mains_of[companion.series_id].add(each.id)

    def _find_companions(self, series: _Series, match: Match, by_labels: "_ByLabels") -> Iterator[Companion]:
        for second in match.series_rule.when:
            ids = by_labels.find(series, second.metric, second.same)
            if len(ids) > MOST_COMPANIONS:
                self.problems[match.rule.name] = (
                    f'when: {series.sensor} has {len(ids)} series of "{second.metric}" with the same '
                    f"{', '.join(second.same)}; at most {MOST_COMPANIONS} are possible, so none is looked at"
                )
                continue
            for series_id in ids:
                yield Companion(series_id, second.condition, second.max_age_us)


class _ByLabels:
    """Series by metric and sensor, or by metric and some tags."""

    def __init__(self, series: Sequence[_Series]) -> None:
        self._series = series
        self._of_same: dict[tuple[str, ...], dict[tuple[str, ...], list[SeriesId]]] = {}

    def find(self, series: _Series, metric: str, same: tuple[str, ...]) -> list[SeriesId]:
        """Return the series of a metric on the same sensor, or on all sensors with the same values of tags."""
        if same not in self._of_same:
            index = self._of_same[same] = {}
            for each in self._series:
                if (key := _key(each, each.metric, same)) is not None:
                    index.setdefault(key, []).append(each.id)
        key = _key(series, metric, same)
        return [] if key is None else sorted(self._of_same[same].get(key, []))


def _key(series: _Series, metric: str, same: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what companions have in common; None for a sensor that lacks one of the tags."""
    if not same:
        return metric, series.sensor
    if not all(tag in series.tags for tag in same):
        return None
    return metric, *(series.tags[tag] for tag in same)
