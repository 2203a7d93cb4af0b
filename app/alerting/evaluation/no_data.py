"""The watch over silence: the one thing in alerting that goes by the wall clock, and never part of an episode.

A series is silent when its last new reading came longer ago than it should, counted from the moment since which
ingest has run without a break: our own downtime is nobody's silence.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from app.alerting.conditions import limit_lines
from app.alerting.episodes.reasons import NO_DATA, NO_DATA_CLEAR, UNWATCHED
from app.alerting.evaluation.alert_feed import AlertFrame, end_alerts, publish
from app.alerting.evaluation.sql import SQL
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.rules.model import GATEWAY_OFFLINE, NoData
from app.clock import MINUTE_US, SECOND_US, from_us, now_us
from app.db.locks import lock_evaluation
from app.db.pool import Connection
from app.durations import format_duration
from app.model import SeriesId, Tags

#: A series with no known interval is silent after this long, and no other any sooner.
SHORTEST_AFTER_US = 5 * MINUTE_US
_OFFLINE_LEVEL = "error"
#: Rule, series, gateway: what a silence is known by while it lasts.
Key = tuple[str, int | None, str | None]


class Watched(msgspec.Struct, frozen=True):
    """A series that was seen; times in microseconds since 1970."""

    id: int
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    #: The gateway or, where it does not name itself, the API key that brought the sensor.
    uploader: str
    expected_s: float | None
    received_us: int
    #: As stored when the series was last looked at.
    silent_after_us: int | None = None
    limits: list[Any] = []


class Silent(msgspec.Struct, frozen=True):
    """A series or, without one, a gateway that has fallen silent."""

    rule: str
    series_id: int | None
    gateway: str | None
    since_us: int
    level: str
    reason: str

    @property
    def key(self) -> Key:
        """What it is known by while it lasts."""
        return self.rule, self.series_id, self.gateway


class Found(msgspec.Struct, frozen=True):
    """What came of one look at all series."""

    #: Alerts of missing data, and marks of cleared ones, that began or ended.
    changes: int
    #: By rule, why its `after` will alarm between uploads.
    warnings: dict[str, str]


def usual_after_us(watched: Watched, upload_interval_s: float | None) -> int:
    """Give how long a series may be silent when its rule does not say: three times its usual interval."""
    return max(round(3 * _usual_s(watched, upload_interval_s) * SECOND_US), SHORTEST_AFTER_US)


class Watch:
    """Looks at all series at one moment.

    `already` are the silences that are known: they go on until something new comes, whatever happened to ingest.
    `back_us` says when gateways that had been offline came back: their series have as long as ever from then on.
    """

    def __init__(
        self,
        book: RuleBook,
        upload_intervals_s: Mapping[str, float],
        ingest_since_us: int,
        at_us: int,
        already: Collection[Key] = (),
        back_us: Mapping[str, int] | None = None,
    ) -> None:
        self._book = book
        self._upload_intervals_s = upload_intervals_s
        self._ingest_since_us = ingest_since_us
        self._at_us = at_us
        self._already = already
        self._back_us = back_us or {}
        #: Silent series, each with its gateway.
        self._silent: list[tuple[Silent, str | None]] = []
        self._alive: set[str] = set()
        #: Gateways with series whose silence some rule would tell, and when the last reading of those came.
        self._gateways: dict[str, int] = {}
        #: What some rule watches, silent or not.
        self.watched: set[Key] = set()
        self.warnings: dict[str, str] = {}
        #: How long each series may be silent and its limits, where they differ from what is stored.
        self.changed: dict[int, tuple[int, list[Any]]] = {}

    def look(self, series: Watched) -> None:
        """Judge one series under every rule that watches it."""
        interval_s = self._upload_intervals_s.get(series.uploader)
        usual_us = usual_after_us(series, interval_s)
        shortest_us = None
        limits: list[Any] = []
        for match in self._book.matches(series.sensor, series.metric, series.tags, series.gateway):
            limits += _limits(match)
            no_data = match.terms.no_data
            if no_data is None or no_data.then == "keep":
                continue
            after_us = usual_us if no_data.after_us is None else no_data.after_us
            shortest_us = after_us if shortest_us is None else min(after_us, shortest_us)
            self._judge(series, match, no_data, after_us)
            if after_us < 2 * _usual_s(series, interval_s) * SECOND_US:
                self._warn(series, match, after_us, interval_s)
        after_us = usual_us if shortest_us is None else shortest_us
        self._note_gateway(series, after_us)
        if (after_us, limits) != (series.silent_after_us, series.limits):
            self.changed[series.id] = (after_us, limits)

    def silent(self) -> list[Silent]:
        """Give all that is silent; an offline gateway stands in place of its series that are not known yet."""
        offline = {gateway: since for gateway, since in self._gateways.items() if gateway not in self._alive}
        kept = [
            each
            for each, gateway in self._silent
            if gateway not in offline or each.reason == NO_DATA_CLEAR or each.key in self._already
        ]
        gateways = [
            Silent(GATEWAY_OFFLINE, None, gateway, since_us, _OFFLINE_LEVEL, NO_DATA)
            for gateway, since_us in offline.items()
        ]
        return kept + gateways

    def _judge(self, series: Watched, match: Match, no_data: NoData, after_us: int) -> None:
        silent = _silent(series, match, no_data)
        self.watched.add(silent.key)
        if no_data.then == "alert" and series.gateway is not None:
            last = max(self._gateways.get(series.gateway, series.received_us), series.received_us)
            self._gateways[series.gateway] = last
            self.watched.add((GATEWAY_OFFLINE, None, series.gateway))
        if self._quiet_us(series, silent.key) > after_us:
            self._silent.append((silent, series.gateway))

    def _note_gateway(self, series: Watched, after_us: int) -> None:
        """A gateway is alive while any series that came through it is, watched or not."""
        if series.gateway is not None:
            quiet_us = self._quiet_us(series, (GATEWAY_OFFLINE, None, series.gateway))
            if quiet_us <= after_us:
                self._alive.add(series.gateway)

    def _quiet_us(self, series: Watched, key: Key) -> int:
        if key in self._already:
            return self._at_us - series.received_us
        back_us = self._back_us.get(series.gateway or "", 0)
        return self._at_us - max(series.received_us, self._ingest_since_us, back_us)

    def _warn(self, series: Watched, match: Match, after_us: int, interval_s: float | None) -> None:
        usual = format_duration(round(_usual_s(series, interval_s)) * SECOND_US)
        self.warnings[match.rule.name] = (
            f"no_data after {format_duration(after_us)} is under twice the {usual} between uploads of "
            f"{series.uploader}: it will alarm between them"
        )


async def watch_silence(connection: Connection, book: RuleBook, ingest_since_us: int) -> Found:
    """Open and end alerts of missing data in the caller's transaction."""
    await lock_evaluation(connection)
    series = [Watched(**row) for row in await connection.fetch(SQL["list_watched"])]
    intervals_s = {row["name"]: row["median_s"] for row in await connection.fetch(SQL["list_upload_intervals"])}
    back_us = {row["gateway"]: row["us"] for row in await connection.fetch(SQL["list_gateways_back"])}
    known = {
        (row["rule"], row["series_id"], row["gateway"]): row["id"]
        for row in await connection.fetch(SQL["list_open_silences_of_data"])
    }
    watch = Watch(book, intervals_s, ingest_since_us, now_us(), known, back_us)
    for each in series:
        watch.look(each)
    await _write_changed(connection, watch, ingest_since_us)
    silent = watch.silent()
    begun = [each for each in silent if each.key not in known]
    by_id = {each.id: each for each in series}
    for each_silent in begun:
        await _open(connection, each_silent, by_id.get(each_silent.series_id or 0))
    over = known.keys() - {each.key for each in silent}
    await end_alerts(connection, {known[key]: None if key in watch.watched else UNWATCHED for key in over})
    await _count_changes(connection, [each.key for each in begun if each.reason == NO_DATA_CLEAR], over)
    return Found(len(begun) + len(over), watch.warnings)


