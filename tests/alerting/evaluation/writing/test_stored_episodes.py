"""Stored episodes and their messages after late readings."""

from tests.alerting.harness import AlertingHarness

#: Like WARM of the harness, but the critical level also notifies `duty`.
WARM = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}, critical: {above: 12, notify: [ops, duty]}}
    group_by: [site]
    notify: [ops]
"""


async def test_channel_of_a_higher_level_gets_a_summary_when_that_level_becomes_known_afterwards(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (30, 9), (20, 7), (1, 6))
    await harness.tick()
    await harness.advance(1)
    await harness.tick()  # settles the episode
    assert harness.messages("ops") == ["1 over: warm · quay [freezer-1]"]
    await harness.upload("freezer-1", (25, 13))
    await harness.tick()
    await harness.advance(6)
    assert harness.messages("duty") == ["1 over: warm · quay [freezer-1]"]
    assert len(harness.messages("ops")) == 1


async def test_settled_episode_stays_untold_when_later_readings_raise_its_level(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    late_data: {notify: never}\n")
    await harness.upload("freezer-1", (30, 9), (20, 7), (1, 6))
    await harness.tick()
    await harness.upload("freezer-1", (25, 13))
    await harness.tick()
    await harness.advance(6)
    assert await harness.told() == []
