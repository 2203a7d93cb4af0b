"""The watch over silence, by itself and as people hear of it."""

from typing import Any

import pytest

from app.alerting.evaluation.no_data import Watch, Watched, usual_after_us
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import NoData, Rule, RuleSet, Selector
from app.clock import HOUR_US, MINUTE_US, now_us
from tests.alerting.office import WARM, Office
from tests.alerting.told import NOON_US, rule

OFFLINE = ("gateway-offline", None, "gw")
HALF_AN_HOUR = NoData(30 * MINUTE_US)
SILENT = WARM + "    no_data: {after: 30m, then: alert}\n"
CLEARING = WARM + "    no_data: {after: 30m, then: clear}\n"


def watched(number: int = 1, minutes_ago: float = 31, **facts: Any) -> Watched:
    known: dict[str, Any] = {
        "id": number,
        "sensor": f"freezer-{number}",
        "metric": "temperature",
        "tags": {},
        "gateway": "gw",
        "uploader": "gw",
        "expected_s": None,
        "received_us": NOON_US - round(minutes_ago * MINUTE_US),
    }
    return Watched(**{**known, **facts})


def silent(
    *series: Watched,
    rules: tuple[Rule, ...] = (rule(no_data=HALF_AN_HOUR),),
    intervals_s: dict[str, float] | None = None,
    since_us: int = 0,
    **known: Any,
) -> list[tuple[str, int | None, str | None]]:
    """Give what is silent at noon."""
    watch = Watch(RuleBook(RuleSet(rules)), intervals_s or {}, since_us, NOON_US, **known)
    for each in series:
        watch.look(each)
    return [each.key for each in watch.silent()]


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
def test_silence_is_three_usual_intervals_and_at_least_five_minutes_when_the_rule_does_not_say(
    expected_s: float | None, interval_s: float | None, after_minutes: float
) -> None:
    assert usual_after_us(watched(expected_s=expected_s), interval_s) == after_minutes * MINUTE_US


@pytest.mark.parametrize(("minutes_ago", "expected"), [(29, []), (30, []), (30.001, [("warm", 1, None)])])
def test_series_is_silent_when_nothing_new_was_received_for_longer_than_after(
    minutes_ago: float, expected: list[Any]
) -> None:
    assert silent(watched(minutes_ago=minutes_ago), ALIVE) == expected


@pytest.mark.parametrize(("minutes_ago", "expected"), [(59, []), (61, [("warm", 1, None)])])
def test_series_may_be_quiet_for_three_of_its_gateways_uploads_when_the_rule_does_not_say(
    minutes_ago: float, expected: list[Any]
) -> None:
    assert (
        silent(watched(minutes_ago=minutes_ago), ALIVE, rules=(rule(no_data=NoData()),), intervals_s={"gw": 1_200})
        == expected
    )


def test_series_goes_by_the_uploads_of_its_key_when_no_gateway_is_named() -> None:
    quiet = watched(minutes_ago=59, gateway=None, uploader="key")
    rules = (rule(no_data=NoData()),)
    assert silent(quiet, rules=rules, intervals_s={"key": 1_200}) == []
    assert silent(quiet, rules=rules) == [("warm", 1, None)]


@pytest.mark.parametrize("no_data", [None, NoData(MINUTE_US, "keep")])
def test_nobody_is_silent_when_the_rule_does_not_watch(no_data: NoData | None) -> None:
    assert silent(watched(), ALIVE, rules=(rule(no_data=no_data),)) == []
    assert silent(watched(), rules=(rule(no_data=no_data),)) == []


def test_our_own_downtime_does_not_count() -> None:
    assert silent(watched(minutes_ago=600), ALIVE, since_us=NOON_US - 30 * MINUTE_US) == []
    assert silent(watched(minutes_ago=600), since_us=NOON_US - 30 * MINUTE_US) == []
    assert silent(watched(minutes_ago=600), ALIVE, since_us=NOON_US - 31 * MINUTE_US) == [("warm", 1, None)]


def test_known_silence_goes_on_when_we_were_down() -> None:
    just_started = NOON_US - MINUTE_US
    known = [("warm", 1, None)]
    assert silent(watched(minutes_ago=600), ALIVE, since_us=just_started, already=known) == known
    assert silent(watched(minutes_ago=600), since_us=just_started, already=[OFFLINE]) == [OFFLINE]
    assert silent(watched(minutes_ago=1), ALIVE, since_us=just_started, already=known) == []


def test_offline_gateway_stands_in_place_of_its_series_when_all_are_silent() -> None:
    assert silent(watched(1), watched(2), watched(3, gateway="other", minutes_ago=1)) == [OFFLINE]
    assert silent(watched(1), watched(2, minutes_ago=2)) == [("warm", 1, None)]


