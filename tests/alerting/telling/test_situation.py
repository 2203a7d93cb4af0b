"""The methods of Situation: groups, channels, silences, inhibition, catching up."""

from typing import Any

import pytest

from app.alerting.rules.model import Inhibition, LateData, NoData, Override, Rule, Selector, Terms
from app.alerting.rules.mutes import MuteWindow
from app.alerting.telling.untold import Silence
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from tests.alerting.situations import (
    NOON_US,
    ended,
    episode,
    gateway_offline,
    level,
    no_data_alert,
    no_data_mark,
    retracted,
    rule,
    situation,
)


@pytest.mark.parametrize(
    ("matchers", "covers"),
    [
        ({"rule": "warm"}, True),
        ({"rule": "w*"}, True),
        ({"rule": "arm"}, False),
        ({"sensor": "freezer-?"}, True),
        ({"sensor": "freezer-??"}, False),
        ({"sensor": "FREEZER-1"}, False),
        ({"metric": "temperature"}, True),
        ({"gateway": "gw"}, True),
        ({"gateway": "other"}, False),
        ({"level": "warning"}, True),
        ({"level": "critical"}, False),
        ({"tags": {"site": "quay"}}, True),
        ({"tags": {"site": "q*"}}, True),
        ({"tags": {"site": "quay", "room": "cold"}}, False),
        ({"tags": {"room": "*"}}, True),
        ({"rule": "warm", "sensor": "freezer-2"}, False),
        ({"rule": "warm", "sensor": "freezer-1", "tags": {"site": "quay"}}, True),
    ],
)
def test_silence_covers_an_episode_when_every_matcher_fits(matchers: dict[str, Any], covers: bool) -> None:
    assert Silence(1, matchers).covers(episode()) is covers


def test_silence_matches_brackets_literally() -> None:
    assert Silence(1, {"sensor": "rack[1]"}).covers(episode(sensor="rack[1]"))
    assert not Silence(1, {"sensor": "rack[1]"}).covers(episode(sensor="rack1"))


@pytest.mark.parametrize(
    ("matchers", "covers"),
    [({"rule": "gateway-offline"}, True), ({"gateway": "gw"}, True), ({"sensor": "freezer-1"}, False)],
)
def test_silence_covers_an_offline_gateway_when_it_names_it(matchers: dict[str, str], covers: bool) -> None:
    given = situation(gateway_offline(), silences=[matchers])
    assert given.is_silenced_or_muted(given.episodes[0]) is covers


@pytest.mark.parametrize(
    ("group_by", "key"),
    [
        (("site",), '["warm",["quay"]]'),
        ((), '["warm",[]]'),
        (("sensor", "metric", "gateway"), '["warm",["freezer-1","temperature","gw"]]'),
        (("site", "room"), '["warm",["quay",""]]'),
    ],
)
def test_group_is_the_rule_and_the_values_it_groups_by(group_by: tuple[str, ...], key: str) -> None:
    assert situation(rules=[rule(group_by=group_by)]).group_key(episode()) == key


def test_group_of_an_offline_gateway_is_that_of_the_first_rule_that_it_stands_for() -> None:
    assert situation(rules=[rule(no_data=NoData())]).group_key(gateway_offline()) == '["gateway-offline",["quay"]]'
    by_sensor = rule(no_data=NoData(), group_by=("sensor", "gateway"))
    assert situation(rules=[by_sensor]).group_key(gateway_offline()) == '["gateway-offline",["gw"]]'
    assert situation().group_key(gateway_offline()) == '["gateway-offline",[]]'


def test_missing_data_alert_and_episode_share_a_group() -> None:
    assert list(situation(episode(), no_data_alert(2)).groups) == ['["warm",["quay"]]']


def test_channels_are_those_of_the_level_that_are_configured() -> None:
    named = rule(notify=("ops", "lost"), levels=(level("warning"), level("critical", notify=("duty", "ops"))))
    given = situation(rules=[named])
    assert given.channels(episode()) == ("ops",)
    assert given.channels(episode(level="critical")) == ("duty", "ops")


def test_channels_are_those_of_the_override_that_fits() -> None:
    base = rule()
    own = Terms(levels=base.terms.levels, notify=("duty",))
    overridden = Rule(base.name, base.sensors, base.terms, (Override(Selector(id="freezer-2"), own),))
    given = situation(rules=[overridden])
    assert given.channels(episode()) == ("ops",)
    assert given.channels(episode(2)) == ("duty",)


