"""Messages decided for each state of alert_told and episode, and the times at which groups are due."""

from typing import Any, Literal

import msgspec
import pytest

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import Inhibition, LateData, NoData, Rule, Selector
from app.alerting.rules.mutes import MuteWindow
from app.alerting.telling.decisions import ActionKind, decide, reminders, schedule
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import UntoldEpisode
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from tests.alerting.situations import (
    FIRING,
    NOON_US,
    RESOLVED,
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

#: The group of the rule `warm` at the site `quay`.
QUAY = '["warm",["quay"]]'
CRITICAL = Told("firing", "critical")
SILENCED = [{"sensor": "freezer-*"}]
MUTED = (MuteWindow(),)


def actions_of(given: Situation) -> list[tuple[int, str, ActionKind, bool]]:
    """Return (episode id, channel, kind, held) of all actions."""
    return [(each.episode.id, each.channel, each.kind, each.held) for each in decide(given).actions]


def seconds_until_due(given: Situation) -> dict[str, float]:
    """Return the seconds until each channel's message is due, for situations with one group."""
    due = schedule(given, decide(given))
    return {channel: (due_us - given.now_us) / SECOND_US for (channel, _), due_us in due.items()}


def reminded_ids(given: Situation, channel: str = "ops") -> list[int]:
    return [each.episode.id for each in reminders(given, channel, QUAY)]


def sent_minutes_ago(minutes: float, channel: str = "ops") -> dict[tuple[str, str], int]:
    return {(channel, QUAY): NOON_US - round(minutes * MINUTE_US)}


@pytest.mark.parametrize(
    ("told", "current", "kind"),
    [
        (None, episode(), "firing"),
        (None, ended(), "summary"),
        (None, retracted(), None),
        (FIRING, episode(), None),
        (FIRING, episode(level="error"), "raised"),
        (CRITICAL, episode(level="warning"), None),
        (FIRING, ended(), "resolved"),
        (FIRING, ended(level="critical"), "resolved"),
        (FIRING, retracted(), "retracted"),
        (FIRING, retracted(resolved_us=NOON_US - 5), "retracted"),
        (RESOLVED, episode(), "again"),
        (RESOLVED, ended(), None),
        (RESOLVED, ended(level="critical"), None),
        (RESOLVED, retracted(resolved_us=NOON_US - 5), "withdrawn"),
        (RESOLVED, retracted(), "withdrawn"),
    ],
)
def test_action_follows_from_what_was_told_and_the_episode(
    told: Told | None, current: UntoldEpisode, kind: ActionKind | None
) -> None:
    given = situation(current, told={} if told is None else {1: {"ops": told}})
    assert actions_of(given) == ([] if kind is None else [(1, "ops", kind, False)])


@pytest.mark.parametrize(
    ("told", "current", "settled"),
    [
        (None, episode(), False),
        (FIRING, episode(), False),
        (FIRING, ended(), False),
        (None, ended(), False),
        (RESOLVED, ended(), True),
        (None, retracted(), True),
        (RESOLVED, retracted(), False),
    ],
)
def test_episode_is_settled_when_no_message_about_it_can_follow(
    told: Told | None, current: UntoldEpisode, settled: bool
) -> None:
    given = situation(current, told={} if told is None else {1: {"ops": told}})
    assert decide(given).settled == ([1] if settled else [])


def test_episode_is_not_settled_when_a_message_about_it_is_being_sent() -> None:
    assert decide(situation(ended(is_being_sent=True), told={1: {"ops": RESOLVED}})).settled == []


def test_withdrawn_item_makes_no_group_due_when_it_is_the_only_one() -> None:
    given = situation(retracted(), told={1: {"ops": RESOLVED}})
    assert seconds_until_due(given) == {}
    assert [action.is_passive for action in decide(given).actions] == [True]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("firing", "firing"),
        ("raised", "firing"),
        ("again", "firing"),
        ("resolved", "resolved"),
        ("retracted", "resolved"),
        ("summary", "resolved"),
    ],
)
def test_action_knows_what_counts_as_told_once_it_is_sent(
    kind: ActionKind, told: Literal["firing", "resolved"]
) -> None:
    told_before = {"raised": FIRING, "again": RESOLVED, "resolved": FIRING, "retracted": FIRING}
    current = {"raised": episode(level="error"), "resolved": ended(), "retracted": retracted(), "summary": ended()}
    before = {1: {"ops": told_before[kind]}} if kind in told_before else {}
    (action,) = decide(situation(current.get(kind, episode()), told=before)).actions
    assert (action.kind, action.told) == (kind, told)


