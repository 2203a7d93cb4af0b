"""Whole gateways that are offline: two teams under mutes, rules of their own, and one message for a site."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import NoData, Offline, Route, Rule, Selector, Terms
from app.alerting.rules.mutes import MuteWindow
from app.alerting.telling.decisions import decide, reminders
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import GatewaySeries
from app.clock import DAY_US, HOUR_US, MINUTE_US
from tests.alerting.harness import AlertingHarness
from tests.alerting.situations import NOON_US, gateway_offline, rule, situation

_DAIRY = GatewaySeries("gw", "dairy-1", "temperature", {"site": "dairy"})
_BAKERY = GatewaySeries("gw-b", "bakery-1", "temperature", {"site": "bakery"})
#: Mondays from 11:00 to 13:00; the tests are at noon of one.
_LUNCH = (MuteWindow(days=("mon",), from_us=11 * HOUR_US, to_us=13 * HOUR_US),)
_ALERT = NoData()


def team(site: str, channel: str, **terms: Any) -> Rule:
    """Make a rule of one team, which alerts on missing data of its site."""
    return rule(f"{site}-warm", sensors=Selector(tags={"site": site}), no_data=_ALERT, notify=(channel,), **terms)


def teams(dairy: Rule, bakery: Rule, silences: Sequence[dict[str, object]] = ()) -> Situation:
    """Make a situation in which the gateways of both teams are offline."""
    return situation(
        gateway_offline(1, tags={"site": "dairy"}),
        gateway_offline(2, gateway="gw-b", tags={"site": "bakery"}),
        rules=[dairy, bakery],
        silences=silences,
        gateway_series=[_DAIRY, _BAKERY],
    )


def told(given: Situation) -> list[tuple[int, str]]:
    return [(action.episode.id, action.channel) for action in decide(given).actions if not action.held]


def test_offline_gateway_is_told_to_the_team_whose_series_it_stands_for() -> None:
    assert told(teams(team("dairy", "ops"), team("bakery", "duty"))) == [(1, "ops"), (2, "duty")]


def test_offline_gateway_is_not_told_through_the_mute_of_its_rule() -> None:
    assert told(teams(team("dairy", "ops", mute=_LUNCH), team("bakery", "duty"))) == [(2, "duty")]


def test_offline_gateway_is_not_told_through_a_silence_of_its_rule_or_its_sensors() -> None:
    rules = team("dairy", "ops"), team("bakery", "duty")
    assert told(teams(*rules, silences=[{"rule": "dairy-*"}])) == [(2, "duty")]
    assert told(teams(*rules, silences=[{"tags": {"site": "bakery"}}])) == [(1, "ops")]


def test_offline_gateway_is_told_to_all_of_its_rules_that_are_not_muted() -> None:
    both = [team("dairy", "ops", mute=_LUNCH), rule("all", no_data=_ALERT, notify=("duty",))]
    given = situation(gateway_offline(tags={"site": "dairy"}), rules=both, gateway_series=[_DAIRY])
    assert told(given) == [(1, "duty")]


def test_offline_gateway_follows_routes_by_tag() -> None:
    routed = rule(
        no_data=_ALERT, notify=(), routes=(Route(("ops",), {"site": "dairy"}), Route(("duty",), {"site": "bakery"}))
    )
    given = situation(
        gateway_offline(1),
        gateway_offline(2, gateway="gw-b"),
        rules=[routed],
        gateway_series=[_DAIRY, _BAKERY],
    )
    assert told(given) == [(1, "ops"), (2, "duty")]


def test_rule_for_gateways_has_its_own_channels_and_mutes() -> None:
    declared = Rule("lines", Selector(), Terms((), notify=("duty",)), offline=Offline("dairy-*"))
    offline = gateway_offline(rule="lines", gateway="dairy-1")
    assert told(situation(offline, rules=[declared])) == [(1, "duty")]
    muted = Rule("lines", Selector(), Terms((), notify=("duty",), mute=_LUNCH), offline=Offline("dairy-*"))
    assert told(situation(offline, rules=[muted])) == []


def test_end_of_an_offline_gateway_is_silent_for_the_team_whose_rule_is_muted_then() -> None:
    both = [team("dairy", "ops", mute=_LUNCH), rule("all", no_data=_ALERT, notify=("duty",))]
    firing = Told("firing", "error")
    given = situation(
        gateway_offline(tags={"site": "dairy"}, resolved_us=NOON_US),
        rules=both,
        gateway_series=[_DAIRY],
        told={1: {"ops": firing, "duty": firing}},
    )
    actions = decide(given).actions
    assert [(action.channel, action.kind) for action in actions] == [("duty", "resolved"), ("ops", "resolved")]
    sent = {
        each.channel: write_message(given, each.channel, [each], {}, Addresses(None, None, "UTC")) for each in actions
    }
    assert {channel: message.silent for channel, message in sent.items()} == {"ops": True, "duty": False}


def test_reminder_of_an_offline_gateway_leaves_out_the_team_whose_rule_is_muted() -> None:
    both = [team("dairy", "ops", mute=_LUNCH), rule("all", no_data=_ALERT, notify=("duty",))]
    firing = Told("firing", "error")
    group = '["gateway-offline",["dairy"]]'
    given = situation(
        gateway_offline(tags={"site": "dairy"}),
        rules=both,
        gateway_series=[_DAIRY],
        told={1: {"ops": firing, "duty": firing}},
        last_sent={("ops", group): NOON_US - DAY_US, ("duty", group): NOON_US - DAY_US},
    )
    assert [len(reminders(given, channel, group)) for channel in ("ops", "duty")] == [0, 1]


_TWO_GATEWAYS = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}}
    group_by: [site]
    no_data: {after: 30m}
    notify: [ops]
"""
_LINES = """
  - name: lines
    kind: gateway_offline
    gateways: "dairy-*"
    after: 10m
    level: critical
    notify: [duty]
    group_by: [site]
"""


