"""What is left to tell, clause by clause of the table of told and true, and of what is due when."""

from typing import Any, Literal

import pytest

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import Inhibition, LateData, NoData, Rule, Selector
from app.alerting.rules.mutes import MuteWindow
from app.alerting.telling.decisions import ActionKind, decide, reminders, schedule
from app.alerting.telling.situation import Situation, UntoldEpisode
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from tests.alerting.told import (
    FIRING,
    NOON_US,
    RESOLVED,
    cleared,
    episode,
    gone,
    lacking_data,
    level,
    offline,
    over,
    rule,
    situation,
)

#: The group of the rule `warm` at the site `quay`.
QUAY = '["warm",["quay"]]'
CRITICAL = Told("firing", "critical")
SILENCED = [{"sensor": "freezer-*"}]
MUTED = (MuteWindow(),)


def to_tell(of: Situation) -> list[tuple[int, str, ActionKind, bool]]:
    """Give (episode, channel, kind, held) of all that is left to tell."""
    return [(each.episode.id, each.channel, each.kind, each.held) for each in decide(of).actions]


def due_s(of: Situation) -> dict[str, float]:
    """Give in how many seconds each channel is due its message; there is one group."""
    return {channel: (due_us - of.now_us) / SECOND_US for (channel, _), due_us in schedule(of, decide(of)).items()}


def reminded(of: Situation, channel: str = "ops") -> list[int]:
    return [each.episode.id for each in reminders(of, channel, QUAY)]


def sent_minutes_ago(minutes: float, channel: str = "ops") -> dict[tuple[str, str], int]:
    return {(channel, QUAY): NOON_US - round(minutes * MINUTE_US)}


@pytest.mark.parametrize(
    ("told", "true", "kind"),
    [
        (None, episode(), "firing"),
        (None, over(), "summary"),
        (None, gone(), None),
        (FIRING, episode(), None),
        (FIRING, episode(level="error"), "raised"),
        (CRITICAL, episode(level="warning"), None),
        (FIRING, over(), "resolved"),
        (FIRING, over(level="critical"), "resolved"),
        (FIRING, gone(), "retracted"),
        (FIRING, gone(resolved_us=NOON_US - 5), "retracted"),
        (RESOLVED, episode(), "again"),
        (RESOLVED, over(), None),
        (RESOLVED, over(level="critical"), None),
        (RESOLVED, gone(resolved_us=NOON_US - 5), "withdrawn"),
        (RESOLVED, gone(), "withdrawn"),
    ],
)
def test_told_and_true_are_reconciled_when(told: Told | None, true: UntoldEpisode, kind: ActionKind | None) -> None:
    at_hand = situation(true, told={} if told is None else {1: {"ops": told}})
    assert to_tell(at_hand) == ([] if kind is None else [(1, "ops", kind, False)])


@pytest.mark.parametrize(
    ("told", "true", "settled"),
    [
        (None, episode(), False),
        (FIRING, episode(), False),
        (FIRING, over(), False),
        (None, over(), False),
        (RESOLVED, over(), True),
        (None, gone(), True),
        (RESOLVED, gone(), False),
    ],
)
def test_episode_is_settled_when_nothing_can_be_left_to_tell(
    told: Told | None, true: UntoldEpisode, settled: bool
) -> None:
    at_hand = situation(true, told={} if told is None else {1: {"ops": told}})
    assert decide(at_hand).settled == ([1] if settled else [])


def test_episode_is_not_settled_when_its_end_is_on_its_way() -> None:
    assert decide(situation(over(is_on_its_way=True), told={1: {"ops": RESOLVED}})).settled == []


