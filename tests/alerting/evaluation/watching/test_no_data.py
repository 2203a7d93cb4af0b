"""Alerts of missing data, and the messages about them."""

from random import Random

import msgspec
import pytest

from app.alerting.episodes.samples import ValueOf, samples
from app.clock import MINUTE_US
from tests.alerting.harness import WARM, AlertingHarness

ALERTING = WARM + "    no_data: {after: 30m, then: alert}\n"
CLEARING = WARM + "    no_data: {after: 30m, then: clear}\n"


# Messages about missing data.


async def advance_without_data(harness: AlertingHarness, minutes: float = 31) -> None:
    """Advance, check for missing data, and wait until the messages about it have been sent."""
    await harness.advance(minutes)
    await harness.check_no_data()
    await harness.advance(0.6)


async def test_missing_data_are_told_when_they_have_lasted_longer_than_after(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5))
    await harness.tick()
    await advance_without_data(harness, 29)
    assert harness.messages() == []
    await advance_without_data(harness, 2)
    assert harness.messages() == ["1 without data: warm · quay [freezer-1]"]
    (note,) = harness.notes()
    assert note.startswith("no data since ")
    assert note.endswith(", last 7.5")
    assert await harness.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_one_message_says_that_all_was_fine_when_data_come_back_below_the_threshold(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5))
    await advance_without_data(harness)
    await harness.upload("freezer-1", (0, 7))
    await harness.tick()
    await harness.check_no_data()
    assert harness.messages()[1:] == ["1 with data again: warm · quay [freezer-1]"]
    assert harness.notes() == ["data are back, fine all along"]
    assert await harness.open_alerts() == []


async def test_one_message_says_that_the_alert_goes_on_when_data_come_back(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0.1, 9))
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]", "1 without data: warm · quay [freezer-1]"]
    await harness.upload("freezer-1", (0, 10))
    await harness.tick()
    await harness.check_no_data()
    await harness.advance(10)
    assert harness.messages()[2:] == ["1 warning still firing: warm · quay [freezer-1]"]
    (entry,) = harness.entries()
    assert entry["note"].startswith("data are back, above 8 since ")
    assert (entry["over"], entry["value"], entry["level"]) == (False, 10, "warning")


async def test_one_message_says_that_the_alert_is_over_when_data_come_back(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0.1, 9))
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    await harness.upload("freezer-1", (0, 7))
    await harness.tick()
    await harness.check_no_data()
    await harness.advance(10)
    assert harness.messages()[2:] == ["1 resolved, 1 with data again: warm · quay [freezer-1 freezer-1]"]
    assert harness.notes()[1].startswith("data are back; it was over at ")


async def test_one_message_summarizes_when_buffered_data_come_back_in_pieces(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (301, 7.5))
    await harness.tick()
    await advance_without_data(harness)
    told = len(harness.messages())
    for minutes_ago, value in ((300, 9), (200, 9), (100, 7)):
        await harness.upload("freezer-1", (minutes_ago, value))
        await harness.tick()
        await harness.check_no_data()
    assert len(harness.messages()) == told
    await harness.advance(1.1)
    assert harness.messages()[told:] == ["1 with data again, 1 over: warm · quay [freezer-1 freezer-1]"]


async def test_missing_data_stay_when_only_known_readings_come(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (5, 7.5))
    await advance_without_data(harness)
    await harness.pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late) VALUES ('{1}', ARRAY[now()], ARRAY[now()], FALSE)"
    )
    await harness.tick()
    assert await harness.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_missing_data_stay_when_the_process_starts_again(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5))
    await advance_without_data(harness)
    await harness.pool.execute("UPDATE ingest_state SET since = now()")
    await harness.check_no_data()
    await harness.advance(1)
    assert harness.messages() == ["1 without data: warm · quay [freezer-1]"]
    assert await harness.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_missing_data_end_with_a_reason_when_the_rule_no_longer_watches(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5))
    await advance_without_data(harness)
    await harness.use_rules(WARM)
    await harness.check_no_data()
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes() == ["no longer watched"]


async def test_missing_data_end_with_a_reason_when_the_rule_is_removed(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5))
    await advance_without_data(harness)
    await harness.use_rules("")
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm [freezer-1]"]
    assert harness.notes() == ["rule removed"]


