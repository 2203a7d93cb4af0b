from app.alerting.episodes.machine import run
from app.alerting.episodes.samples import samples
from app.alerting.language.files import load_rules
from app.alerting.rules.matching import RuleBook
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from app.simulate.world.behaviour import behaviour_of
from app.simulate.world.sites import SimulatedSensor, gateway_name, list_sensors
from tests.conftest import project_folder

#: 2026-06-01T09:00:00Z
START_US = 1_780_304_400_000_000
HISTORY_US = 4 * HOUR_US


def fired_minutes(
    sensor: SimulatedSensor, gateway: str, until_us: int, since_us: int = -10 * MINUTE_US
) -> list[tuple[str, str, int]]:
    """Evaluate the example rules on a sensor's values up to a time.

    Return each level reached as (rule, level, whole minutes since the start), from `since_us` after the start on.
    """
    book = RuleBook(load_rules(project_folder() / "rules", {}))
    times = range(START_US - HISTORY_US, until_us, 5 * SECOND_US)
    fired = []
    for metric, signal in sensor.signals.items():
        readings = [(time_us, signal.value(time_us)) for time_us in times]
        for match in book.matches(sensor.name, metric, sensor.tags, gateway):
            for episode in run(match.series_rule, samples(match.series_rule.value, readings)):
                fired += [(match.rule.name, step.level, (step.t - START_US) // MINUTE_US) for step in episode.steps]
    return [one for one in fired if one[2] >= since_us // MINUTE_US]


def test_demo_makes_the_example_rules_fire_within_minutes() -> None:
    sensors = list_sensors(1, 0, 4, demo_start_us=START_US)
    fired = {sensor.name: fired_minutes(sensor, "gw-harbour", START_US + 12 * MINUTE_US) for sensor in sensors}
    assert fired == {
        "freezer-harbour": [("temperature-high", "critical", 0), ("temperature-rising-fast", "warning", -6)],
        "server-room-harbour": [
            ("temperature-high", "critical", 4),
            ("temperature-rising-fast", "warning", 2),
            ("temperature-rising-fast", "critical", 3),
        ],
        "roof-harbour": [("pressure-falling", "info", 5)],
        "office-harbour": [("humidity-out-of-range", "warning", 5), ("pressure-falling", "info", 4)],
    }


def test_other_gateways_are_calm_before_a_demo_and_at_its_start() -> None:
    for number, gateway in enumerate(("gw-harbour", "gw-bakery", "gw-dairy")):
        for sensor in list_sensors(1, number, 4, demo_start_us=START_US):
            fired = fired_minutes(sensor, gateway, START_US + 20 * MINUTE_US, since_us=-HISTORY_US)
            rules = {rule for rule, _, minute in fired if number > 0 or minute < -10}
            assert rules <= {"pressure-falling"}, sensor.name


def test_sensors_are_named_after_their_place_when_there_are_more_than_kinds_and_sites() -> None:
    assert [sensor.name for sensor in list_sensors(1, 1, 7)] == [
        "freezer-bakery",
        "server-room-bakery",
        "roof-bakery",
        "office-bakery",
        "cellar-bakery",
        "freezer-bakery-2",
        "server-room-bakery-2",
    ]
    assert [gateway_name(number) for number in (0, 7, 8, 17)] == [
        "gw-harbour",
        "gw-school",
        "gw-harbour-2",
        "gw-bakery-3",
    ]


def test_sensors_have_site_and_room_as_tags() -> None:
    (sensor,) = list_sensors(1, 8, 1)
    assert (sensor.name, sensor.tags) == ("freezer-harbour-2", {"site": "harbour-2", "room": "cold store"})


def test_barometers_of_all_sites_fall_together_when_a_storm_comes() -> None:
    roofs = [list_sensors(1, number, 3)[2] for number in range(3)]
    storm_us = next(
        time_us
        for time_us in range(START_US, START_US + 16 * HOUR_US, MINUTE_US)
        if roofs[0].list_excursions(time_us) and not roofs[0].list_excursions(time_us - MINUTE_US)
    )
    for roof in roofs:
        before, after = (roof.measure(storm_us + offset_us)["pressure"] for offset_us in (0, 150 * MINUTE_US))
        assert -10.2 < after - before < -7.8


def test_three_gateways_have_three_behaviours() -> None:
    behaviours = [behaviour_of(1, number) for number in range(3)]
    assert [each.encoding for each in behaviours] == ["gzip", "zstd", "identity"]
    assert [each.skew_us for each in behaviours] == [2_000_000, -3_000_000, 250_000]
    assert [each.idempotent for each in behaviours] == [False, True, False]


def test_gateways_go_offline_at_fixed_times_in_a_demo() -> None:
    offline = [behaviour_of(1, number, START_US).offline for number in range(3)]
    first_minutes = [
        next(minute for minute in range(60) if each is not None and each.cover(START_US + minute * MINUTE_US))
        for each in offline
    ]
    assert first_minutes == [10, 2, 4]