async def end_silences(connection: Connection, series_ids: Sequence[SeriesId]) -> int:
    """End alerts of missing data of series that something new came of, in the caller's transaction; return how many.

    It is the transaction that evaluates what came, so that one message tells both.
    """
    rows = await connection.fetch(SQL["list_broken_silences"], series_ids)
    await end_alerts(connection, {row["id"]: None for row in rows})
    await _count_changes(connection, [], [(row["rule"], row["series_id"], None) for row in rows])
    return len(rows)


async def _count_changes(connection: Connection, cleared: Sequence[Key], over: Collection[Key]) -> None:
    """Count a change of episodes that people take for over, or no more, for lack of data."""
    keys = [key for key in (*cleared, *over) if key[1] is not None]
    if keys:
        await connection.execute(
            SQL["count_change_of_open"], [rule for rule, _, _ in keys], [series_id for _, series_id, _ in keys]
        )


async def _open(connection: Connection, silent: Silent, watched: Watched | None) -> None:
    episode_id = await connection.fetchval(
        SQL["insert_no_data"],
        silent.rule,
        silent.series_id,
        silent.gateway,
        silent.since_us,
        silent.level,
        silent.reason,
    )
    if episode_id is None or silent.reason == NO_DATA_CLEAR:
        return
    frame = AlertFrame(
        transition="firing",
        id=episode_id,
        rule=silent.rule,
        sensor=watched.sensor if watched else None,
        metric=watched.metric if watched else None,
        gateway=watched.gateway if watched else silent.gateway,
        level=silent.level,
        started_at=from_us(silent.since_us),
        reason=silent.reason,
    )
    await publish(connection, [frame])


async def _write_changed(connection: Connection, watch: Watch, ingest_since_us: int) -> None:
    """Store what the views judge silence by, and the limits of each series, where they have changed."""
    await connection.execute(SQL["update_ingest_state"], ingest_since_us)
    if watch.changed:
        ids = list(watch.changed)
        after_us, limits = zip(*watch.changed.values(), strict=True)
        encoded = [msgspec.json.encode(each).decode() for each in limits]
        await connection.execute(SQL["update_series_watch"], ids, after_us, encoded)


def _limits(match: Match) -> list[Any]:
    """Return the limits that a rule sets for a series, as they are stored: rule, level, side, number."""
    return [
        [match.rule.name, level.name, side, number]
        for level in match.terms.levels
        for side, number in limit_lines(level.condition)
    ]


def _usual_s(watched: Watched, upload_interval_s: float | None) -> float:
    return max(watched.expected_s or 0.0, upload_interval_s or 0.0)


def _silent(watched: Watched, match: Match, no_data: NoData) -> Silent:
    reason = NO_DATA if no_data.then == "alert" else NO_DATA_CLEAR
    return Silent(match.rule.name, watched.id, None, watched.received_us, match.terms.levels[0].name, reason)