def test_gateway_is_offline_when_its_series_are_silent_by_their_own_rules() -> None:
    patient = rule("patient", no_data=NoData(2 * HOUR_US))
    assert silent(watched(1, minutes_ago=100), rules=(patient,)) == []
    assert silent(watched(1, minutes_ago=121), rules=(patient,)) == [OFFLINE]
    hasty = rule("hasty", no_data=NoData(MINUTE_US))
    assert silent(watched(1, minutes_ago=2), rules=(hasty,)) == [OFFLINE]


def test_gateway_is_alive_when_a_series_that_nobody_watches_is() -> None:
    unwatched = watched(2, minutes_ago=4, metric="humidity")
    assert silent(watched(1), unwatched) == [("warm", 1, None)]
    assert silent(watched(1), watched(2, minutes_ago=6, metric="humidity")) == [OFFLINE]


def test_offline_gateway_is_told_of_by_nobody_when_no_rule_alerts_of_its_series() -> None:
    assert silent(watched(1), rules=(rule(no_data=NoData(HOUR_US, "clear")),)) == []
    assert silent(watched(1), rules=(rule(no_data=NoData(MINUTE_US, "clear")),)) == [("warm", 1, None)]


def test_known_silence_of_a_series_goes_on_when_its_whole_gateway_falls_silent() -> None:
    assert silent(watched(1), watched(2), already=[("warm", 1, None)]) == [("warm", 1, None), OFFLINE]


def test_series_has_as_long_as_ever_when_its_gateway_has_just_come_back() -> None:
    back = {"gw": NOON_US - 10 * MINUTE_US}
    assert silent(watched(1, minutes_ago=600), ALIVE, back_us=back) == []
    assert silent(watched(1, minutes_ago=600), ALIVE, back_us={"gw": NOON_US - 31 * MINUTE_US}) == [("warm", 1, None)]


def test_series_outside_the_rule_is_not_watched() -> None:
    elsewhere = rule(no_data=HALF_AN_HOUR, sensors=Selector(gateway="other"))
    assert silent(watched(1), rules=(elsewhere,)) == []


def test_warning_is_given_when_after_is_under_two_uploads() -> None:
    watch = Watch(RuleBook(RuleSet((rule(no_data=HALF_AN_HOUR),))), {"gw": 1_200}, 0, NOON_US)
    watch.look(watched())
    assert watch.warnings == {
        "warm": "no_data after 30m is under twice the 20m between uploads of gw: it will alarm between them"
    }
    calm = Watch(RuleBook(RuleSet((rule(no_data=HALF_AN_HOUR),))), {"gw": 900}, 0, NOON_US)
    calm.look(watched())
    assert calm.warnings == {}


# As people hear of it.


async def fall_silent(office: Office, minutes: float = 31) -> None:
    await office.wait(minutes)
    await office.watch()
    await office.wait(0.6)


async def test_silence_is_told_when_it_has_lasted_long_enough(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0, 7.5))
    await office.tick()
    await fall_silent(office, 29)
    assert office.heard() == []
    await fall_silent(office, 2)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]
    (note,) = office.notes()
    assert note.startswith("no data since ")
    assert note.endswith(", last 7.5")
    assert await office.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_one_message_says_that_all_was_fine_when_data_come_back(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0, 7.5))
    await fall_silent(office)
    await office.upload("freezer-1", (0, 7))
    await office.tick()
    await office.watch()
    assert office.heard()[1:] == ["warm · quay: data are back [freezer-1]"]
    assert office.notes() == ["data are back, fine all along"]
    assert await office.open_alerts() == []


async def test_one_message_says_that_the_alert_goes_on_when_data_come_back(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0.1, 9))
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    assert office.heard() == ["warm · quay: firing [freezer-1]", "warm · quay: firing [freezer-1]"]
    await office.upload("freezer-1", (0, 10))
    await office.tick()
    await office.watch()
    await office.wait(10)
    assert office.heard()[2:] == ["warm · quay: data are back [freezer-1]"]
    (entry,) = office.entries()
    assert entry["note"].startswith("data are back, past 8 since ")
    assert (entry["over"], entry["value"], entry["level"]) == (False, 10, "warning")


async def test_one_message_says_that_the_alert_is_over_when_data_come_back(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0.1, 9))
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    await office.upload("freezer-1", (0, 7))
    await office.tick()
    await office.watch()
    await office.wait(10)
    assert office.heard()[2:] == ["warm · quay: resolved, data are back [freezer-1 freezer-1]"]
    assert office.notes()[1].startswith("data are back; it was over at ")


