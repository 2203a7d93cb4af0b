"""The check for silent series and gateways at one moment."""

from typing import Any

import pytest

from app.alerting.evaluation.watching.no_data_check import NoDataCheck, WatchedSeries, default_after_us
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import NoData, Rule, RuleSet, Selector
from app.clock import HOUR_US, MINUTE_US
from tests.alerting.situations import NOON_US, rule

OFFLINE = ("gateway-offline", None, "gw")
HALF_AN_HOUR = NoData(30 * MINUTE_US)


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