def test_line_about_an_end_that_never_was_brings_about_no_message() -> None:
    at_hand = situation(gone(), told={1: {"ops": RESOLVED}})
    assert due_s(at_hand) == {}
    assert [action.is_passive for action in decide(at_hand).actions] == [True]


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
def test_action_says_what_counts_as_told_when_it_was(kind: ActionKind, told: Literal["firing", "resolved"]) -> None:
    told_before = {"raised": FIRING, "again": RESOLVED, "resolved": FIRING, "retracted": FIRING}
    true = {"raised": episode(level="error"), "resolved": over(), "retracted": gone(), "summary": over()}
    before = {1: {"ops": told_before[kind]}} if kind in told_before else {}
    (action,) = decide(situation(true.get(kind, episode()), told=before)).actions
    assert (action.kind, action.told) == (kind, told)


# Who is told.


def levels_of_their_own() -> Rule:
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
def test_level_tells_those_whom_it_names_when_it_names_any(
    at: str, told: dict[str, Told], expected: list[tuple[str, ActionKind]]
) -> None:
    at_hand = situation(episode(level=at), rules=[levels_of_their_own()], told={1: told})
    assert [(channel, kind) for _, channel, kind, _ in to_tell(at_hand)] == expected


def test_end_is_told_to_all_that_were_told_when_the_rule_names_others_by_now() -> None:
    told = {1: {"ops": FIRING, "duty": FIRING}}
    assert to_tell(situation(over(), rules=[rule(notify=())], told=told)) == [
        (1, "ops", "resolved", False),
        (1, "duty", "resolved", False),
    ]


def test_nothing_is_left_to_tell_a_channel_when_it_is_configured_no_more() -> None:
    at_hand = situation(over(), told={1: {"ops": FIRING}}, channels=["duty"])
    assert to_tell(at_hand) == []
    assert decide(at_hand).settled == [1]


