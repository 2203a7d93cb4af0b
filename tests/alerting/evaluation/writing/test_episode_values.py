"""The value that a rule compared, stored with its alert: when it fires, at its newest sample, and at its peak."""

from typing import Any

from app.alerting.evaluation.writing.sql import SQL
from tests.alerting.harness import AlertingHarness

_RISING = """
  - name: rising
    sensors: {metric: temperature}
    value: delta 10m
    levels: {warning: {above: 3}}
    clear: {below: 1}
"""
_WARM = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 2m}}
"""


async def stored(harness: AlertingHarness) -> dict[str, Any]:
    """Return the values of the only alert."""
    (row,) = await harness.pool.fetch(
        "SELECT fired_value, value, peak, condition, values_final AS final FROM alert_episode"
    )
    return dict(row)


async def test_values_are_those_that_the_rule_compares_when_it_compares_a_difference(harness: AlertingHarness) -> None:
    await harness.use_rules(_RISING)
    await harness.upload("oven", (30, 100), (24, 104), (23, 107), (22, 105))
    await harness.tick()
    wanted = {"fired_value": 4.0, "value": 5.0, "peak": 7.0, "condition": "above", "final": False}
    assert await stored(harness) == wanted


async def test_peak_takes_in_late_readings_when_the_alert_is_over(harness: AlertingHarness) -> None:
    await harness.use_rules(_WARM)
    await harness.upload("freezer", (20, 9), (18, 10), (15, 7), (5, 7))
    await harness.tick()
    assert await stored(harness) == {
        "fired_value": 10.0,
        "value": 7.0,
        "peak": 10.0,
        "condition": "above",
        "final": True,
    }
    await harness.upload("freezer", (17, 11.5))
    await harness.tick()
    assert (await stored(harness))["peak"] == 11.5


async def test_peak_grows_with_each_reading_of_an_open_alert(harness: AlertingHarness) -> None:
    await harness.use_rules(_WARM)
    peaks = []
    for minutes_ago, value in ((9, 9.0), (6, 9.5), (5, 9.25), (4, 12.0), (3, 9.0)):
        await harness.upload("freezer", (minutes_ago, value))
        await harness.tick()
        peaks += [row["peak"] for row in await harness.pool.fetch("SELECT peak FROM alert_episode")]
    assert peaks == [9.5, 9.5, 12.0, 12.0]


async def test_values_survive_their_readings(harness: AlertingHarness) -> None:
    await harness.use_rules(_WARM)
    await harness.upload("freezer", (20, 9), (18, 10), (15, 7))
    await harness.tick()
    await harness.pool.execute("DELETE FROM reading")
    assert await stored(harness) == {
        "fired_value": 10.0,
        "value": 7.0,
        "peak": 10.0,
        "condition": "above",
        "final": False,
    }


async def test_alert_that_ended_after_its_last_reading_is_not_computed_again_and_again(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(_WARM)
    await harness.upload("freezer", (20, 9), (18, 10))
    await harness.tick()
    await harness.use_rules("")
    query = SQL["list_valued_alerts"]
    assert [row["id"] for row in await harness.pool.fetch(query, [], 10)] == []
    assert (await stored(harness))["peak"] == 10.0
