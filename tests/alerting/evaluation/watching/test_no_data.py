"""The check for missing data, by itself and with the messages that follow."""

from random import Random
from typing import Any

import msgspec
import pytest

from app.alerting.episodes.samples import ValueOf, samples
from app.alerting.evaluation.watching.no_data_check import NoDataCheck, WatchedSeries, default_after_us
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import NoData, Rule, RuleSet, Selector
from app.clock import HOUR_US, MINUTE_US
from tests.alerting.harness import WARM, AlertingHarness
from tests.alerting.situations import NOON_US, rule

OFFLINE = ("gateway-offline", None, "gw")
HALF_AN_HOUR = NoData(30 * MINUTE_US)
ALERTING = WARM + "    no_data: {after: 30m, then: alert}\n"
CLEARING = WARM + "    no_data: {after: 30m, then: clear}\n"


def watched(number: int = 1, minutes_ago: float = 31, **fields: Any) -> WatchedSeries:
    defaults: dict[str, Any] = {
        "id": number,
        "sensor": f"freezer-{number}",
        "metric": "temperature",
        "tags": {},
        "gateway": "gw",
        "uploader": "gw",
        "expected_s": None,
        "received_us": NOON_US - round(minutes_ago * MINUTE_US),
    }
    return WatchedSeries(**{**defaults, **fields})


def silent(
    *series: WatchedSeries,
    rules: tuple[Rule, ...] = (rule(no_data=HALF_AN_HOUR),),
    intervals_s: dict[str, float] | None = None,
    since_us: int = 0,
    **known: Any,
) -> list[tuple[str, int | None, str | None]]:
    """Return the keys of all series and gateways that are silent at noon."""
    check = NoDataCheck(RuleBook(RuleSet(rules)), intervals_s or {}, since_us, NOON_US, **known)
    for each in series:
        check.add(each)
    return [source.key for source in check.silent()]


ALIVE = watched(9, minutes_ago=1)


@pytest.mark.parametrize(
    ("expected_s", "interval_s", "after_minutes"),
    [
        (None, None, 5),
        (60, None, 5),
        (101, None, 5.05),
        (None, 3_600, 180),
        (600, 3_600, 180),
        (7_200, 3_600, 360),
    ],
)
def test_default_after_is_three_intervals_and_at_least_five_minutes(
    expected_s: float | None, interval_s: float | None, after_minutes: float
) -> None:
    assert default_after_us(watched(expected_s=expected_s), interval_s) == after_minutes * MINUTE_US


@pytest.mark.parametrize(("minutes_ago", "expected"), [(29, []), (30, []), (30.001, [("warm", 1, None)])])
def test_series_is_silent_when_nothing_new_was_received_for_longer_than_after(
    minutes_ago: float, expected: list[Any]
) -> None:
    assert silent(watched(minutes_ago=minutes_ago), ALIVE) == expected


@pytest.mark.parametrize(("minutes_ago", "expected"), [(59, []), (61, [("warm", 1, None)])])
def test_series_is_silent_after_three_upload_intervals_when_the_rule_gives_no_after(
    minutes_ago: float, expected: list[Any]
) -> None:
    assert (
        silent(watched(minutes_ago=minutes_ago), ALIVE, rules=(rule(no_data=NoData()),), intervals_s={"gw": 1_200})
        == expected
    )


def test_series_uses_the_upload_interval_of_its_api_key_when_no_gateway_is_named() -> None:
    quiet = watched(minutes_ago=59, gateway=None, uploader="key")
    rules = (rule(no_data=NoData()),)
    assert silent(quiet, rules=rules, intervals_s={"key": 1_200}) == []
    assert silent(quiet, rules=rules) == [("warm", 1, None)]


@pytest.mark.parametrize("no_data", [None, NoData(MINUTE_US, "keep")])
def test_series_is_never_silent_when_the_rule_has_no_no_data_or_keep(no_data: NoData | None) -> None:
    assert silent(watched(), ALIVE, rules=(rule(no_data=no_data),)) == []
    assert silent(watched(), rules=(rule(no_data=no_data),)) == []


def test_downtime_of_ingest_does_not_count_as_silence() -> None:
    assert silent(watched(minutes_ago=600), ALIVE, since_us=NOON_US - 30 * MINUTE_US) == []
    assert silent(watched(minutes_ago=600), since_us=NOON_US - 30 * MINUTE_US) == []
    assert silent(watched(minutes_ago=600), ALIVE, since_us=NOON_US - 31 * MINUTE_US) == [("warm", 1, None)]