def test_channels_are_empty_when_the_rule_is_removed_or_does_not_select_the_series() -> None:
    assert situation(rules=[]).channels(episode()) == ()
    assert situation(rules=[rule(sensors=Selector(metric="humidity"))]).channels(episode()) == ()


def rules_with_inhibition(*same: str) -> list[Rule]:
    return [rule(inhibited_by=(Inhibition("fire", same),)), rule("fire")]


@pytest.mark.parametrize(
    ("same", "source", "inhibits"),
    [
        (("site",), {}, True),
        (("site",), {"tags": {"site": "pier"}}, False),
        (("site", "gateway"), {}, True),
        (("site", "gateway"), {"gateway": "other"}, False),
        (("room",), {}, False),
        (("sensor",), {}, False),
        (("sensor",), {"sensor": "freezer-1"}, True),
        ((), {"tags": {"site": "pier"}}, True),
    ],
)
def test_rule_inhibits_when_it_fires_and_all_labels_of_same_are_equal(
    same: tuple[str, ...], source: dict[str, Any], inhibits: bool
) -> None:
    target = episode()
    given = situation(target, episode(2, rule="fire", **source), rules=rules_with_inhibition(*same))
    assert given.is_inhibited(target) is inhibits


def test_rule_inhibits_nothing_when_its_episode_is_ended_retracted_or_only_a_no_data_mark() -> None:
    target = episode()
    for source in (ended(2, rule="fire"), retracted(2, rule="fire"), no_data_mark(2, series=2, rule="fire")):
        assert not situation(target, source, rules=rules_with_inhibition("site")).is_inhibited(target)


def test_offline_gateway_inhibits_alerts_of_its_own_series_only() -> None:
    rules = [rule(inhibited_by=(Inhibition("gateway-offline", ("gateway",)),), no_data=NoData())]
    own, other = episode(), episode(2, gateway="other")
    given = situation(own, other, gateway_offline(3), rules=rules)
    assert (given.is_inhibited(own), given.is_inhibited(other)) == (True, False)


@pytest.mark.parametrize(("window", "muted"), [(MuteWindow(), True), (MuteWindow(days=("sun",)), False)])
def test_episode_is_muted_when_the_window_covers_now(window: MuteWindow, muted: bool) -> None:
    assert situation(rules=[rule(mute=(window,))]).is_silenced_or_muted(episode()) is muted


@pytest.mark.parametrize(
    ("newest_minutes_ago", "received_s_ago", "known_s_ago", "expected"),
    [
        (15, 1, 1, False),  # exactly at the live limit
        (15.1, 1, 1, True),
        (600, 59, 59, True),
        (600, 60, 60, False),  # a minute after its last upload
        (600, 1, 599, True),
        (600, 1, 600, False),  # ten minutes after it became known
    ],
)
def test_series_catches_up_until_a_minute_after_its_last_upload_when_its_newest_reading_is_old(
    newest_minutes_ago: float, received_s_ago: float, known_s_ago: float, expected: bool
) -> None:
    late = episode(
        last_us=NOON_US - round(newest_minutes_ago * MINUTE_US),
        received_us=NOON_US - round(received_s_ago * SECOND_US),
        first_known_us=NOON_US - round(known_s_ago * SECOND_US),
    )
    assert situation(late).is_catching_up(late) is expected


def test_series_catches_up_by_the_live_limit_of_its_rule() -> None:
    late = episode(last_us=NOON_US - 20 * MINUTE_US)
    assert situation(late).is_catching_up(episode(last_us=NOON_US - 20 * MINUTE_US, first_known_us=NOON_US))
    lenient = [rule(late_data=LateData(live_us=HOUR_US))]
    assert not situation(late, rules=lenient).is_catching_up(late)


def test_missing_data_do_not_catch_up_while_they_are_missing() -> None:
    alert = no_data_alert(last_us=NOON_US - HOUR_US, received_us=NOON_US)
    assert not situation(alert).is_catching_up(alert)


def test_label_is_a_field_of_the_series_or_else_a_tag() -> None:
    labelled = episode(tags={"site": "quay", "sensor": "no"})
    assert [labelled.label(name) for name in ("sensor", "metric", "gateway", "site", "room")] == [
        "freezer-1",
        "temperature",
        "gw",
        "quay",
        "",
    ]