# Channels.


def rule_with_channels_of_a_level() -> Rule:
    return rule(levels=(level("warning"), level("critical", notify=("duty",))))


@pytest.mark.parametrize(
    ("at", "told", "expected"),
    [
        ("warning", {}, [("ops", "firing")]),
        ("critical", {}, [("duty", "firing")]),
        ("critical", {"ops": FIRING}, [("duty", "firing")]),
        ("critical", {"ops": FIRING, "duty": CRITICAL}, []),
    ],
)
def test_level_notifies_its_own_channels_when_it_names_any(
    at: str, told: dict[str, Told], expected: list[tuple[str, ActionKind]]
) -> None:
    given = situation(episode(level=at), rules=[rule_with_channels_of_a_level()], told={1: told})
    assert [(channel, kind) for _, channel, kind, _ in actions_of(given)] == expected


def test_end_is_told_to_every_channel_that_was_told_when_the_rule_names_others_now() -> None:
    told = {1: {"ops": FIRING, "duty": FIRING}}
    assert actions_of(situation(ended(), rules=[rule(notify=())], told=told)) == [
        (1, "ops", "resolved", False),
        (1, "duty", "resolved", False),
    ]


def test_channel_is_told_nothing_when_it_is_no_longer_configured() -> None:
    given = situation(ended(), told={1: {"ops": FIRING}}, channels=["duty"])
    assert actions_of(given) == []
    assert decide(given).settled == [1]


