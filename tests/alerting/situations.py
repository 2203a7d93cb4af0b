"""Builders of rules, episodes and situations for tests of `telling`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.alerting.conditions.above import Above
from app.alerting.episodes.revision import Told
from app.alerting.rules.model import (
    ChannelDefinition,
    Escalation,
    Inhibition,
    LevelRule,
    Rule,
    RuleSet,
    Selector,
    Terms,
)
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import GatewaySeries, Silence, UntoldEpisode
from app.clock import HOUR_US, MINUTE_US, to_us
from app.model import LevelName

#: A Monday.
NOON_US = to_us(datetime(2026, 6, 1, 12, tzinfo=UTC))
THRESHOLDS: dict[LevelName, float] = {"info": 4, "warning": 8, "error": 10, "critical": 12, "disaster": 20}
FIRING = Told("firing", "warning")
RESOLVED = Told("resolved", "warning")
TEMPERATURES = Selector(metric="temperature")


def level(name: LevelName, notify: tuple[str, ...] | None = None) -> LevelRule:
    """Make a level that holds above THRESHOLDS[name]; it notifies the rule's channels unless `notify` is given."""
    return LevelRule(name, Above(THRESHOLDS[name]), notify=notify)


def rule(
    name: str = "warm",
    *,
    levels: Sequence[LevelRule] = (level("warning"), level("error"), level("critical")),
    group_by: tuple[str, ...] = ("site",),
    inhibited_by: tuple[Inhibition, ...] = (),
    remind_every_us: int | None = 4 * HOUR_US,
    sensors: Selector = TEMPERATURES,
    timezone: str | None = None,
    escalate: Escalation | None = None,
    **terms: Any,
) -> Rule:
    """Make a rule that notifies `ops`."""
    all_terms = Terms(**{"levels": tuple(levels), "notify": ("ops",), **terms})
    return Rule(
        name, sensors, all_terms, (), inhibited_by, group_by, remind_every_us, timezone=timezone, escalate=escalate
    )


def episode(number: int = 1, **fields: Any) -> UntoldEpisode:
    """Make an open episode of `warm` that fired an hour ago; `number` sets its id, sensor and series."""
    defaults: dict[str, Any] = {
        "id": number,
        "rule": "warm",
        "series_id": number,
        "gateway": "gw",
        "kind": "threshold",
        "started_us": NOON_US - 70 * MINUTE_US,
        "fired_us": NOON_US - 60 * MINUTE_US,
        "resolved_us": None,
        "level": "warning",
        "steps": [],
        "condition": "above",
        "threshold": 8,
        "fired_value": None,
        "peak": None,
        "reason": None,
        "merged_into": None,
        "first_known_us": NOON_US - 60 * MINUTE_US,
        "acked_by": None,
        "acked_level": None,
        "revision": 1,
        "sensor": f"freezer-{number}",
        "tags": {"site": "quay"},
        "metric": "temperature",
        "unit": None,
        "last_us": NOON_US,
        "last_value": 9.4,
        "received_us": NOON_US,
        "only_imported": False,
        "is_being_sent": False,
    }
    return UntoldEpisode(**{**defaults, **fields})


def ended(number: int = 1, minutes_ago: float = 1, **fields: Any) -> UntoldEpisode:
    """Make an episode that ended some minutes ago."""
    return episode(number, **{"resolved_us": NOON_US - round(minutes_ago * MINUTE_US), **fields})


def retracted(number: int = 1, **fields: Any) -> UntoldEpisode:
    """Make an episode that late readings retracted."""
    return episode(number, **{"reason": "retracted", **fields})


def no_data_alert(number: int = 1, **fields: Any) -> UntoldEpisode:
    """Make an alert of missing data; the last reading came twenty minutes ago."""
    since_us = NOON_US - 20 * MINUTE_US
    no_data = {"kind": "no_data", "reason": "no_data", "started_us": since_us, "received_us": since_us}
    return episode(number, **{**no_data, "fired_us": NOON_US, "first_known_us": NOON_US - MINUTE_US, **fields})


def no_data_mark(number: int, series: int, **fields: Any) -> UntoldEpisode:
    """Make the row that marks a series without data whose rule says `then: clear`."""
    return no_data_alert(
        number, **{"reason": "no_data_clear", "series_id": series, "sensor": f"freezer-{series}", **fields}
    )


def gateway_offline(number: int = 1, **fields: Any) -> UntoldEpisode:
    """Make an alert of the rule gateway-offline."""
    empty = dict.fromkeys(("series_id", "sensor", "metric", "last_us", "last_value", "received_us"))
    return no_data_alert(
        number, **{**empty, "rule": "gateway-offline", "level": "error", "condition": None, "threshold": None, **fields}
    )


def situation(
    *episodes: UntoldEpisode,
    rules: Iterable[Rule] = (rule(),),
    told: Mapping[int, Mapping[str, Told]] | None = None,
    silences: Iterable[Mapping[str, Any]] = (),
    last_sent: Mapping[tuple[str, str], int] | None = None,
    now_us: int = NOON_US,
    channels: Iterable[str] = ("ops", "duty"),
    refs: Mapping[tuple[str, int], str] | None = None,
    last_refused: Mapping[tuple[str, str], int] | None = None,
    sent: Mapping[tuple[str, str], Sequence[int]] | None = None,
    gateway_series: Iterable[GatewaySeries] = (GatewaySeries("gw", "freezer-1", "temperature", {"site": "quay"}),),
) -> Situation:
    """Make a situation; a silence is given as its matchers."""
    return Situation(
        now_us,
        RuleSet(tuple(rules), tuple(ChannelDefinition(name, "webhook") for name in channels)),
        episodes,
        told or {},
        refs or {},
        [Silence(number, matchers) for number, matchers in enumerate(silences)],
        last_sent or {},
        last_refused or {},
        sent=sent or {},
        gateway_series=gateway_series,
    )