def test_rule_that_is_no_more_tells_the_end_when_it_had_told_the_beginning() -> None:
    ended = over(reason="rule removed")
    assert to_tell(situation(ended, rules=[], told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]
    assert to_tell(situation(ended, rules=[])) == []


def test_offline_gateway_is_told_to_all_who_would_hear_of_its_series() -> None:
    rules = [
        rule("warm", no_data=NoData(), notify=("ops",)),
        rule("cold", no_data=NoData(then="keep"), notify=("cold-people",)),
        rule("damp", no_data=NoData(), notify=("duty",)),
        rule("elsewhere", no_data=NoData(), notify=("far",), sensors=Selector(gateway="another")),
    ]
    at_hand = situation(offline(), rules=rules, channels=["duty", "far", "cold-people", "ops"])
    assert to_tell(at_hand) == [(1, "ops", "firing", False), (1, "duty", "firing", False)]


# What came and went before anyone was told.


@pytest.mark.parametrize(("notify", "kind"), [("summary", "summary"), ("normal", "firing"), ("never", None)])
def test_late_data_says_how_to_tell_what_was_over_when_first_told(
    notify: Literal["summary", "normal", "never"], kind: ActionKind | None
) -> None:
    at_hand = situation(over(), rules=[rule(late_data=LateData(notify=notify))])
    assert to_tell(at_hand) == ([] if kind is None else [(1, "ops", kind, False)])
    assert decide(at_hand).settled == ([1] if kind is None else [])


def test_both_messages_are_told_when_late_data_are_told_as_usual() -> None:
    normal = rule(late_data=LateData(notify="normal"))
    assert to_tell(situation(over(), rules=[normal], told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]


def test_open_episode_is_told_when_late_data_are_never_to_be() -> None:
    at_hand = situation(episode(), rules=[rule(late_data=LateData(notify="never"))])
    assert to_tell(at_hand) == [(1, "ops", "firing", False)]


@pytest.mark.parametrize("notify", ["summary", "normal"])
@pytest.mark.parametrize(("ago_us", "told"), [(HOUR_US, True), (HOUR_US + 1, False)])
def test_end_longer_ago_than_accept_is_history(notify: Literal["summary", "normal"], ago_us: int, told: bool) -> None:
    terms = LateData(accept_us=HOUR_US, notify=notify)
    at_hand = situation(over(resolved_us=NOON_US - ago_us), rules=[rule(late_data=terms)])
    assert bool(to_tell(at_hand)) is told
    assert decide(at_hand).settled == ([] if told else [1])


def test_end_of_a_told_episode_is_told_when_it_is_longer_ago_than_accept() -> None:
    at_hand = situation(
        over(minutes_ago=90),
        rules=[rule(late_data=LateData(accept_us=HOUR_US))],
        told={1: {"ops": FIRING}},
    )
    assert to_tell(at_hand) == [(1, "ops", "resolved", False)]


@pytest.mark.parametrize(("muted", "silences"), [(MUTED, []), ((), SILENCED)])
def test_what_came_and_went_is_history_when_it_was_silenced_or_muted(
    muted: tuple[MuteWindow, ...], silences: list[dict[str, str]]
) -> None:
    at_hand = situation(over(), rules=[rule(mute=muted)], silences=silences)
    assert to_tell(at_hand) == []
    assert decide(at_hand).settled == [1]


def inhibited() -> dict[str, Any]:
    """Let `fire` inhibit `warm` at the same site."""
    return {"rules": [rule(inhibited_by=(Inhibition("fire", ("site",)),)), rule("fire", notify=())]}


def test_what_came_and_went_is_summed_up_when_it_was_only_inhibited() -> None:
    source = episode(2, rule="fire")
    assert to_tell(situation(over(), source, **inhibited())) == [(1, "ops", "summary", True)]
    assert to_tell(situation(over(), over(2, rule="fire"), **inhibited())) == [(1, "ops", "summary", False)]


# What holds messages back.

HELD = [(None, episode(), "firing"), (FIRING, episode(level="error"), "raised"), (RESOLVED, episode(), "again")]
NEVER_HELD = [(FIRING, over(), "resolved"), (FIRING, gone(), "retracted")]


@pytest.mark.parametrize(("told", "true", "kind"), [*HELD, *NEVER_HELD])
@pytest.mark.parametrize("hold", ["silence", "mute", "inhibition"])
def test_hold_keeps_back_all_but_the_end_of_what_was_told(
    hold: str, told: Told | None, true: UntoldEpisode, kind: ActionKind
) -> None:
    before = {} if told is None else {1: {"ops": told}}
    holds: dict[str, dict[str, Any]] = {
        "silence": {"silences": SILENCED},
        "mute": {"rules": [rule(mute=MUTED)]},
        "inhibition": inhibited(),
    }
    source = [episode(2, rule="fire")] if hold == "inhibition" else []
    at_hand = situation(true, *source, told=before, **holds[hold])
    may_wait = kind not in ("resolved", "retracted")
    assert to_tell(at_hand) == [(1, "ops", kind, may_wait)]
    assert bool(due_s(at_hand)) is not may_wait


@pytest.mark.parametrize(("told", "true", "kind"), [*HELD, *NEVER_HELD, (None, over(), "summary")])
def test_late_upload_keeps_back_all_but_the_end_of_what_was_told(
    told: Told | None, true: UntoldEpisode, kind: ActionKind
) -> None:
    facts = {"last_us": NOON_US - 16 * MINUTE_US, "received_us": NOON_US, "first_known_us": NOON_US - MINUTE_US}
    late = type(true)(**{**{name: getattr(true, name) for name in true.__struct_fields__}, **facts})
    at_hand = situation(late, told={} if told is None else {1: {"ops": told}})
    assert to_tell(at_hand) == [(1, "ops", kind, kind not in ("resolved", "retracted"))]


def test_raise_waits_when_inhibition_starts_after_the_target_was_told() -> None:
    at_hand = situation(episode(level="critical"), episode(2, rule="fire"), told={1: {"ops": FIRING}}, **inhibited())
    assert due_s(at_hand) == {}


@pytest.mark.parametrize("mark", ["cleared", "over", "gone"])
def test_rule_does_not_inhibit_when_nothing_of_it_fires(mark: str) -> None:
    source = {
        "cleared": cleared(2, series=3, rule="fire"),
        "over": over(2, rule="fire"),
        "gone": gone(2, rule="fire"),
    }[mark]
    assert to_tell(situation(episode(), source, **inhibited()))[0] == (1, "ops", "firing", False)


def test_rule_does_not_inhibit_when_it_ended_for_lack_of_data() -> None:
    source, lack = episode(2, rule="fire"), cleared(3, series=2, rule="fire")
    assert to_tell(situation(episode(), source, lack, **inhibited())) == [(1, "ops", "firing", False)]


# Missing data.


def test_missing_data_are_told_and_so_is_their_end() -> None:
    silent = [rule(no_data=NoData())]
    assert to_tell(situation(lacking_data(), rules=silent)) == [(1, "ops", "firing", False)]
    back = lacking_data(resolved_us=NOON_US)
    assert to_tell(situation(back, rules=silent, told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]


def test_missing_data_are_history_when_they_came_back_before_anyone_was_told() -> None:
    at_hand = situation(lacking_data(resolved_us=NOON_US), rules=[rule(no_data=NoData())])
    assert to_tell(at_hand) == []
    assert decide(at_hand).settled == [1]


def test_end_of_silence_waits_when_the_series_is_catching_up() -> None:
    facts = {"resolved_us": NOON_US, "last_us": NOON_US - HOUR_US, "received_us": NOON_US, "first_known_us": 0}
    told = {1: {"ops": FIRING}}
    assert to_tell(situation(lacking_data(**facts), told=told)) == [(1, "ops", "resolved", True)]
    done = situation(lacking_data(**facts), told=told, now_us=NOON_US + 60 * SECOND_US)
    assert to_tell(done) == [(1, "ops", "resolved", False)]


def test_end_of_silence_is_told_when_uploads_go_on_for_long() -> None:
    now_us = NOON_US + 10 * MINUTE_US
    facts = {"resolved_us": NOON_US, "last_us": NOON_US - HOUR_US, "received_us": now_us, "first_known_us": 0}
    for at_us, held in ((now_us - 1, True), (now_us, False)):
        at_hand = situation(lacking_data(**facts), told={1: {"ops": FIRING}}, now_us=at_us)
        assert to_tell(at_hand) == [(1, "ops", "resolved", held)]


def test_alert_ends_for_lack_of_data_when_the_rule_says_clear() -> None:
    mark = cleared(2, series=1)
    assert to_tell(situation(episode(), mark, told={1: {"ops": FIRING}})) == [(1, "ops", "resolved", False)]
    assert to_tell(situation(episode(), mark, told={1: {"ops": RESOLVED}})) == []
    assert to_tell(situation(episode(), mark)) == []


def test_alert_that_ended_for_lack_of_data_is_told_again_when_data_come_back_and_it_still_is() -> None:
    back = cleared(2, series=1, resolved_us=NOON_US)
    at_hand = situation(episode(), back, told={1: {"ops": RESOLVED}})
    assert to_tell(at_hand) == [(1, "ops", "again", False)]
    assert decide(at_hand).settled == []
    assert decide(situation(episode(), back, told={1: {"ops": FIRING}})).settled == [2]


def test_episode_stays_unsettled_when_it_ended_for_lack_of_data_only() -> None:
    assert decide(situation(episode(), cleared(2, series=1), told={1: {"ops": RESOLVED}})).settled == []


# When a group is due its message.


@pytest.mark.parametrize(
    ("known_s_ago", "due_in_s"),
    [((5,), 25), ((5, 20, 2), 10), ((31,), 0), ((3_600,), 0)],
)
def test_group_waits_half_a_minute_from_its_first_change_when_it_was_told_nothing(
    known_s_ago: tuple[int, ...], due_in_s: float
) -> None:
    members = [episode(n, first_known_us=NOON_US - ago * SECOND_US) for n, ago in enumerate(known_s_ago, 1)]
    assert max(0.0, due_s(situation(*members))["ops"]) == due_in_s


@pytest.mark.parametrize(("at", "due_in_s"), [("error", 25), ("critical", 0), ("disaster", 0)])
def test_group_does_not_wait_when_any_member_is_critical(at: str, due_in_s: float) -> None:
    news = {"first_known_us": NOON_US - 5 * SECOND_US}
    levels = [level(name) for name in ("warning", "error", "critical", "disaster")]
    assert due_s(situation(episode(**news), episode(2, level=at, **news), rules=[rule(levels=levels)])) == {
        "ops": due_in_s
    }


def test_group_waits_when_its_critical_member_is_held() -> None:
    news = {"first_known_us": NOON_US - 5 * SECOND_US}
    at_hand = situation(episode(**news), episode(2, level="critical", **news), silences=[{"sensor": "freezer-2"}])
    assert due_s(at_hand) == {"ops": 25}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (episode(2), {}),
        (episode(2, level="error"), {2: {"ops": FIRING}}),
        (over(2), {2: {"ops": FIRING}}),
        (over(2), {}),
        (episode(2), {2: {"ops": RESOLVED}}),
        (episode(2, level="critical"), {}),
    ],
)
def test_later_changes_wait_for_their_turn_when_the_group_was_told(
    change: UntoldEpisode, told: dict[int, dict[str, Told]]
) -> None:
    before = {1: {"ops": CRITICAL}, **told}
    at_hand = situation(episode(level="critical"), change, told=before, last_sent=sent_minutes_ago(2))
    assert due_s(at_hand) == {"ops": 180}
    late = situation(episode(level="critical"), change, told=before, last_sent=sent_minutes_ago(7))
    assert due_s(late) == {"ops": 0}


@pytest.mark.parametrize(
    ("change", "told"),
    [(episode(2, level="error"), {}), (episode(2, level="error"), {2: {"ops": FIRING}})],
)
def test_level_higher_than_any_told_is_told_at_once(change: UntoldEpisode, told: dict[int, dict[str, Told]]) -> None:
    at_hand = situation(episode(), change, told={1: {"ops": FIRING}, **told}, last_sent=sent_minutes_ago(0.1))
    assert due_s(at_hand) == {"ops": 0}


def last_end(*others: UntoldEpisode, told: dict[int, dict[str, Told]] | None = None, **options: Any) -> float:
    """Give in how many seconds `ops` hears that episode 1 is over, half a minute after the last message."""
    before = {1: {"ops": FIRING}, **(told or {})}
    at_hand = situation(over(), *others, told=before, last_sent=sent_minutes_ago(0.5), **options)
    return due_s(at_hand)["ops"]


def test_end_waits_for_its_turn_when_another_member_still_fires() -> None:
    assert last_end(episode(2), told={2: {"ops": FIRING}}) == 270


def test_last_members_end_is_told_at_once() -> None:
    assert last_end() == 0
    assert last_end(over(2), told={2: {"ops": FIRING}}) == 0


def test_last_members_end_is_told_at_once_when_it_is_for_lack_of_data() -> None:
    at_hand = situation(episode(), cleared(2, series=1), told={1: {"ops": FIRING}}, last_sent=sent_minutes_ago(0.5))
    assert due_s(at_hand) == {"ops": 0}


def test_last_members_end_is_told_at_once_when_the_others_were_never_told_to_the_channel() -> None:
    silenced = last_end(episode(2), silences=[{"sensor": "freezer-2"}])
    of_other_channel = last_end(
        episode(2),
        rules=[rule(levels=(level("warning", notify=("duty",)), level("error")))],
        told={2: {"duty": FIRING}},
    )
    assert (silenced, of_other_channel) == (0, 0)


def test_group_that_ended_waits_anew_when_it_fires_again() -> None:
    fresh = episode(2, first_known_us=NOON_US - 10 * SECOND_US)
    before = {1: {"ops": RESOLVED}}
    assert due_s(situation(over(), fresh, told=before, last_sent=sent_minutes_ago(60))) == {"ops": 20}
    assert due_s(situation(over(), fresh, told=before, last_sent=sent_minutes_ago(1))) == {"ops": 240}


@pytest.mark.parametrize("ago", [1, 4.5])
def test_group_waits_for_its_turn_when_its_last_message_was_refused(ago: float) -> None:
    refused = {("ops", QUAY): NOON_US - round(ago * MINUTE_US)}
    at_hand = situation(episode(level="critical"), last_refused=refused)
    assert due_s(at_hand) == {"ops": 300 - ago * 60}


def test_each_channel_has_a_turn_of_its_own() -> None:
    both = rule(notify=("ops", "duty"))
    told = {1: {"ops": FIRING, "duty": FIRING}}
    sent = {**sent_minutes_ago(2), **sent_minutes_ago(4, "duty")}
    assert due_s(situation(episode(), episode(2), rules=[both], told=told, last_sent=sent)) == {"ops": 180, "duty": 60}


# Reminders.


def remembered(*episodes: UntoldEpisode, minutes_ago: float = 241, **options: Any) -> Situation:
    told = {each.id: {"ops": Told("firing", each.level)} for each in episodes}
    return situation(*episodes, told=told, last_sent=sent_minutes_ago(minutes_ago), **options)


@pytest.mark.parametrize(("minutes_ago", "expected"), [(239, []), (240, [1, 2]), (1_000, [1, 2])])
def test_group_is_reminded_of_when_it_heard_nothing_for_long(minutes_ago: float, expected: list[int]) -> None:
    assert reminded(remembered(episode(), episode(2), minutes_ago=minutes_ago)) == expected


def test_reminder_counts_as_no_change() -> None:
    (reminder,) = reminders(remembered(episode()), "ops", QUAY)
    assert (reminder.kind, reminder.told, reminder.held, reminder.is_passive) == ("reminder", None, False, False)


def test_group_is_not_reminded_of_when_the_rule_says_never() -> None:
    assert reminded(remembered(episode(), rules=[rule(remind_every_us=None)])) == []


def test_reminder_leaves_out_what_is_over_or_gone_or_was_never_told() -> None:
    told = {number: {"ops": FIRING} for number in (1, 2, 3)}
    at_hand = situation(episode(), over(2), gone(3), episode(4), told=told, last_sent=sent_minutes_ago(241))
    assert reminded(at_hand) == [1]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"acked_level": "warning"}, [2]),
        ({"acked_level": "critical"}, [2]),
        ({"acked_level": "warning", "level": "error"}, [1, 2]),
        ({}, [1, 2]),
    ],
)
def test_reminder_leaves_out_what_is_acked_up_to_its_level(first: dict[str, Any], expected: list[int]) -> None:
    assert reminded(remembered(episode(**first), episode(2))) == expected