def test_end_is_told_when_the_rule_was_removed_after_its_alert_was_told() -> None:
    removed = ended(reason="rule removed")
    assert actions_of(situation(removed, rules=[], told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]
    assert actions_of(situation(removed, rules=[])) == []


def test_offline_gateway_is_told_to_the_channels_of_all_rules_that_alert_on_missing_data() -> None:
    rules = [
        rule("warm", no_data=NoData(), notify=("ops",)),
        rule("cold", no_data=NoData(then="keep"), notify=("cold-people",)),
        rule("damp", no_data=NoData(), notify=("duty",)),
        rule("elsewhere", no_data=NoData(), notify=("far",), sensors=Selector(gateway="another")),
    ]
    given = situation(gateway_offline(), rules=rules, channels=["duty", "far", "cold-people", "ops"])
    assert actions_of(given) == [(1, "ops", "firing", False), (1, "duty", "firing", False)]


# Episodes that ended before any message.


@pytest.mark.parametrize(("notify", "kind"), [("summary", "summary"), ("normal", "firing"), ("never", None)])
def test_late_data_decides_the_first_message_when_the_episode_is_over_by_then(
    notify: Literal["summary", "normal", "never"], kind: ActionKind | None
) -> None:
    given = situation(ended(), rules=[rule(late_data=LateData(notify=notify))])
    assert actions_of(given) == ([] if kind is None else [(1, "ops", kind, False)])
    assert decide(given).settled == ([1] if kind is None else [])


def test_end_is_told_after_the_firing_when_late_data_says_normal() -> None:
    normal = rule(late_data=LateData(notify="normal"))
    assert actions_of(situation(ended(), rules=[normal], told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]


def test_open_episode_is_told_when_late_data_says_never() -> None:
    given = situation(episode(), rules=[rule(late_data=LateData(notify="never"))])
    assert actions_of(given) == [(1, "ops", "firing", False)]


@pytest.mark.parametrize("notify", ["summary", "normal"])
@pytest.mark.parametrize(("ago_us", "told"), [(HOUR_US, True), (HOUR_US + 1, False)])
def test_ended_episode_is_settled_untold_when_its_end_is_older_than_accept(
    notify: Literal["summary", "normal"], ago_us: int, told: bool
) -> None:
    terms = LateData(accept_us=HOUR_US, notify=notify)
    given = situation(ended(resolved_us=NOON_US - ago_us), rules=[rule(late_data=terms)])
    assert bool(actions_of(given)) is told
    assert decide(given).settled == ([] if told else [1])


def test_end_of_a_told_episode_is_told_when_it_is_older_than_accept() -> None:
    given = situation(
        ended(minutes_ago=90),
        rules=[rule(late_data=LateData(accept_us=HOUR_US))],
        told={1: {"ops": FIRING}},
    )
    assert actions_of(given) == [(1, "ops", "resolved", False)]


@pytest.mark.parametrize(("muted", "silences"), [(MUTED, []), ((), SILENCED)])
def test_ended_episode_is_settled_untold_when_it_is_silenced_or_muted(
    muted: tuple[MuteWindow, ...], silences: list[dict[str, str]]
) -> None:
    given = situation(ended(), rules=[rule(mute=muted)], silences=silences)
    assert actions_of(given) == []
    assert decide(given).settled == [1]


def rules_with_inhibition() -> dict[str, Any]:
    """Make rules by which `fire` inhibits `warm` at the same site."""
    return {"rules": [rule(inhibited_by=(Inhibition("fire", ("site",)),)), rule("fire", notify=())]}


def test_ended_episode_gets_a_summary_when_it_was_only_inhibited() -> None:
    source = episode(2, rule="fire")
    assert actions_of(situation(ended(), source, **rules_with_inhibition())) == [(1, "ops", "summary", True)]
    assert actions_of(situation(ended(), ended(2, rule="fire"), **rules_with_inhibition())) == [
        (1, "ops", "summary", False)
    ]


# Silences, mutes, inhibition, catching up.

HELD = [(None, episode(), "firing"), (FIRING, episode(level="error"), "raised"), (RESOLVED, episode(), "again")]
NEVER_HELD = [(FIRING, ended(), "resolved"), (FIRING, retracted(), "retracted")]


@pytest.mark.parametrize(("told", "current", "kind"), [*HELD, *NEVER_HELD])
@pytest.mark.parametrize("hold", ["silence", "mute", "inhibition"])
def test_hold_delays_all_kinds_but_resolved_and_retracted(
    hold: str, told: Told | None, current: UntoldEpisode, kind: ActionKind
) -> None:
    before = {} if told is None else {1: {"ops": told}}
    holds: dict[str, dict[str, Any]] = {
        "silence": {"silences": SILENCED},
        "mute": {"rules": [rule(mute=MUTED)]},
        "inhibition": rules_with_inhibition(),
    }
    source = [episode(2, rule="fire")] if hold == "inhibition" else []
    given = situation(current, *source, told=before, **holds[hold])
    held = kind not in ("resolved", "retracted")
    assert actions_of(given) == [(1, "ops", kind, held)]
    assert bool(seconds_until_due(given)) is not held


@pytest.mark.parametrize(("told", "current", "kind"), [*HELD, *NEVER_HELD, (None, ended(), "summary")])
def test_catching_up_delays_all_kinds_but_resolved_and_retracted(
    told: Told | None, current: UntoldEpisode, kind: ActionKind
) -> None:
    fields = {"last_us": NOON_US - 16 * MINUTE_US, "received_us": NOON_US, "first_known_us": NOON_US - MINUTE_US}
    late = msgspec.structs.replace(current, **fields)
    given = situation(late, told={} if told is None else {1: {"ops": told}})
    assert actions_of(given) == [(1, "ops", kind, kind not in ("resolved", "retracted"))]


def test_raise_waits_when_inhibition_starts_after_the_target_was_told() -> None:
    given = situation(
        episode(level="critical"), episode(2, rule="fire"), told={1: {"ops": FIRING}}, **rules_with_inhibition()
    )
    assert seconds_until_due(given) == {}


@pytest.mark.parametrize(
    "source", [no_data_mark(2, series=3, rule="fire"), ended(2, rule="fire"), retracted(2, rule="fire")]
)
def test_rule_does_not_inhibit_when_none_of_its_episodes_fires(source: UntoldEpisode) -> None:
    assert actions_of(situation(episode(), source, **rules_with_inhibition()))[0] == (1, "ops", "firing", False)


def test_rule_does_not_inhibit_when_its_episode_was_cleared_for_missing_data() -> None:
    source, mark = episode(2, rule="fire"), no_data_mark(3, series=2, rule="fire")
    assert actions_of(situation(episode(), source, mark, **rules_with_inhibition())) == [(1, "ops", "firing", False)]


# Missing data.


def test_missing_data_are_told_as_firing_and_then_as_resolved() -> None:
    rules = [rule(no_data=NoData())]
    assert actions_of(situation(no_data_alert(), rules=rules)) == [(1, "ops", "firing", False)]
    back = no_data_alert(resolved_us=NOON_US)
    assert actions_of(situation(back, rules=rules, told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]


def test_missing_data_alert_is_settled_untold_when_data_came_back_before_any_message() -> None:
    given = situation(no_data_alert(resolved_us=NOON_US), rules=[rule(no_data=NoData())])
    assert actions_of(given) == []
    assert decide(given).settled == [1]


def test_end_of_missing_data_waits_when_the_series_is_catching_up() -> None:
    fields = {"resolved_us": NOON_US, "last_us": NOON_US - HOUR_US, "received_us": NOON_US, "first_known_us": 0}
    told = {1: {"ops": FIRING}}
    assert actions_of(situation(no_data_alert(**fields), told=told)) == [(1, "ops", "resolved", True)]
    done = situation(no_data_alert(**fields), told=told, now_us=NOON_US + 60 * SECOND_US)
    assert actions_of(done) == [(1, "ops", "resolved", False)]


def test_end_of_missing_data_is_told_after_ten_minutes_when_uploads_continue() -> None:
    now_us = NOON_US + 10 * MINUTE_US
    fields = {"resolved_us": NOON_US, "last_us": NOON_US - HOUR_US, "received_us": now_us, "first_known_us": 0}
    for at_us, held in ((now_us - 1, True), (now_us, False)):
        given = situation(no_data_alert(**fields), told={1: {"ops": FIRING}}, now_us=at_us)
        assert actions_of(given) == [(1, "ops", "resolved", held)]


def test_alert_is_told_as_resolved_when_data_are_missing_and_the_rule_says_clear() -> None:
    mark = no_data_mark(2, series=1)
    assert actions_of(situation(episode(), mark, told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]
    assert actions_of(situation(episode(), mark, told={1: {"ops": RESOLVED}})) == []
    assert actions_of(situation(episode(), mark)) == []


def test_cleared_alert_is_told_again_when_data_come_back_and_it_still_fires() -> None:
    back = no_data_mark(2, series=1, resolved_us=NOON_US)
    given = situation(episode(), back, told={1: {"ops": RESOLVED}})
    assert actions_of(given) == [(1, "ops", "again", False)]
    assert decide(given).settled == []
    assert decide(situation(episode(), back, told={1: {"ops": FIRING}})).settled == [2]


def test_episode_stays_unsettled_when_it_is_only_cleared_for_missing_data() -> None:
    assert decide(situation(episode(), no_data_mark(2, series=1), told={1: {"ops": RESOLVED}})).settled == []


# When a group's message is due.


@pytest.mark.parametrize(
    ("known_s_ago", "due_in_s"),
    [((5,), 25), ((5, 20, 2), 10), ((31,), 0), ((3_600,), 0)],
)
def test_group_waits_half_a_minute_from_its_first_change_when_nothing_was_told(
    known_s_ago: tuple[int, ...], due_in_s: float
) -> None:
    members = [episode(n, first_known_us=NOON_US - ago * SECOND_US) for n, ago in enumerate(known_s_ago, 1)]
    assert max(0.0, seconds_until_due(situation(*members))["ops"]) == due_in_s


@pytest.mark.parametrize(("at", "due_in_s"), [("error", 25), ("critical", 0), ("disaster", 0)])
def test_group_does_not_wait_when_any_member_is_critical(at: str, due_in_s: float) -> None:
    recent = {"first_known_us": NOON_US - 5 * SECOND_US}
    levels = [level(name) for name in ("warning", "error", "critical", "disaster")]
    assert seconds_until_due(
        situation(episode(**recent), episode(2, level=at, **recent), rules=[rule(levels=levels)])
    ) == {"ops": due_in_s}


def test_group_waits_when_its_critical_member_is_held() -> None:
    recent = {"first_known_us": NOON_US - 5 * SECOND_US}
    given = situation(episode(**recent), episode(2, level="critical", **recent), silences=[{"sensor": "freezer-2"}])
    assert seconds_until_due(given) == {"ops": 25}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (episode(2), {}),
        (episode(2, level="error"), {2: {"ops": FIRING}}),
        (ended(2), {2: {"ops": FIRING}}),
        (ended(2), {}),
        (episode(2), {2: {"ops": RESOLVED}}),
        (episode(2, level="critical"), {}),
    ],
)
def test_later_changes_wait_for_update_every_when_the_group_was_told(
    change: UntoldEpisode, told: dict[int, dict[str, Told]]
) -> None:
    before = {1: {"ops": CRITICAL}, **told}
    given = situation(episode(level="critical"), change, told=before, last_sent=sent_minutes_ago(2))
    assert seconds_until_due(given) == {"ops": 180}
    late = situation(episode(level="critical"), change, told=before, last_sent=sent_minutes_ago(7))
    assert seconds_until_due(late) == {"ops": 0}


@pytest.mark.parametrize(
    ("change", "told"),
    [(episode(2, level="error"), {}), (episode(2, level="error"), {2: {"ops": FIRING}})],
)
def test_change_is_due_at_once_when_its_level_is_higher_than_any_told(
    change: UntoldEpisode, told: dict[int, dict[str, Told]]
) -> None:
    given = situation(episode(), change, told={1: {"ops": FIRING}, **told}, last_sent=sent_minutes_ago(0.1))
    assert seconds_until_due(given) == {"ops": 0}


def end_due_in_s(*others: UntoldEpisode, told: dict[int, dict[str, Told]] | None = None, **options: Any) -> float:
    """Return the seconds until `ops` is told the end of episode 1, half a minute after the last message."""
    before = {1: {"ops": FIRING}, **(told or {})}
    given = situation(ended(), *others, told=before, last_sent=sent_minutes_ago(0.5), **options)
    return seconds_until_due(given)["ops"]


def test_end_waits_for_update_every_when_another_member_still_fires() -> None:
    assert end_due_in_s(episode(2), told={2: {"ops": FIRING}}) == 270


def test_last_members_end_is_told_at_once() -> None:
    assert end_due_in_s() == 0
    assert end_due_in_s(ended(2), told={2: {"ops": FIRING}}) == 0


def test_last_members_end_is_told_at_once_when_it_is_cleared_for_missing_data() -> None:
    given = situation(episode(), no_data_mark(2, series=1), told={1: {"ops": FIRING}}, last_sent=sent_minutes_ago(0.5))
    assert seconds_until_due(given) == {"ops": 0}


def test_last_members_end_is_told_at_once_when_the_others_were_never_told_to_the_channel() -> None:
    silenced = end_due_in_s(episode(2), silences=[{"sensor": "freezer-2"}])
    of_other_channel = end_due_in_s(
        episode(2),
        rules=[rule(levels=(level("warning", notify=("duty",)), level("error")))],
        told={2: {"duty": FIRING}},
    )
    assert (silenced, of_other_channel) == (0, 0)


def test_group_waits_again_when_it_fires_after_its_end() -> None:
    fresh = episode(2, first_known_us=NOON_US - 10 * SECOND_US)
    before = {1: {"ops": RESOLVED}}
    assert seconds_until_due(situation(ended(), fresh, told=before, last_sent=sent_minutes_ago(60))) == {"ops": 20}
    assert seconds_until_due(situation(ended(), fresh, told=before, last_sent=sent_minutes_ago(1))) == {"ops": 240}


@pytest.mark.parametrize("ago", [1, 4.5])
def test_group_waits_for_update_every_when_its_last_message_was_refused(ago: float) -> None:
    refused = {("ops", QUAY): NOON_US - round(ago * MINUTE_US)}
    given = situation(episode(level="critical"), last_refused=refused)
    assert seconds_until_due(given) == {"ops": 300 - ago * 60}


def test_update_every_is_counted_for_each_channel_separately() -> None:
    both = rule(notify=("ops", "duty"))
    told = {1: {"ops": FIRING, "duty": FIRING}}
    sent = {**sent_minutes_ago(2), **sent_minutes_ago(4, "duty")}
    assert seconds_until_due(situation(episode(), episode(2), rules=[both], told=told, last_sent=sent)) == {
        "ops": 180,
        "duty": 60,
    }


# Reminders.


def all_told_firing(*episodes: UntoldEpisode, minutes_ago: float = 241, **options: Any) -> Situation:
    """Make a situation in which `ops` was told some minutes ago that all episodes fire."""
    told = {each.id: {"ops": Told("firing", each.level)} for each in episodes}
    return situation(*episodes, told=told, last_sent=sent_minutes_ago(minutes_ago), **options)


@pytest.mark.parametrize(("minutes_ago", "expected"), [(239, []), (240, [1, 2]), (1_000, [1, 2])])
def test_reminder_is_due_when_the_last_message_is_older_than_remind_every(
    minutes_ago: float, expected: list[int]
) -> None:
    assert reminded_ids(all_told_firing(episode(), episode(2), minutes_ago=minutes_ago)) == expected


def test_reminder_does_not_change_what_counts_as_told() -> None:
    (reminder,) = reminders(all_told_firing(episode()), "ops", QUAY)
    assert (reminder.kind, reminder.told, reminder.held, reminder.is_passive) == ("reminder", None, False, False)


def test_reminder_is_never_due_when_the_rule_says_never() -> None:
    assert reminded_ids(all_told_firing(episode(), rules=[rule(remind_every_us=None)])) == []


def test_reminder_leaves_out_episodes_that_are_ended_retracted_or_untold() -> None:
    told = {number: {"ops": FIRING} for number in (1, 2, 3)}
    given = situation(episode(), ended(2), retracted(3), episode(4), told=told, last_sent=sent_minutes_ago(241))
    assert reminded_ids(given) == [1]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"acked_level": "warning"}, [2]),
        ({"acked_level": "critical"}, [2]),
        ({"acked_level": "warning", "level": "error"}, [1, 2]),
        ({}, [1, 2]),
    ],
)
def test_reminder_leaves_out_episodes_that_are_acked_at_their_level(first: dict[str, Any], expected: list[int]) -> None:
    assert reminded_ids(all_told_firing(episode(**first), episode(2))) == expected