async def test_alert_is_cleared_without_data_and_told_again_when_data_come_back(harness: AlertingHarness) -> None:
    await harness.use_rules(CLEARING)
    await harness.upload("freezer-1", (0.1, 9))
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes()[0].startswith("ended for lack of data since ")
    assert await harness.open_alerts() == [("warm", "freezer-1", "threshold")]
    await harness.upload("freezer-1", (0, 10))
    await harness.tick()
    await harness.advance(5)
    assert harness.messages()[2:] == ["1 warning again: warm · quay [freezer-1]"]
    assert harness.notes() == ["data are back, and it still fires"]
    await advance_without_data(harness)
    assert harness.messages()[3:] == ["1 resolved: warm · quay [freezer-1]"]


async def test_nothing_more_is_told_when_a_cleared_alert_has_ended(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(CLEARING)
    await harness.upload("freezer-1", (0.1, 9))
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    await harness.upload("freezer-1", (0, 7))
    await harness.tick()
    await harness.advance(10)
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode WHERE NOT settled") == 0


async def test_missing_data_are_not_told_when_the_rule_says_keep(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    no_data: {after: 30m, then: keep}\n")
    await harness.upload("freezer-1", (0.1, 9))
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    assert harness.messages() == ["1 warning: warm · quay [freezer-1]"]


async def test_offline_gateway_is_told_instead_of_its_series(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    for number in (1, 2):
        await harness.upload(f"freezer-{number}", (0, 7), gateway="gw")
    await harness.tick()
    await advance_without_data(harness)
    assert harness.messages() == ["1 offline: gateway-offline · quay [gateway gw]"]
    assert await harness.open_alerts() == [("gateway-offline", "gw", "no_data")]
    await harness.upload("freezer-1", (0, 7), gateway="gw")
    await harness.tick()
    assert harness.messages()[1:] == ["1 with data again: gateway-offline · quay [gateway gw]"]
    await harness.check_no_data()
    await harness.advance(1)
    assert len(harness.messages()) == 2
    await harness.advance(29)
    await harness.upload("freezer-1", (0, 7), gateway="gw")
    await harness.check_no_data()
    await harness.advance(1)
    assert harness.messages()[2:] == ["1 without data: warm · quay [freezer-2]"]


async def test_offline_gateway_holds_back_reminders_that_it_inhibits(harness: AlertingHarness) -> None:
    await harness.use_rules(
        ALERTING + "    inhibited_by: [{rule: gateway-offline, same: [gateway]}]\n    remind_every: 1h\n"
    )
    await harness.upload("freezer-1", (0.1, 9), gateway="gw")
    await harness.tick()
    await harness.advance(1)
    await advance_without_data(harness)
    assert harness.messages() == [
        "1 warning: warm · quay [freezer-1]",
        "1 offline: gateway-offline · quay [gateway gw]",
    ]
    await harness.advance(120)
    # As often as the rule says that it stands for.
    assert harness.messages()[2:] == ["1 still offline: gateway-offline · quay [gateway gw]"]
    await harness.upload("freezer-1", (0, 9), gateway="gw")
    await harness.tick()
    # Two groups: nothing says which of them is sent first.
    assert sorted(harness.messages()[3:]) == [
        "1 warning still firing: warm · quay [freezer-1]",
        "1 with data again: gateway-offline · quay [gateway gw]",
    ]


# What the views judge silence by.

_STATE = "SELECT state FROM sensor_view WHERE sensor = 'freezer-1'"


async def test_sensor_is_late_and_then_silent_also_when_no_rule_tells_anybody(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (0, 7.5))
    await harness.tick()
    await harness.check_no_data()
    assert await harness.pool.fetchval(_STATE) == "ok"
    await advance_without_data(harness, 4)
    assert await harness.pool.fetchval(_STATE) == "late"
    await advance_without_data(harness, 1)
    assert await harness.pool.fetchval(_STATE) == "silent"
    await harness.upload("freezer-1", (0, 7.5))
    assert await harness.pool.fetchval(_STATE) == "ok"


async def test_limits_of_each_series_follow_the_rules(harness: AlertingHarness) -> None:
    limits = "SELECT rule, level, side, number FROM limit_view WHERE sensor = 'freezer-1' ORDER BY number"
    await harness.use_rules(WARM + "    unit: °C\n")
    await harness.upload("freezer-1", (0, 7.5))
    await harness.check_no_data()
    assert await harness.pool.fetchval("SELECT unit FROM series_view") == "°C"
    assert [tuple(row) for row in await harness.pool.fetch(limits)] == [
        ("warm", "warning", "above", 8),
        ("warm", "critical", "above", 12),
    ]
    await harness.use_rules(WARM.replace("above: 8", "above: 9").replace(", critical: {above: 12}", ""))
    await harness.check_no_data()
    assert [tuple(row) for row in await harness.pool.fetch(limits)] == [("warm", "warning", "above", 9)]
    await harness.use_rules("")
    await harness.check_no_data()
    assert await harness.pool.fetch(limits) == []


# What the live feed says of an alert.


async def test_feed_carries_the_text_of_the_rule(harness: AlertingHarness) -> None:
    await harness.use_rules(
        WARM + "    unit: °C\n    message: '{sensor} at {site}: {value} {unit}, limit {threshold}, {level} {{now}}'\n"
    )
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    await harness.upload("freezer-1", (2, 13))
    await harness.tick()
    await harness.upload("freezer-1", (1, 7))
    await harness.tick()
    frames = [
        msgspec.json.decode(row["payload"])
        for row in await harness.pool.fetch("SELECT payload FROM feed WHERE kind = 'alert' ORDER BY id")
    ]
    assert [(frame["transition"], frame["message"]) for frame in frames] == [
        ("firing", "freezer-1 at quay: 9 °C, limit 8, warning {now}"),
        ("changed", "freezer-1 at quay: 13 °C, limit 12, critical {now}"),
        ("resolved", "freezer-1 at quay: 7 °C, limit 12, critical {now}"),
    ]
    assert all("message_template" not in frame for frame in frames)
    assert frames[2]["resolved_at"] > frames[0]["fired_at"]


async def test_feed_takes_an_alert_back_that_late_readings_remove_before_anybody_was_told(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM.replace("above: 8", "above: 8, for: 5m"))
    await harness.upload("freezer-1", (20, 7), (9, 9), (1, 9))
    await harness.alerting.tick(harness.pool, 1)
    await harness.upload("freezer-1", (5, 7))
    await harness.alerting.tick(harness.pool, 1)
    frames = [
        msgspec.json.decode(row["payload"])
        for row in await harness.pool.fetch("SELECT payload FROM feed WHERE kind = 'alert' ORDER BY id")
    ]
    assert [(frame["transition"], frame["id"], frame["sensor"], frame["reason"]) for frame in frames] == [
        ("firing", 1, "freezer-1", None),
        ("retracted", 1, "freezer-1", "retracted"),
    ]


async def test_feed_carries_the_value_that_the_rule_compares(harness: AlertingHarness) -> None:
    await harness.use_rules(
        WARM.replace("levels:", "value: rate 10m\n    unit: °C/h\n    message: '{value} {unit}'\n    levels:")
    )
    await harness.upload("freezer-1", (20, 5), (10, 7), (1, 7.5))
    await harness.tick()
    feed = [
        msgspec.json.decode(row["payload"])
        for row in await harness.pool.fetch("SELECT payload FROM feed WHERE kind = 'alert' ORDER BY id")
    ]
    assert [(frame["transition"], round(frame["value"], 6), frame["message"]) for frame in feed] == [
        ("resolved", round(0.5 * 60 / 9, 6), "3.333 °C/h")
    ]
    # Neither the limit nor the unit of a rate is one of the series.
    await harness.check_no_data()
    assert await harness.pool.fetch("SELECT * FROM limit_view") == []
    assert await harness.pool.fetchval("SELECT unit FROM series_view") is None


@pytest.mark.parametrize("name", ["last", "avg", "min", "max", "rate", "delta", "increase", "range", "counter_rate"])
async def test_view_computes_the_value_as_the_evaluation_does(harness: AlertingHarness, name: str) -> None:
    kind, is_counter = name.removeprefix("counter_"), name == "counter_rate"
    random = Random(7)
    minutes = sorted(random.sample(range(1, 200), 60), reverse=True)
    await harness.upload("freezer-1", *((minute, random.uniform(-50, 50)) for minute in minutes))
    rows = await harness.pool.fetch("SELECT to_us(time) AS us, value FROM reading ORDER BY time")
    window_us = 0 if kind == "last" else 9 * MINUTE_US
    value_of = msgspec.convert({"kind": kind, "window_us": window_us, "counter": is_counter}, ValueOf)
    expected = {sample.t: sample.value for sample in samples(value_of, [(row["us"], row["value"]) for row in rows])}
    assert len(expected) > 10
    for row in rows:
        found = await harness.pool.fetchval(
            "SELECT rule_value($1, $2 * INTERVAL '1 microsecond', 1, from_us($3))", name, value_of.window_us, row["us"]
        )
        assert found == pytest.approx(expected.get(row["us"]))
