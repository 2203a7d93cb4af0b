"""Texts of messages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from app.alerting.episodes.revision import Told
from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.model import ChannelDefinition, RuleSet
from app.alerting.telling.decisions import decide
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation
from app.clock import HOUR_US, MINUTE_US
from app.notify.message import Message
from app.rule_texts import format_threshold
from tests.alerting.situations import (
    FIRING,
    NOON_US,
    RESOLVED,
    ended,
    episode,
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


def note_of(given: Situation) -> str:
    """Return the note of the only entry of the message."""
    (only,) = message_of(given).entries
    return only.note


@pytest.mark.parametrize(
    ("threshold", "text"),
    [(8, "8"), (8.25, "8.25"), ([2, 8.5], "2 to 8.5"), (-15.0, "-15"), (None, ""), (8.00004, "8.00004")],
)
def test_threshold_text_has_all_digits_that_were_written(threshold: Any, text: str) -> None:
    assert format_threshold(threshold) == text


def test_entry_has_every_value_that_the_webhook_shows() -> None:
    given = situation(episode(fired_value=8.5, peak=11), rules=[rule(unit="°C")])
    (entry,) = message_of(given).entries
    assert (entry.rule, entry.sensor, entry.gateway, entry.alerts) == ("warm", "freezer-1", "gw", (1,))
    assert (entry.value, entry.fired_value, entry.peak) == (9.4, 8.5, 11)
    assert (entry.condition, entry.threshold, entry.unit, entry.since) == ("above 8", "8", "°C", SINCE)


def test_rule_message_fills_every_placeholder() -> None:
    template = (
        "{sensor} {metric} {rule} {level} {gateway} {value} {peak} {unit} {threshold} {since} {duration} {site} "
        "{tags.site} {tags.room}"
    )
    given = situation(
        episode(condition="outside", threshold=[2, 8], peak=9.5), rules=[rule(message=template, unit="K")]
    )
    assert note_of(given) == "freezer-1 temperature warm warning gw 9.4 9.5 K 2 to 8 10:50 UTC 70 min quay quay –"


def test_times_are_those_of_the_channels_zone_or_else_of_the_rules() -> None:
    berlin = rule(timezone="Europe/Berlin", message="{since}")
    assert note_of(situation(episode(), rules=[berlin])) == "12:50 CEST"
    channels = RuleSet((berlin,), (ChannelDefinition("ops", "webhook", {"timezone": "America/Sao_Paulo"}),))
    other = Situation(NOON_US, channels, [episode()], {}, {}, [], {}, {})
    assert note_of(other) == "07:50 UTC-03"


def test_value_is_left_out_when_there_is_none() -> None:
    message = message_of(situation(episode(), rules=[rule(message="{value}")]), {1: None})
    assert (message.entries[0].value, message.entries[0].note) == (None, "–")


def test_unit_is_the_series_own_when_the_rule_gives_none() -> None:
    assert message_of(situation(episode(unit="K"))).entries[0].unit == "K"
    assert message_of(situation(episode(unit="K"), rules=[rule(unit="°C")])).entries[0].unit == "°C"


def test_unit_of_a_rate_is_per_hour_unless_the_rule_gives_one() -> None:
    rate = ValueOf("rate", 10 * MINUTE_US)
    assert message_of(situation(episode(unit="K"), rules=[rule(value=rate)])).entries[0].unit == "K/h"
    assert message_of(situation(episode(unit="K"), rules=[rule(value=rate, unit="°/h")])).entries[0].unit == "°/h"


def test_entries_are_ordered_by_severity_and_what_is_over_comes_last() -> None:
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
    assert [each.sensor for each in message.entries] == [f"freezer-{number}" for number in (5, 3, 4, 7, 2, 1, 6, 8)]


def test_series_that_fires_again_and_again_is_one_entry_whose_end_is_that_of_the_last() -> None:
    old = ended(1, series_id=1, sensor="freezer-1", started_us=NOON_US - HOUR_US, fired_us=NOON_US - HOUR_US)
    open_one = episode(2, series_id=1, sensor="freezer-1", fired_us=NOON_US - MINUTE_US)
    (entry,) = message_of(situation(old, open_one, told={1: {"ops": FIRING}})).entries
    assert (entry.over, entry.alerts, entry.until) == (False, (1, 2), None)
    (entry,) = message_of(situation(old, ended(2, series_id=1, sensor="freezer-1"))).entries
    assert (entry.over, entry.alerts, entry.since) == (True, (1, 2), datetime(2026, 6, 1, 10, 50, tzinfo=UTC))


def test_message_is_an_end_when_nothing_of_the_group_is_left_that_was_told() -> None:
    told = {1: {"ops": FIRING}, 2: {"ops": FIRING}}
    assert not message_of(situation(ended(), episode(2), told=told)).is_end
    assert message_of(situation(ended(), episode(2), told={1: {"ops": FIRING}, 2: {"duty": FIRING}})).is_end is False
    assert message_of(situation(ended(), ended(2), told=told)).is_end


@pytest.mark.parametrize(
    ("group_by", "title"),
    [
        (("site",), "1 warning: warm · quay"),
        ((), "1 warning: warm"),
        (("site", "room", "gateway"), "1 warning: warm · quay, gw"),
    ],
)
def test_title_names_what_the_group_has_in_common(group_by: tuple[str, ...], title: str) -> None:
    assert message_of(situation(episode(), rules=[rule(group_by=group_by)])).title == title


def test_message_style_is_that_of_the_most_severe_entry_that_is_not_over() -> None:
    told = {1: {"ops": FIRING}, 3: {"ops": Told("firing", "disaster")}}
    raised = episode(level="error")
    assert message_of(situation(raised, episode(2, level="critical"), told=told)).style.emoji == "🚨"
    assert message_of(situation(raised, ended(3, level="disaster"), told=told)).style.emoji == "❌"
    assert message_of(situation(ended(3, level="disaster"), told=told)).style.emoji == "✅"


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


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (None, "data are back, fine all along"),
        (episode(), "data are back, above 8 since 10:50 UTC"),
        (ended(minutes_ago=5), "data are back; it was over at 11:55 UTC"),
        (retracted(), "data are back, fine all along"),
        (episode(rule="cold"), "data are back, fine all along"),
    ],
)
def test_note_gives_the_state_of_the_alert_when_data_are_back(other: Any, note: str) -> None:
    others = [] if other is None else [other]
    back = no_data_alert(2, series_id=1, sensor="freezer-1", resolved_us=NOON_US)
    given = situation(*others, back, told={1: {"ops": FIRING}, 2: {"ops": FIRING}})
    assert note in [entry.note for entry in message_of(given).entries]


def test_note_says_so_when_a_cleared_alert_fires_again() -> None:
    back = no_data_mark(2, series=1, resolved_us=NOON_US - MINUTE_US)
    assert note_of(situation(episode(), back, told={1: {"ops": RESOLVED}})) == "data are back, and it still fires"


@pytest.mark.parametrize("reason", ["rule removed", "no longer selected", "no longer watched"])
def test_note_gives_the_reason_when_missing_data_ended_without_new_data(reason: str) -> None:
    given = situation(no_data_alert(reason=reason, resolved_us=NOON_US), told={1: {"ops": FIRING}})
    message = message_of(given)
    assert (message.title, message.entries[0].note) == ("1 resolved: warm · quay", reason)