async def test_one_message_says_what_happened_meanwhile_when_buffered_data_come_back_piece_by_piece(
    office: Office,
) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (301, 7.5))
    await office.tick()
    await fall_silent(office)
    told = len(office.heard())
    for minutes_ago, value in ((300, 9), (200, 9), (100, 7)):
        await office.upload("freezer-1", (minutes_ago, value))
        await office.tick()
        await office.watch()
    assert len(office.heard()) == told
    await office.wait(1.1)
    assert office.heard()[told:] == ["warm · quay: data are back, over by now [freezer-1 freezer-1]"]


async def test_silence_is_not_over_when_what_came_was_known(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (5, 7.5))
    await fall_silent(office)
    await office.pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late) VALUES ('{1}', ARRAY[now()], ARRAY[now()], FALSE)"
    )
    await office.tick()
    assert await office.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_known_silence_stays_when_we_start_again(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0, 7.5))
    await fall_silent(office)
    office.alerting.ingest_since_us = now_us()
    await office.watch()
    await office.wait(1)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]
    assert await office.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_silence_ends_for_a_reason_when_nobody_watches_any_more(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0, 7.5))
    await fall_silent(office)
    await office.use(WARM)
    await office.watch()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes() == ["no longer watched"]


async def test_silence_ends_for_a_reason_when_its_rule_is_removed(office: Office) -> None:
    await office.use(SILENT)
    await office.upload("freezer-1", (0, 7.5))
    await fall_silent(office)
    await office.use("")
    await office.tick()
    assert office.heard()[1:] == ["warm: resolved [freezer-1]"]
    assert office.notes() == ["rule removed"]


async def test_alert_ends_for_lack_of_data_and_is_told_again_when_data_come_back(office: Office) -> None:
    await office.use(CLEARING)
    await office.upload("freezer-1", (0.1, 9))
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes()[0].startswith("ended for lack of data since ")
    assert await office.open_alerts() == [("warm", "freezer-1", "threshold")]
    await office.upload("freezer-1", (0, 10))
    await office.tick()
    await office.wait(5)
    assert office.heard()[2:] == ["warm · quay: firing again [freezer-1]"]
    assert office.notes() == ["data are back, and it still is"]
    await fall_silent(office)
    assert office.heard()[3:] == ["warm · quay: resolved [freezer-1]"]


async def test_nothing_more_is_told_when_the_alert_that_ended_for_lack_of_data_is_over(office: Office) -> None:
    await office.use(CLEARING)
    await office.upload("freezer-1", (0.1, 9))
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    await office.upload("freezer-1", (0, 7))
    await office.tick()
    await office.wait(10)
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode WHERE NOT settled") == 0


async def test_nobody_hears_of_silence_when_the_rule_says_keep(office: Office) -> None:
    await office.use(WARM + "    no_data: {after: 30m, then: keep}\n")
    await office.upload("freezer-1", (0.1, 9))
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


async def test_offline_gateway_is_told_in_place_of_its_series(office: Office) -> None:
    await office.use(SILENT)
    for number in (1, 2):
        await office.upload(f"freezer-{number}", (0, 7), gateway="gw")
    await office.tick()
    await fall_silent(office)
    assert office.heard() == ["gateway-offline · gw: firing [gateway gw]"]
    assert await office.open_alerts() == [("gateway-offline", "gw", "no_data")]
    await office.upload("freezer-1", (0, 7), gateway="gw")
    await office.tick()
    assert office.heard()[1:] == ["gateway-offline · gw: data are back [gateway gw]"]
    await office.watch()
    await office.wait(1)
    assert len(office.heard()) == 2
    await office.wait(29)
    await office.upload("freezer-1", (0, 7), gateway="gw")
    await office.watch()
    await office.wait(1)
    assert office.heard()[2:] == ["warm · quay: firing [freezer-2]"]


async def test_offline_gateway_holds_back_what_it_inhibits(office: Office) -> None:
    await office.use(SILENT + "    inhibited_by: [{rule: gateway-offline, same: [gateway]}]\n    remind_every: 1h\n")
    await office.upload("freezer-1", (0.1, 9), gateway="gw")
    await office.tick()
    await office.wait(1)
    await fall_silent(office)
    assert office.heard() == ["warm · quay: firing [freezer-1]", "gateway-offline · gw: firing [gateway gw]"]
    await office.wait(120)
    assert len(office.heard()) == 2
    await office.upload("freezer-1", (0, 9), gateway="gw")
    await office.tick()
    # Two groups: nothing says which of them is sent first.
    assert sorted(office.heard()[2:]) == [
        "gateway-offline · gw: data are back [gateway gw]",
        "warm · quay: still firing [freezer-1]",
    ]
