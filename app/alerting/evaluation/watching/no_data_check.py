"""The check for silent series and gateways at one moment, without a database."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from app.alerting.conditions import limit_lines
from app.alerting.episodes.reasons import NO_DATA, NO_DATA_CLEAR
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.rules.model import GATEWAY_OFFLINE, NoData, Rule
from app.clock import MINUTE_US, SECOND_US
from app.durations import format_duration
from app.model import Tags

#: The shortest `after` that is derived from upload intervals, also used if no interval is known.
SHORTEST_AFTER_US = 5 * MINUTE_US
_OFFLINE_LEVEL = "error"
#: (rule, series id, gateway) of an alert of missing data. One of series id and gateway is None.
Key = tuple[str, int | None, str | None]
#: Rule, level, `above`, `below` or `at`, and the number.
LimitLine = tuple[str, str, str, float]


class WatchedSeries(msgspec.Struct, frozen=True):
    """A series with at least one reading; times in microseconds since 1970."""

    id: int
    sensor: str
    metric: str
    tags: Tags
    gateway: str | None
    #: The gateway, or else the API key whose upload created the sensor.
    uploader: str
    expected_s: float | None
    received_us: int
    #: As stored by the last check that changed them.
    silent_after_us: int | None = None
    limits: list[Any] = []
    rule_unit: str | None = None

    def is_stored(self, after_us: int, limits: Sequence[LimitLine], rule_unit: str | None, tolerance_us: float) -> bool:
        """Return whether these values are stored; the time may differ by `tolerance_us`."""
        if rule_unit != self.rule_unit:
            return False
        if self.silent_after_us is None or abs(after_us - self.silent_after_us) > tolerance_us:
            return False
        return [(*words, float(number)) for *words, number in self.limits] == list(limits)


class SilentSource(msgspec.Struct, frozen=True):
    """A series or a gateway that is silent by a rule."""

    rule: str
    series_id: int | None
    gateway: str | None
    since_us: int
    level: str
    reason: str
    unit: str | None = None

    @property
    def key(self) -> Key:
        """The key of the alert."""
        return self.rule, self.series_id, self.gateway


def default_after_us(series: WatchedSeries, upload_interval_s: float | None) -> int:
    """Return the `after` of a rule that gives none: three usual intervals, at least SHORTEST_AFTER_US."""
    return max(round(3 * _usual_interval_s(series, upload_interval_s) * SECOND_US), SHORTEST_AFTER_US)


class NoDataCheck:
    """A check of all series at one moment.

    `open_keys` holds the keys of open alerts. Such an alert goes on until new data come, also after a break of ingest.
    `back_us` maps gateways that were offline to the time when they came back; their series are silent at the earliest
    `after` later than that.
    """

    def __init__(
        self,
        book: RuleBook,
        upload_intervals_s: Mapping[str, float],
        ingest_since_us: int,
        at_us: int,
        open_keys: Collection[Key] = (),
        back_us: Mapping[str, int] | None = None,
    ) -> None:
        self._book = book
        self._upload_intervals_s = upload_intervals_s
        self._ingest_since_us = ingest_since_us
        self._at_us = at_us
        self._open_keys = open_keys
        self._back_us = back_us or {}
        #: Silent series, each with its gateway.
        self._silent: list[tuple[SilentSource, str | None]] = []
        self._alive_gateways: set[str] = set()
        #: Gateway -> receive time of the newest reading of its series: those that some rule alerts on, or all of a
        #: gateway with a rule of its own.
        self._gateways: dict[str, int] = {}
        #: The rules of the kind `gateway_offline`, by the gateways seen.
        self._own_rules: dict[str, Rule | None] = {}
        #: Keys of all series and gateways that some rule checks, silent or not.
        self.watched: set[Key] = set()
        self.warnings: dict[str, str] = {}
        #: How long each series may be silent, and its limits and unit by the rules, where these differ from the stored.
        self.changed: dict[int, tuple[int, list[LimitLine], str | None]] = {}

    def add(self, series: WatchedSeries) -> None:
        """Check one series by every rule that selects it."""
        interval_s = self._upload_intervals_s.get(series.uploader)
        default_us = default_after_us(series, interval_s)
        shortest_us = None
        limits: list[LimitLine] = []
        rule_unit: str | None = None
        for match in self._book.matches(series.sensor, series.metric, series.tags, series.gateway):
            if not match.series_rule.value.needs_half_window:  # these are not values of the series
                limits += _limits(match)
                rule_unit = rule_unit or match.terms.unit
            if series.expected_s and (misfit := spacing_misfit(match, round(series.expected_s * SECOND_US))):
                self._add_warning(match.rule.name, f"readings of {series.sensor} come every {misfit}")
            no_data = match.terms.no_data
            if no_data is None or no_data.then == "keep":
                continue
            after_us = default_us if no_data.after_us is None else no_data.after_us
            shortest_us = after_us if shortest_us is None else min(after_us, shortest_us)
            self._check(series, match, no_data, after_us)
            if after_us < 2 * _usual_interval_s(series, interval_s) * SECOND_US:
                self._warn(series, match, after_us, interval_s)
        after_us = default_us if shortest_us is None else shortest_us
        self._check_gateway(series, after_us)
        # Usual intervals shift with each upload. Writing every shift would rewrite all series again and again.
        tolerance_us = after_us / 20 if after_us == default_us else 0
        if not series.is_stored(after_us, limits, rule_unit, tolerance_us):
            self.changed[series.id] = (after_us, limits, rule_unit)

    def silent(self) -> list[SilentSource]:
        """Return all silent series and gateways. An offline gateway replaces its series that have no open alert yet."""
        offline = {gateway: since for gateway, since in self._gateways.items() if gateway not in self._alive_gateways}
        kept = [
            each
            for each, gateway in self._silent
            if gateway not in offline or each.reason == NO_DATA_CLEAR or each.key in self._open_keys
        ]
        gateways = [
            SilentSource(self._rule_name(gateway), None, gateway, since_us, self._level(gateway), NO_DATA)
            for gateway, since_us in offline.items()
        ]
        return kept + gateways

    def gateways(self) -> dict[str, int | None]:
        """Return how long each gateway seen may be silent by a rule of its own, in microseconds; None without one."""
        return {
            gateway: None if rule is None or rule.offline is None else rule.offline.after_us
            for gateway, rule in self._own_rules.items()
        }

    def _own_rule(self, gateway: str) -> Rule | None:
        """Return the rule that a rule file declares for a gateway; None: the built-in one covers it."""
        if gateway not in self._own_rules:
            self._own_rules[gateway] = self._book.offline_rule(gateway)
        return self._own_rules[gateway]

    def _rule_name(self, gateway: str) -> str:
        rule = self._own_rule(gateway)
        return GATEWAY_OFFLINE if rule is None else rule.name

    def _level(self, gateway: str) -> str:
        rule = self._own_rule(gateway)
        return _OFFLINE_LEVEL if rule is None or rule.offline is None else rule.offline.level

    def _check(self, series: WatchedSeries, match: Match, no_data: NoData, after_us: int) -> None:
        source = _silent_source(series, match, no_data)
        self.watched.add(source.key)
        if no_data.then == "alert" and series.gateway is not None:
            self._watch_gateway(series, series.gateway)
        if self._silence_us(series, source.key) > after_us:
            self._silent.append((source, series.gateway))

    def _watch_gateway(self, series: WatchedSeries, gateway: str) -> None:
        self._gateways[gateway] = max(self._gateways.get(gateway, series.received_us), series.received_us)
        self.watched.add((self._rule_name(gateway), None, gateway))

    def _check_gateway(self, series: WatchedSeries, after_us: int) -> None:
        """Mark the gateway as alive if this series is not silent. The series need not be selected by any rule."""
        if series.gateway is None:
            return
        rule = self._own_rule(series.gateway)
        if rule is not None and rule.offline is not None:
            self._watch_gateway(series, series.gateway)
            after_us = rule.offline.after_us or after_us
        if self._silence_us(series, (self._rule_name(series.gateway), None, series.gateway)) <= after_us:
            self._alive_gateways.add(series.gateway)

    def _silence_us(self, series: WatchedSeries, key: Key) -> int:
        if key in self._open_keys:
            return self._at_us - series.received_us
        back_us = self._back_us.get(series.gateway or "", 0)
        return self._at_us - max(series.received_us, self._ingest_since_us, back_us)

    def _warn(self, series: WatchedSeries, match: Match, after_us: int, interval_s: float | None) -> None:
        usual = format_duration(round(_usual_interval_s(series, interval_s)) * SECOND_US)
        self._add_warning(
            match.rule.name,
            f"no_data after {format_duration(after_us)} is under twice the {usual} between uploads of "
            f"{series.uploader}: it will fire between them",
        )

    def _add_warning(self, rule: str, text: str) -> None:
        """Add a warning of a rule, unless it has one of the same kind for another series."""
        before = self.warnings.get(rule, "")
        if text.split()[0] not in before:
            self.warnings[rule] = f"{before}; {text}" if before else text


def spacing_misfit(match: Match, spacing_us: int) -> str | None:
    """Return why a rule fits badly to readings at this distance, after `come every `; None if it fits."""
    rule, spacing = match.series_rule, format_duration(spacing_us)
    longest_us = max(level.for_us for level in rule.levels)
    if longest_us and rule.max_gap_us is not None and rule.max_gap_us < spacing_us:
        return f"{spacing}, and max_gap is {format_duration(rule.max_gap_us)}: a level with for: can never fire"
    shortest_us = min((level.for_us for level in rule.levels if level.for_us), default=spacing_us)
    if not rule.holds and spacing_us > 2 * shortest_us:
        return (
            f"{spacing}, so for: {format_duration(shortest_us)} is reached only when the next one comes; "
            "holds: true with a max_gap counts a value until then"
        )
    return None


def _limits(match: Match) -> list[LimitLine]:
    """Return the limits that a rule sets for a series, as they are stored: rule, level, side, number."""
    return [
        (match.rule.name, level.name, side, number)
        for level in match.terms.levels
        for side, number in limit_lines(level.condition)
    ]


def _usual_interval_s(series: WatchedSeries, upload_interval_s: float | None) -> float:
    return max(series.expected_s or 0.0, upload_interval_s or 0.0)


def _silent_source(series: WatchedSeries, match: Match, no_data: NoData) -> SilentSource:
    reason = NO_DATA if no_data.then == "alert" else NO_DATA_CLEAR
    return SilentSource(
        match.rule.name, series.id, None, series.received_us, match.terms.levels[0].name, reason, match.terms.unit
    )
