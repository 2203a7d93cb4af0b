"""Companions of a series: the series of the second metrics that a rule looks at."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.alerting.episodes.machine import SeriesRule
from app.alerting.episodes.timed import Companion
from app.model import SeriesId, Tags

#: A series with more companions of one second metric has none: the rule is wrong.
MOST_COMPANIONS = 8


class CompanionSeries(msgspec.Struct, frozen=True):
    """The fields of a series that decide whose companion it is."""

    id: SeriesId
    sensor: str
    metric: str
    tags: Tags


class CompanionIndex:
    """Series by metric and sensor, and by metric and values of tags."""

    def __init__(self, series: Sequence[CompanionSeries]) -> None:
        self._series = series
        #: Names of tags → metric and sensor, or metric and values of these tags → ids.
        self._ids: dict[tuple[str, ...], dict[tuple[str, ...], list[SeriesId]]] = {}

    def companions(
        self, sensor: str, tags: Mapping[str, str], rule: SeriesRule, problems: list[str]
    ) -> tuple[Companion, ...]:
        """Return the companions of a series for a rule; add problems to `problems`."""
        found: list[Companion] = []
        for second in rule.when:
            ids = self._find(sensor, tags, second.metric, second.same)
            if len(ids) <= MOST_COMPANIONS:
                found += [Companion(each, second.condition, second.max_age_us, second.metric) for each in ids]
            else:
                problems.append(
                    f'when: {sensor} has {len(ids)} series of "{second.metric}" with the same '
                    f"{', '.join(second.same)}; at most {MOST_COMPANIONS} are possible, so none is looked at"
                )
        return tuple(found)

    def _find(self, sensor: str, tags: Mapping[str, str], metric: str, same: tuple[str, ...]) -> Sequence[SeriesId]:
        if same not in self._ids:
            self._ids[same] = _ids_by_key(self._series, same)
        key = _key(sensor, tags, metric, same)
        return () if key is None else self._ids[same].get(key, ())


def _ids_by_key(series: Iterable[CompanionSeries], same: tuple[str, ...]) -> dict[tuple[str, ...], list[SeriesId]]:
    ids: dict[tuple[str, ...], list[SeriesId]] = {}
    for each in sorted(series, key=lambda one: one.id):
        if (key := _key(each.sensor, each.tags, each.metric, same)) is not None:
            ids.setdefault(key, []).append(each.id)
    return ids


def _key(sensor: str, tags: Mapping[str, str], metric: str, same: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what companions have in common; None for a sensor that lacks one of the tags."""
    if not same:
        return metric, sensor
    return (metric, *(tags[tag] for tag in same)) if all(tag in tags for tag in same) else None
