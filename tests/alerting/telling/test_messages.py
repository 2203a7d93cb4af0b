"""Texts of messages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from app.alerting.episodes.revision import Told
from app.alerting.rules.model import NoData
from app.alerting.telling.decisions import ActionKind, decide, reminders
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation
from app.clock import DAY_US, HOUR_US, MINUTE_US
from app.notify.message import Entry, Link, Message
from app.rule_texts import format_threshold
from tests.alerting.situations import (
    FIRING,
    NOON_US,
    RESOLVED,
    ended,
    episode,
    gateway_offline,
    no_data_alert,
    no_data_mark,
    retracted,
    rule,
    situation,
)

QUAY = '["warm",["quay"]]'
SINCE = datetime(2026, 6, 1, 10, 50, tzinfo=UTC)
#: When the last reading came, in tests of missing data.
NO_DATA_SINCE = datetime(2026, 6, 1, 11, 40, tzinfo=UTC)


def message_of(given: Situation, values: Mapping[int, float | None] | None = None) -> Message:
    """Write the message with all actions for `ops`."""
    actions = [action for action in decide(given).actions if action.channel == "ops"]
    return write_message(given, "ops", actions, values if values is not None else {1: 9.4}, Addresses())


def entry(**fields: Any) -> Entry:
    defaults: dict[str, Any] = {
        "level": "warning",
        "sensor": "freezer-1",
        "metric": "temperature",
        "threshold": "8",
        "since": SINCE,
    }
    return Entry(**{**defaults, **fields})


def note_of(given: Situation) -> str:
    """Return the note of the only entry of the message."""
    (only,) = message_of(given).entries
    return only.note


@pytest.mark.parametrize(
    ("threshold", "text"), [(8, "8"), (8.25, "8.25"), ([2, 8.5], "2 to 8.5"), (-15.0, "-15"), (None, "")]
)
def test_threshold_text_has_no_needless_zeros(threshold: Any, text: str) -> None:
    assert format_threshold(threshold) == text


def test_firing_shows_value_threshold_and_since_when() -> None:
    full = rule(unit="°C", runbook="https://wiki.example/cold-room", message="{sensor} in {site}: {value}{unit}")
    assert message_of(situation(episode(), rules=[full])) == Message(
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


def test_rule_message_fills_every_placeholder() -> None:
    template = "{sensor} {metric} {rule} {level} {value} {unit} {threshold} {since} {site} {room}"
    given = situation(episode(threshold=[2, 8]), rules=[rule(message=template, unit="K")])
    assert note_of(given) == "freezer-1 temperature warm warning 9.4 K 2 to 8 10:50 UTC quay –"


def test_value_is_left_out_when_there_is_none() -> None:
    message = message_of(situation(episode(), rules=[rule(message="{value}")]), {1: None})
    assert (message.entries[0].value, message.entries[0].note) == (None, "–")


def test_unit_is_the_series_own_when_the_rule_gives_none() -> None:
    assert message_of(situation(episode(unit="K"))).entries[0].unit == "K"
    assert message_of(situation(episode(unit="K"), rules=[rule(unit="°C")])).entries[0].unit == "°C"


def test_note_names_both_levels_when_the_level_rose() -> None:
    given = situation(episode(level="critical", threshold=12), told={1: {"ops": FIRING}})
    assert message_of(given) == Message(
        title="warm · quay: raised",
        entries=(entry(level="critical", value=9.4, threshold="12", note="raised from warning to critical"),),
    )


def test_entry_shows_start_and_end_when_resolved() -> None:
    assert message_of(situation(ended(minutes_ago=5), told={1: {"ops": FIRING}})) == Message(
        title="warm · quay: resolved",
        entries=(entry(until=datetime(2026, 6, 1, 11, 55, tzinfo=UTC), over=True),),
    )


@pytest.mark.parametrize("reason", ["rule removed", "no longer selected"])
def test_note_gives_the_reason_when_the_episode_did_not_end_by_readings(reason: str) -> None:
    assert note_of(situation(ended(reason=reason), told={1: {"ops": FIRING}})) == reason


def test_note_gives_the_time_of_the_report_when_it_is_a_summary() -> None:
    assert message_of(situation(ended(minutes_ago=5))) == Message(
        title="warm · quay: over by now",
        entries=(entry(until=datetime(2026, 6, 1, 11, 55, tzinfo=UTC), over=True, note="reported at 12:00 UTC"),),
    )


@pytest.mark.parametrize(
    ("current", "told", "title", "note"),
    [
        (retracted(), FIRING, "withdrawn", "later readings show that it never was"),
        (retracted(merged_into=2), FIRING, "withdrawn", "later readings show that it was part of another alert"),
        (episode(), RESOLVED, "firing again", "the end that was told is withdrawn"),
    ],
)
def test_note_explains_when_late_readings_changed_what_was_told(
    current: Any, told: Told, title: str, note: str
) -> None:
    message = message_of(situation(current, told={1: {"ops": told}}))
    assert (message.title, message.entries[0].note) == (f"warm · quay: {title}", note)
    assert message.entries[0].over is (title == "withdrawn")


def test_reminder_contains_the_rules_message() -> None:
    given = situation(
        episode(),
        rules=[rule(message="look at {sensor}")],
        told={1: {"ops": FIRING}},
        last_sent={("ops", QUAY): NOON_US - DAY_US},
    )
    message = write_message(given, "ops", reminders(given, "ops", QUAY), {1: 9.4}, Addresses())
    assert (message.title, message.entries) == (
        "warm · quay: still firing",
        (entry(value=9.4, note="look at freezer-1"),),
    )


def test_entries_are_ordered_by_kind_then_by_severity() -> None:
    told = {1: {"ops": FIRING}, 2: {"ops": FIRING}, 3: {"ops": FIRING}, 7: {"ops": RESOLVED}, 8: {"ops": RESOLVED}}
    given = situation(
        ended(1),
        retracted(2),
        episode(3, level="error"),
        episode(4),
        episode(5, level="critical"),
        ended(6),
        episode(7),
        retracted(8),
        told=told,
    )
    message = message_of(given, {})
    assert [each.sensor for each in message.entries] == [f"freezer-{number}" for number in (3, 5, 4, 7, 2, 1, 6, 8)]
    assert message.title == "warm · quay: raised, firing, firing again, withdrawn, resolved, over by now"


def test_message_style_is_that_of_the_most_severe_entry_that_is_not_over() -> None:
    told = {1: {"ops": FIRING}, 3: {"ops": Told("firing", "disaster")}}
    raised = episode(level="error")
    assert message_of(situation(raised, episode(2, level="critical"), told=told)).style.emoji == "🚨"
    assert message_of(situation(raised, ended(3, level="disaster"), told=told)).style.emoji == "❌"
    assert message_of(situation(ended(3, level="disaster"), told=told)).style.emoji == "✅"


@pytest.mark.parametrize(
    ("group_by", "title"),
    [
        (("site",), "warm · quay: firing"),
        ((), "warm: firing"),
        (("site", "room", "gateway"), "warm · quay, gw: firing"),
    ],
)
def test_title_names_what_the_group_has_in_common(group_by: tuple[str, ...], title: str) -> None:
    assert message_of(situation(episode(), rules=[rule(group_by=group_by)])).title == title


def test_title_names_only_the_rule_when_it_was_removed() -> None:
    assert message_of(situation(ended(), rules=[], told={1: {"ops": FIRING}})).title == "warm: resolved"


@pytest.mark.parametrize(
    ("silences", "silent"),
    [([], False), ([{"sensor": "freezer-1"}], False), ([{"rule": "warm"}], True)],
)
def test_message_is_silent_when_all_its_entries_are_over_and_silenced(
    silences: list[dict[str, str]], silent: bool
) -> None:
    given = situation(ended(), ended(2), told={1: {"ops": FIRING}, 2: {"ops": FIRING}}, silences=silences)
    assert message_of(given).silent is silent


def test_message_replies_to_the_message_of_its_first_entry_that_has_a_reference() -> None:
    told = {1: {"ops": FIRING}, 2: {"ops": FIRING}}
    refs = {("ops", 2): "77", ("duty", 1): "5"}
    assert message_of(situation(ended(), ended(2), told=told, refs=refs)).reply_to == "77"
    assert message_of(situation(episode())).reply_to is None


# Missing data.


def test_note_gives_start_and_last_value_when_data_are_missing() -> None:
    given = situation(no_data_alert(last_value=8.4), rules=[rule(unit="°C", no_data=NoData())])
    assert message_of(given) == Message(
        title="warm · quay: firing",
        entries=(entry(unit="°C", since=NO_DATA_SINCE, note="no data since 11:40 UTC, last 8.4°C"),),
    )


def test_note_gives_the_date_when_data_are_missing_since_another_day() -> None:
    since_us = NOON_US - 3 * DAY_US
    long = no_data_alert(started_us=since_us, received_us=since_us)
    assert note_of(situation(long)) == "no data since 2026-05-29 12:00 UTC, last 9.4"


def test_entry_names_the_gateway_when_it_is_offline() -> None:
    given = situation(gateway_offline(), rules=[rule(no_data=NoData())])
    assert message_of(given, {}) == Message(
        title="gateway-offline · gw: firing",
        entries=(
            Entry(level="error", sensor="gateway gw", metric="", since=NO_DATA_SINCE, note="no data since 11:40 UTC"),
        ),
    )
    back = gateway_offline(resolved_us=NOON_US)
    given = situation(back, rules=[rule(no_data=NoData())], told={1: {"ops": Told("firing", "error")}})
    message = message_of(given, {})
    assert (message.title, message.entries[0].note) == ("gateway-offline · gw: data are back", "data are back")


BACK = no_data_alert(2, series_id=1, sensor="freezer-1", resolved_us=NOON_US)


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (None, "data are back, fine all along"),
        (episode(), "data are back, past 8 since 10:50 UTC"),
        (ended(minutes_ago=5), "data are back; it was over at 11:55 UTC"),
        (retracted(), "data are back, fine all along"),
        (episode(rule="cold"), "data are back, fine all along"),
    ],
)
def test_note_gives_the_state_of_the_alert_when_data_are_back(other: Any, note: str) -> None:
    others = [] if other is None else [other]
    given = situation(*others, BACK, told={1: {"ops": FIRING}, 2: {"ops": FIRING}})
    message = message_of(given)
    assert "data are back" in message.title
    assert message.entries[-1].note == note


def test_entry_shows_the_open_episode_when_data_are_back() -> None:
    given = situation(
        episode(level="critical"), BACK, told={1: {"ops": Told("firing", "critical")}, 2: {"ops": FIRING}}
    )
    message = message_of(given, {2: 13.5})
    assert message == Message(
        title="warm · quay: data are back",
        entries=(entry(level="critical", value=13.5, note="data are back, past 8 since 10:50 UTC"),),
    )
    assert message.style.emoji == "🚨"


def test_note_says_so_when_an_alert_is_cleared_for_missing_data() -> None:
    silent = episode(received_us=NOON_US - HOUR_US)
    given = situation(silent, no_data_mark(2, series=1), told={1: {"ops": FIRING}})
    assert message_of(given) == Message(
        title="warm · quay: resolved",
        entries=(entry(over=True, note="ended for lack of data since 11:00 UTC"),),
    )


def test_note_says_so_when_a_cleared_alert_fires_again() -> None:
    back = no_data_mark(2, series=1, resolved_us=NOON_US - MINUTE_US)
    assert note_of(situation(episode(), back, told={1: {"ops": RESOLVED}})) == "data are back, and it still fires"


@pytest.mark.parametrize("reason", ["rule removed", "no longer selected", "no longer watched"])
def test_note_gives_the_reason_when_missing_data_ended_without_new_data(reason: str) -> None:
    given = situation(no_data_alert(reason=reason, resolved_us=NOON_US), told={1: {"ops": FIRING}})
    message = message_of(given)
    assert (message.title, message.entries[0].note) == ("warm · quay: resolved", reason)


@pytest.mark.parametrize("kind", ["firing", "raised", "again", "resolved", "retracted", "summary"])
def test_every_kind_of_action_has_a_heading(kind: ActionKind) -> None:
    told = {"raised": FIRING, "again": RESOLVED, "resolved": FIRING, "retracted": FIRING}
    current = {"raised": episode(level="error"), "resolved": ended(), "retracted": retracted(), "summary": ended()}
    before = {1: {"ops": told[kind]}} if kind in told else {}
    title = message_of(situation(current.get(kind, episode()), told=before)).title
    headings = {"again": "firing again", "retracted": "withdrawn", "summary": "over by now"}
    assert title == f"warm · quay: {headings.get(kind, kind)}"
