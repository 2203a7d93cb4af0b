"""The watch over silence: the one thing in alerting that goes by the wall clock, and never part of an episode.

A series is silent when its last new reading came longer ago than it should, counted from the moment since which
ingest has run without a break: our own downtime is nobody's silence.
"""

from collections.abc import Collection, Mapping

import msgspec

from app.alerting.alert_feed import AlertFrame, end_alerts, publish
from app.alerting.evaluator import SQL
from app.alerting.matching import Match, RuleBook
from app.alerting.rules import GATEWAY_OFFLINE, NoData
from app.alerting.situation import CLEARED
from app.clock import MINUTE_US, SECOND_US, from_us, now_us
from app.db.pool import Connection
from app.model import Tags

#: A series with no known interval is silent after this long, and no other any sooner.
SHORTEST_AFTER_US = 5 * MINUTE_US
NO_DATA = "no_data"
_OFFLINE_LEVEL = "error"


class Watched(msgspec.Struct, frozen=True):
    """A series that was seen; times in microseconds since 1970."""

    id: int
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    expected_s: float | None
    received_us: int


class Silent(msgspec.Struct, frozen=True):
    """A series or, without one, a gateway that has fallen silent."""

    rule: str
    series_id: int | None
    gateway: str | None
    since_us: int
    level: str
    reason: str

    @property
    def key(self) -> "Key":
        """What it is known by while it lasts."""
        return self.rule, self.series_id, self.gateway


def usual_after_us(watched: Watched, upload_interval_s: float | None) -> int:
    """Give how long a series may be silent when its rule does not say: three times its usual interval."""
    longest_s = max(watched.expected_s or 0.0, upload_interval_s or 0.0)
    return max(round(3 * longest_s * SECOND_US), SHORTEST_AFTER_US)


Key = tuple[str, int | None, str | None]


class Watch:
    """Looks at all series at one moment."""

    def __init__(
        self, book: RuleBook, upload_intervals_s: Mapping[str, float], ingest_since_us: int, at_us: int
    ) -> None:
        self._book = book
        self._upload_intervals_s = upload_intervals_s
        self._ingest_since_us = ingest_since_us
        self._at_us = at_us
        #: Silent series, each with its gateway.
        self._silent: list[tuple[Silent, str | None]] = []
        self._alive: set[str] = set()
        #: Gateways with series that some rule watches, and when the last reading of those came.
        self._watched: dict[str, int] = {}

    def look(self, series: Watched) -> None:
        """Judge one series under every rule that watches it."""
        quiet_us = self._at_us - max(series.received_us, self._ingest_since_us)
        usual_us = usual_after_us(series, self._upload_intervals_s.get(series.gateway or ""))
        if series.gateway is not None and quiet_us <= usual_us:
            self._alive.add(series.gateway)
        for match in self._book.matches(series.sensor, series.metric, series.tags, series.gateway):
            no_data = match.terms.no_data
            if no_data is None or no_data.then == "keep":
                continue
            if series.gateway is not None and no_data.then == "alert":
                last = self._watched.get(series.gateway, series.received_us)
                self._watched[series.gateway] = max(last, series.received_us)
            if quiet_us > (usual_us if no_data.after_us is None else no_data.after_us):
                self._silent.append((_silent(series, match, no_data), series.gateway))

    def silent(self, already: Collection[Key]) -> list[Silent]:
        """Give all that is silent; an offline gateway stands in place of its series that are not known yet."""
        offline = {gateway: since for gateway, since in self._watched.items() if gateway not in self._alive}
        kept = [
            each
            for each, gateway in self._silent
            if gateway not in offline or each.reason == CLEARED or each.key in already
        ]
        gateways = [
            Silent(GATEWAY_OFFLINE, None, gateway, since_us, _OFFLINE_LEVEL, NO_DATA)
            for gateway, since_us in offline.items()
        ]
        return kept + gateways


async def watch_silence(connection: Connection, book: RuleBook, ingest_since_us: int) -> int:
    """Open and end alerts of missing data in the caller's transaction; return how many changed."""
    series = [Watched(**row) for row in await connection.fetch(SQL["list_watched"])]
    rows = await connection.fetch(SQL["list_upload_intervals"])
    intervals = {row["name"]: row["median_s"] for row in rows}
    open_ids = {
        (row["rule"], row["series_id"], row["gateway"]): row["id"]
        for row in await connection.fetch(SQL["list_open_silences_of_data"])
    }
    watch = Watch(book, intervals, ingest_since_us, now_us())
    for watched in series:
        watch.look(watched)
    silent = watch.silent(open_ids)
    for each in silent:
        if each.key not in open_ids:
            await _open(connection, each, {watched.id: watched for watched in series})
    ended = [episode_id for key, episode_id in open_ids.items() if key not in {each.key for each in silent}]
    await end_alerts(connection, dict.fromkeys(ended))
    return len(ended) + sum(each.key not in open_ids for each in silent)


async def _open(connection: Connection, silent: Silent, series: Mapping[int, Watched]) -> None:
    episode_id = await connection.fetchval(
        SQL["insert_no_data"],
        silent.rule,
        silent.series_id,
        silent.gateway,
        silent.since_us,
        silent.level,
        silent.reason,
    )
    if episode_id is None or silent.reason == CLEARED:
        return
    watched = series.get(silent.series_id or 0)
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
    await publish(connection, frame)


def _silent(watched: Watched, match: Match, no_data: NoData) -> Silent:
    reason = NO_DATA if no_data.then == "alert" else CLEARED
    return Silent(match.rule.name, watched.id, None, watched.received_us, match.terms.levels[0].name, reason)