def test_reminder_is_skipped_when_every_member_is_acked_or_held() -> None:
    acked, silenced = episode(acked_level="warning"), episode(2)
    assert reminded(remembered(acked, silenced, silences=[{"sensor": "freezer-2"}])) == []


@pytest.mark.parametrize("hold", ["mute", "inhibition", "catching up"])
def test_reminder_is_skipped_when_held(hold: str) -> None:
    if hold == "mute":
        assert reminded(remembered(episode(), rules=[rule(mute=MUTED)])) == []
    elif hold == "inhibition":
        assert reminded(remembered(episode(), episode(2, rule="fire"), **inhibited())) == []
    else:
        facts = {"last_us": NOON_US - HOUR_US, "received_us": NOON_US, "first_known_us": NOON_US}
        assert reminded(remembered(episode(**facts))) == []


def test_reminder_goes_to_those_whom_the_rule_tells_by_now() -> None:
    assert reminded(remembered(episode(), rules=[rule(notify=("duty",))])) == []


def test_offline_gateway_is_reminded_of_as_often_as_rules_are_by_default() -> None:
    group = '["gateway-offline",["gw"]]'
    told = {1: {"ops": Told("firing", "error")}}
    for hours, expected in ((3, []), (4, [1])):
        sent = {("ops", group): NOON_US - hours * HOUR_US}
        at_hand = situation(offline(), rules=[rule(no_data=NoData())], told=told, last_sent=sent)
        assert [each.episode.id for each in reminders(at_hand, "ops", group)] == expected