async def away(harness: AlertingHarness, minutes: float) -> None:
    """Let nothing be uploaded for some minutes."""
    await harness.advance(minutes)
    await harness.check_no_data()
    await harness.advance(1)


async def test_21_offline_gateways_of_one_site_are_one_message(harness: AlertingHarness) -> None:
    await harness.use_rules(_TWO_GATEWAYS)
    for number in range(21):
        await harness.upload(f"s-{number}", (0, 7), gateway=f"gw-{number:02}")
    await harness.tick()
    await away(harness, 31)
    (message,) = harness.messages()
    assert message.startswith("21 offline: gateway-offline · quay [gateway gw-00 gateway gw-01 ")


async def test_gateways_with_a_rule_of_their_own_are_not_covered_by_the_built_in_one(harness: AlertingHarness) -> None:
    await harness.use_rules(_TWO_GATEWAYS + _LINES)
    await harness.upload("a", (0, 7), gateway="dairy-1")
    await harness.upload("b", (0, 7), gateway="bakery-1")
    await harness.tick()
    await away(harness, 11)
    assert harness.messages("duty") == ["1 offline: lines · quay [gateway dairy-1]"]
    assert harness.entries("duty")[0]["level"] == "critical"
    assert harness.messages("ops") == []
    await away(harness, 21)
    assert harness.messages("ops") == ["1 offline: gateway-offline · quay [gateway bakery-1]"]
    await harness.upload("a", (0, 7), gateway="dairy-1")
    await harness.tick()
    await harness.advance(6)
    assert harness.messages("duty")[-1] == "1 with data again: lines · quay [gateway dairy-1]"


@pytest.mark.parametrize(("after", "minutes"), [("10m", [5, 11]), ("1h", [31, 61])])
async def test_gateway_is_offline_in_the_views_from_when_its_own_rule_says_so(
    harness: AlertingHarness, after: str, minutes: list[float]
) -> None:
    await harness.use_rules(_TWO_GATEWAYS + _LINES.replace("after: 10m", f"after: {after}"))
    await harness.upload("a", (0, 7), gateway="dairy-1")
    await harness.pool.execute(
        "INSERT INTO gateway (name, api_key, first_upload_at, last_upload_at) VALUES ('dairy-1', 'k', now(), now())"
    )
    await harness.check_no_data()
    for passed, state in zip(minutes, ("ok", "offline"), strict=True):
        await away(harness, passed)
        assert await harness.pool.fetchval("SELECT state FROM gateway_view") == state
        assert ("lines", "dairy-1", "no_data") in await harness.open_alerts() or state == "ok"
    await harness.use_rules(_TWO_GATEWAYS)
    await harness.check_no_data()
    assert await harness.pool.fetchval("SELECT offline_after IS NULL FROM gateway")


def test_times_of_the_tests_are_a_monday() -> None:
    assert (NOON_US // (24 * 60 * MINUTE_US) + 3) % 7 == 0