def test_reminder_is_skipped_when_every_member_is_acked_or_held() -> None:
    acked, silenced = episode(acked_level="warning"), episode(2)
    assert reminded_ids(all_told_firing(acked, silenced, silences=[{"sensor": "freezer-2"}])) == []


@pytest.mark.parametrize("hold", ["mute", "inhibition", "catching up"])
def test_reminder_is_skipped_when_held(hold: str) -> None:
    if hold == "mute":
        assert reminded_ids(all_told_firing(episode(), rules=[rule(mute=MUTED)])) == []
    elif hold == "inhibition":
        assert reminded_ids(all_told_firing(episode(), episode(2, rule="fire"), **rules_with_inhibition())) == []
    else:
        fields = {"last_us": NOON_US - HOUR_US, "received_us": NOON_US, "first_known_us": NOON_US}
        assert reminded_ids(all_told_firing(episode(**fields))) == []


def test_reminder_is_left_out_when_the_rule_no_longer_names_the_channel() -> None:
    assert reminded_ids(all_told_firing(episode(), rules=[rule(notify=("duty",))])) == []


def test_offline_gateway_is_reminded_of_every_four_hours() -> None:
    group = '["gateway-offline",["quay"]]'
    told = {1: {"ops": Told("firing", "error")}}
    for hours, expected in ((3, []), (4, [1])):
        sent = {("ops", group): NOON_US - hours * HOUR_US}
        given = situation(gateway_offline(), rules=[rule(no_data=NoData())], told=told, last_sent=sent)
        assert [each.episode.id for each in reminders(given, "ops", group)] == expected
