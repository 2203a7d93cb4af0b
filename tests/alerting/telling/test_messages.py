"""What people read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import NoData
from app.alerting.telling.decisions import ActionKind, decide, reminders
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import threshold_text, write_message
from app.alerting.telling.situation import Situation
from app.clock import DAY_US, HOUR_US, MINUTE_US
from app.notify.message import Entry, Link, Message
from tests.alerting.told import (
    FIRING,
    NOON_US,
    RESOLVED,
    cleared,
    episode,
    gone,
    lacking_data,
    offline,
    over,
    rule,
    situation,
)

QUAY = '["warm",["quay"]]'
SINCE = datetime(2026, 6, 1, 10, 50, tzinfo=UTC)
#: When data that are missing came last.
SILENT_SINCE = datetime(2026, 6, 1, 11, 40, tzinfo=UTC)


def written(of: Situation, values: Mapping[int, float | None] | None = None) -> Message:
    """Write all that is left to tell `ops`."""
    actions = [action for action in decide(of).actions if action.channel == "ops"]
    return write_message(of, "ops", actions, values if values is not None else {1: 9.4}, Addresses())


def entry(**facts: Any) -> Entry:
    known: dict[str, Any] = {
        "level": "warning",
        "sensor": "freezer-1",
        "metric": "temperature",
        "threshold": "8",
        "since": SINCE,
    }
    return Entry(**{**known, **facts})


def note(of: Situation) -> str:
    """Give the note of the only entry."""
    (only,) = written(of).entries
    return only.note


@pytest.mark.parametrize(
    ("threshold", "text"), [(8, "8"), (8.25, "8.25"), ([2, 8.5], "2 to 8.5"), (-15.0, "-15"), (None, "")]
)
def test_threshold_is_written_as_people_do(threshold: Any, text: str) -> None:
    assert threshold_text(threshold) == text


def test_firing_shows_value_threshold_and_since_when() -> None:
    says = rule(unit="°C", runbook="https://wiki.example/cold-room", message="{sensor} in {site}: {value}{unit}")
    assert written(situation(episode(), rules=[says])) == Message(
        title="warm · quay: firing",
        entries=(
            entry(
                value=9.4,
                unit="°C",
                note="freezer-1 in quay: 9.4°C",
                links=(Link("Runbook", "https://wiki.example/cold-room"),),
            ),
        ),
    )


def test_own_words_know_every_placeholder() -> None:
    words = "{sensor} {metric} {rule} {level} {value} {unit} {threshold} {since} {site} {room}"
    at_hand = situation(episode(threshold=[2, 8]), rules=[rule(message=words, unit="K")])
    assert note(at_hand) == "freezer-1 temperature warm warning 9.4 K 2 to 8 10:50 UTC quay –"


def test_value_is_left_out_when_there_is_none() -> None:
    message = written(situation(episode(), rules=[rule(message="{value}")]), {1: None})
    assert (message.entries[0].value, message.entries[0].note) == (None, "–")


def test_unit_is_the_series_own_when_the_rule_gives_none() -> None:
    assert written(situation(episode(unit="K"))).entries[0].unit == "K"
    assert written(situation(episode(unit="K"), rules=[rule(unit="°C")])).entries[0].unit == "°C"


def test_raise_names_both_levels() -> None:
    at_hand = situation(episode(level="critical", threshold=12), told={1: {"ops": FIRING}})
    assert written(at_hand) == Message(
        title="warm · quay: raised",
        entries=(entry(level="critical", value=9.4, threshold="12", note="raised from warning to critical"),),
    )


def test_end_shows_the_true_times() -> None:
    assert written(situation(over(minutes_ago=5), told={1: {"ops": FIRING}})) == Message(
        title="warm · quay: resolved",
        entries=(entry(until=datetime(2026, 6, 1, 11, 55, tzinfo=UTC), over=True),),
    )


@pytest.mark.parametrize("reason", ["rule removed", "no longer selected"])
def test_end_says_why_when_no_reading_does(reason: str) -> None:
    assert note(situation(over(reason=reason), told={1: {"ops": FIRING}})) == reason


def test_summary_says_when_it_is_told() -> None:
    assert written(situation(over(minutes_ago=5))) == Message(
        title="warm · quay: over by now",
        entries=(entry(until=datetime(2026, 6, 1, 11, 55, tzinfo=UTC), over=True, note="reported at 12:00 UTC"),),
    )


@pytest.mark.parametrize(
    ("true", "told", "title", "says"),
    [
        (gone(), FIRING, "withdrawn", "later readings show that it never was"),
        (gone(merged_into=2), FIRING, "withdrawn", "later readings show that it was part of another alert"),
        (episode(), RESOLVED, "firing again", "the end that was told is withdrawn"),
    ],
)
def test_what_later_readings_changed_is_said(true: Any, told: Told, title: str, says: str) -> None:
    message = written(situation(true, told={1: {"ops": told}}))
    assert (message.title, message.entries[0].note) == (f"warm · quay: {title}", says)
    assert message.entries[0].over is (title == "withdrawn")


def test_reminder_uses_the_rules_words() -> None:
    at_hand = situation(
        episode(),
        rules=[rule(message="look at {sensor}")],
        told={1: {"ops": FIRING}},
        last_sent={("ops", QUAY): NOON_US - DAY_US},
    )
    message = write_message(at_hand, "ops", reminders(at_hand, "ops", QUAY), {1: 9.4}, Addresses())
    assert (message.title, message.entries) == (
        "warm · quay: still firing",
        (entry(value=9.4, note="look at freezer-1"),),
    )


def test_entries_come_in_order_of_what_happened_and_the_more_severe_first() -> None:
    told = {1: {"ops": FIRING}, 2: {"ops": FIRING}, 3: {"ops": FIRING}, 7: {"ops": RESOLVED}, 8: {"ops": RESOLVED}}
    at_hand = situation(
        over(1),
        gone(2),
        episode(3, level="error"),
        episode(4),
        episode(5, level="critical"),
        over(6),
        episode(7),
        gone(8),
        told=told,
    )
    message = written(at_hand, {})
    assert [each.sensor for each in message.entries] == [f"freezer-{number}" for number in (3, 5, 4, 7, 2, 1, 6, 8)]
    assert message.title == "warm · quay: raised, firing, firing again, withdrawn, resolved, over by now"


def test_message_looks_like_its_most_severe_entry_that_is_not_over() -> None:
    told = {1: {"ops": FIRING}, 3: {"ops": Told("firing", "disaster")}}
    raised = episode(level="error")
    assert written(situation(raised, episode(2, level="critical"), told=told)).style.emoji == "🚨"
    assert written(situation(raised, over(3, level="disaster"), told=told)).style.emoji == "❌"
    assert written(situation(over(3, level="disaster"), told=told)).style.emoji == "✅"


@pytest.mark.parametrize(
    ("group_by", "title"),
    [
        (("site",), "warm · quay: firing"),
        ((), "warm: firing"),
        (("site", "room", "gateway"), "warm · quay, gw: firing"),
    ],
)
def test_title_names_what_the_group_has_in_common(group_by: tuple[str, ...], title: str) -> None:
    assert written(situation(episode(), rules=[rule(group_by=group_by)])).title == title


def test_title_names_only_the_rule_when_it_was_removed() -> None:
    assert written(situation(over(), rules=[], told={1: {"ops": FIRING}})).title == "warm: resolved"


@pytest.mark.parametrize(
    ("silences", "silent"),
    [([], False), ([{"sensor": "freezer-1"}], False), ([{"rule": "warm"}], True)],
)
def test_end_makes_no_sound_when_all_of_it_is_hushed(silences: list[dict[str, str]], silent: bool) -> None:
    at_hand = situation(over(), over(2), told={1: {"ops": FIRING}, 2: {"ops": FIRING}}, silences=silences)
    assert written(at_hand).silent is silent


def test_message_replies_to_the_one_that_told_of_its_first_entry() -> None:
    told = {1: {"ops": FIRING}, 2: {"ops": FIRING}}
    refs = {("ops", 2): "77", ("duty", 1): "5"}
    assert written(situation(over(), over(2), told=told, refs=refs)).reply_to == "77"
    assert written(situation(episode())).reply_to is None


# Missing data.


def silent_since_a_day() -> Situation:
    return situation(lacking_data(last_value=8.4), rules=[rule(unit="°C", no_data=NoData())])


def test_missing_data_say_since_when_and_what_was_last() -> None:
    assert written(silent_since_a_day()) == Message(
        title="warm · quay: firing",
        entries=(entry(unit="°C", since=SILENT_SINCE, note="no data since 11:40 UTC, last 8.4°C"),),
    )


def test_missing_data_name_the_day_when_they_are_missing_for_long() -> None:
    since_us = NOON_US - 3 * DAY_US
    long = lacking_data(started_us=since_us, received_us=since_us)
    assert note(situation(long)) == "no data since 2026-05-29 12:00 UTC, last 9.4"


def test_offline_gateway_names_itself() -> None:
    at_hand = situation(offline(), rules=[rule(no_data=NoData())])
    assert written(at_hand, {}) == Message(
        title="gateway-offline · gw: firing",
        entries=(
            Entry(level="error", sensor="gateway gw", metric="", since=SILENT_SINCE, note="no data since 11:40 UTC"),
        ),
    )
    back = offline(resolved_us=NOON_US)
    at_hand = situation(back, rules=[rule(no_data=NoData())], told={1: {"ops": Told("firing", "error")}})
    message = written(at_hand, {})
    assert (message.title, message.entries[0].note) == ("gateway-offline · gw: data are back", "data are back")


BACK = lacking_data(2, series_id=1, sensor="freezer-1", resolved_us=NOON_US)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (None, "data are back, fine all along"),
        (episode(), "data are back, past 8 since 10:50 UTC"),
        (over(minutes_ago=5), "data are back; it was over at 11:55 UTC"),
        (gone(), "data are back, fine all along"),
        (episode(rule="cold"), "data are back, fine all along"),
    ],
)
def test_data_that_are_back_say_how_it_stands(other: Any, says: str) -> None:
    others = [] if other is None else [other]
    at_hand = situation(*others, BACK, told={1: {"ops": FIRING}, 2: {"ops": FIRING}})
    message = written(at_hand)
    assert "data are back" in message.title
    assert message.entries[-1].note == says


def test_data_that_are_back_show_the_alert_that_goes_on() -> None:
    at_hand = situation(
        episode(level="critical"), BACK, told={1: {"ops": Told("firing", "critical")}, 2: {"ops": FIRING}}
    )
    message = written(at_hand, {2: 13.5})
    assert message == Message(
        title="warm · quay: data are back",
        entries=(entry(level="critical", value=13.5, note="data are back, past 8 since 10:50 UTC"),),
    )
    assert message.style.emoji == "🚨"


def test_alert_that_ended_for_lack_of_data_says_so() -> None:
    silent = episode(received_us=NOON_US - HOUR_US)
    at_hand = situation(silent, cleared(2, series=1), told={1: {"ops": FIRING}})
    assert written(at_hand) == Message(
        title="warm · quay: resolved",
        entries=(entry(over=True, note="ended for lack of data since 11:00 UTC"),),
    )


def test_alert_that_goes_on_when_data_are_back_says_so() -> None:
    back = cleared(2, series=1, resolved_us=NOON_US - MINUTE_US)
    assert note(situation(episode(), back, told={1: {"ops": RESOLVED}})) == "data are back, and it still is"


@pytest.mark.parametrize("reason", ["rule removed", "no longer selected", "no longer watched"])
def test_missing_data_do_not_say_that_they_are_back_when_nobody_knows(reason: str) -> None:
    at_hand = situation(lacking_data(reason=reason, resolved_us=NOON_US), told={1: {"ops": FIRING}})
    message = written(at_hand)
    assert (message.title, message.entries[0].note) == ("warm · quay: resolved", reason)


@pytest.mark.parametrize("kind", ["firing", "raised", "again", "resolved", "retracted", "summary"])
def test_every_kind_of_news_has_a_heading(kind: ActionKind) -> None:
    told = {"raised": FIRING, "again": RESOLVED, "resolved": FIRING, "retracted": FIRING}
    true = {"raised": episode(level="error"), "resolved": over(), "retracted": gone(), "summary": over()}
    before = {1: {"ops": told[kind]}} if kind in told else {}
    title = written(situation(true.get(kind, episode()), told=before)).title
    words = {"again": "firing again", "retracted": "withdrawn", "summary": "over by now"}
    assert title == f"warm · quay: {words.get(kind, kind)}"
