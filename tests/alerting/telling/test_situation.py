"""What is asked of a situation: groups, silences, inhibition, catching up."""

from typing import Any

import pytest

from app.alerting.rules.model import Inhibition, LateData, NoData, Override, Rule, Selector, Terms
from app.alerting.rules.mutes import MuteWindow
from app.alerting.telling.situation import Silence
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from tests.alerting.told import NOON_US, cleared, episode, gone, lacking_data, level, offline, over, rule, situation


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


def test_silence_takes_brackets_for_themselves() -> None:
    assert Silence(1, {"sensor": "rack[1]"}).covers(episode(sensor="rack[1]"))
    assert not Silence(1, {"sensor": "rack[1]"}).covers(episode(sensor="rack1"))


@pytest.mark.parametrize(
    ("matchers", "covers"),
    [({"rule": "gateway-offline"}, True), ({"gateway": "gw"}, True), ({"sensor": "freezer-1"}, False)],
)
def test_silence_covers_an_offline_gateway_when_it_names_it(matchers: dict[str, str], covers: bool) -> None:
    at_hand = situation(offline(), silences=[matchers])
    assert at_hand.is_hushed(at_hand.episodes[0]) is covers


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


def test_group_of_an_offline_gateway_is_the_gateway() -> None:
    assert situation().group_key(offline()) == '["gateway-offline",["gw"]]'


def test_missing_data_and_episode_share_a_group() -> None:
    assert list(situation(episode(), lacking_data(2)).groups) == ['["warm",["quay"]]']


def test_channels_are_those_configured_among_those_that_the_level_names() -> None:
    named = rule(notify=("ops", "lost"), levels=(level("warning"), level("critical", notify=("duty", "ops"))))
    at_hand = situation(rules=[named])
    assert at_hand.channels(episode()) == ("ops",)
    assert at_hand.channels(episode(level="critical")) == ("duty", "ops")


def test_channels_are_those_of_the_override_that_fits() -> None:
    base = rule()
    own = Terms(levels=base.terms.levels, notify=("duty",))
    overridden = Rule(base.name, base.sensors, base.terms, (Override(Selector(id="freezer-2"), own),))
    at_hand = situation(rules=[overridden])
    assert at_hand.channels(episode()) == ("ops",)
    assert at_hand.channels(episode(2)) == ("duty",)


def test_nobody_is_to_be_told_when_the_rule_is_gone_or_does_not_select_the_series() -> None:
    assert situation(rules=[]).channels(episode()) == ()
    assert situation(rules=[rule(sensors=Selector(metric="humidity"))]).channels(episode()) == ()


def inhibiting(*same: str) -> list[Rule]:
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
def test_rule_inhibits_when_it_fires_where_all_of_same_agree(
    same: tuple[str, ...], source: dict[str, Any], inhibits: bool
) -> None:
    target = episode()
    at_hand = situation(target, episode(2, rule="fire", **source), rules=inhibiting(*same))
    assert at_hand.is_inhibited(target) is inhibits


def test_rule_inhibits_nothing_when_its_episode_is_over_or_gone_or_only_marks_a_silence() -> None:
    target = episode()
    for source in (over(2, rule="fire"), gone(2, rule="fire"), cleared(2, series=2, rule="fire")):
        assert not situation(target, source, rules=inhibiting("site")).is_inhibited(target)


def test_offline_gateway_inhibits_what_came_through_it() -> None:
    inhibited = [rule(inhibited_by=(Inhibition("gateway-offline", ("gateway",)),), no_data=NoData())]
    mine, other = episode(), episode(2, gateway="other")
    at_hand = situation(mine, other, offline(3), rules=inhibited)
    assert (at_hand.is_inhibited(mine), at_hand.is_inhibited(other)) == (True, False)


@pytest.mark.parametrize(("window", "muted"), [(MuteWindow(), True), (MuteWindow(days=("sun",)), False)])
def test_mute_hushes_when_its_window_is_now(window: MuteWindow, muted: bool) -> None:
    assert situation(rules=[rule(mute=(window,))]).is_hushed(episode()) is muted


def catching_up(newest_minutes_ago: float, received_s_ago: float, known_s_ago: float, **facts: Any) -> bool:
    late = episode(
        last_us=NOON_US - round(newest_minutes_ago * MINUTE_US),
        received_us=NOON_US - round(received_s_ago * SECOND_US),
        first_known_us=NOON_US - round(known_s_ago * SECOND_US),
        **facts,
    )
    return situation(late).is_catching_up(late)


@pytest.mark.parametrize(
    ("newest_minutes_ago", "received_s_ago", "known_s_ago", "expected"),
    [
        (15, 1, 1, False),  # as live as it must be
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
    assert catching_up(newest_minutes_ago, received_s_ago, known_s_ago) is expected


def test_series_catches_up_when_its_rule_says_what_is_live() -> None:
    late = episode(last_us=NOON_US - 20 * MINUTE_US)
    assert situation(late).is_catching_up(episode(last_us=NOON_US - 20 * MINUTE_US, first_known_us=NOON_US))
    lenient = [rule(late_data=LateData(live_us=HOUR_US))]
    assert not situation(late, rules=lenient).is_catching_up(late)


def test_missing_data_do_not_catch_up_while_they_are_missing() -> None:
    silent = lacking_data(last_us=NOON_US - HOUR_US, received_us=NOON_US)
    assert not situation(silent).is_catching_up(silent)


def test_label_is_one_of_the_series_or_a_tag() -> None:
    labelled = episode(tags={"site": "quay", "sensor": "no"})
    assert [labelled.label(name) for name in ("sensor", "metric", "gateway", "site", "room")] == [
        "freezer-1",
        "temperature",
        "gw",
        "quay",
        "",
    ]