def test_known_silence_goes_on_when_ingest_was_down() -> None:
    just_started = NOON_US - MINUTE_US
    known = [("warm", 1, None)]
    assert silent(watched(minutes_ago=600), ALIVE, since_us=just_started, open_keys=known) == known
    assert silent(watched(minutes_ago=600), since_us=just_started, open_keys=[OFFLINE]) == [OFFLINE]
    assert silent(watched(minutes_ago=1), ALIVE, since_us=just_started, open_keys=known) == []


def test_offline_gateway_replaces_its_series_when_all_are_silent() -> None:
    assert silent(watched(1), watched(2), watched(3, gateway="other", minutes_ago=1)) == [OFFLINE]
    assert silent(watched(1), watched(2, minutes_ago=2)) == [("warm", 1, None)]


def test_gateway_is_offline_when_each_series_is_silent_by_its_own_rule() -> None:
    slow = rule("slow", no_data=NoData(2 * HOUR_US))
    assert silent(watched(1, minutes_ago=100), rules=(slow,)) == []
    assert silent(watched(1, minutes_ago=121), rules=(slow,)) == [OFFLINE]
    quick = rule("quick", no_data=NoData(MINUTE_US))
    assert silent(watched(1, minutes_ago=2), rules=(quick,)) == [OFFLINE]


def test_gateway_is_alive_when_a_series_without_a_rule_is_alive() -> None:
    unwatched = watched(2, minutes_ago=4, metric="humidity")
    assert silent(watched(1), unwatched) == [("warm", 1, None)]
    assert silent(watched(1), watched(2, minutes_ago=6, metric="humidity")) == [OFFLINE]


def test_gateway_is_never_offline_when_no_rule_alerts_on_missing_data_of_its_series() -> None:
    assert silent(watched(1), rules=(rule(no_data=NoData(HOUR_US, "clear")),)) == []
    assert silent(watched(1), rules=(rule(no_data=NoData(MINUTE_US, "clear")),)) == [("warm", 1, None)]


def test_known_silence_of_a_series_stays_when_its_whole_gateway_falls_silent() -> None:
    assert silent(watched(1), watched(2), open_keys=[("warm", 1, None)]) == [("warm", 1, None), OFFLINE]


def test_silence_is_counted_from_the_return_of_the_gateway_when_it_was_offline() -> None:
    back = {"gw": NOON_US - 10 * MINUTE_US}
    assert silent(watched(1, minutes_ago=600), ALIVE, back_us=back) == []
    assert silent(watched(1, minutes_ago=600), ALIVE, back_us={"gw": NOON_US - 31 * MINUTE_US}) == [("warm", 1, None)]


def test_series_is_not_watched_when_the_rule_does_not_select_it() -> None:
    elsewhere = rule(no_data=HALF_AN_HOUR, sensors=Selector(gateway="other"))
    assert silent(watched(1), rules=(elsewhere,)) == []


def test_warning_is_given_when_after_is_under_two_uploads() -> None:
    check = NoDataCheck(RuleBook(RuleSet((rule(no_data=HALF_AN_HOUR),))), {"gw": 1_200}, 0, NOON_US)
    check.add(watched())
    assert check.warnings == {
        "warm": "no_data after 30m is under twice the 20m between uploads of gw: it will fire between them"
    }
    other_check = NoDataCheck(RuleBook(RuleSet((rule(no_data=HALF_AN_HOUR),))), {"gw": 900}, 0, NOON_US)
    other_check.add(watched())
    assert other_check.warnings == {}


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


def test_time_without_data_is_stored_again_only_when_it_differs_by_more_than_a_shift() -> None:
    series = watched(silent_after_us=300 * MINUTE_US)
    assert series.is_stored(310 * MINUTE_US, [], None, 310 * MINUTE_US / 20)
    assert not series.is_stored(320 * MINUTE_US, [], None, 320 * MINUTE_US / 20)
    assert not series.is_stored(301 * MINUTE_US, [], None, 0)
    assert not series.is_stored(300 * MINUTE_US, [], "°C", 0)
    assert not watched().is_stored(MINUTE_US, [], None, MINUTE_US)
    # Numbers come back from JSON as integers.
    limited = watched(silent_after_us=1, limits=[["warm", "warning", "above", 10**23]])
    assert limited.is_stored(1, [("warm", "warning", "above", 1e23)], None, 0)
    assert not limited.is_stored(1, [("warm", "warning", "above", 2e23)], None, 0)
