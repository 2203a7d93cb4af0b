"""What later readings make of episodes that people were told of, in the database."""

from tests.alerting.office import Office

#: Above 12 also `duty` is told.
WARM = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}, critical: {above: 12, notify: [ops, duty]}}
    group_by: [site]
    notify: [ops]
"""


async def test_those_told_of_a_higher_level_hear_of_it_when_it_becomes_known_once_all_is_over(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (30, 9), (20, 7), (1, 6))
    await office.tick()
    await office.wait(1)
    await office.tick()  # which finds that there is nothing more to tell
    assert office.heard("ops") == ["warm · quay: over by now [freezer-1]"]
    await office.upload("freezer-1", (25, 13))
    await office.tick()
    await office.wait(6)
    assert office.heard("duty") == ["warm · quay: over by now [freezer-1]"]
    assert len(office.heard("ops")) == 1


async def test_history_stays_untold_when_later_readings_raise_its_level(office: Office) -> None:
    await office.use(WARM + "    late_data: {notify: never}\n")
    await office.upload("freezer-1", (30, 9), (20, 7), (1, 6))
    await office.tick()
    await office.upload("freezer-1", (25, 13))
    await office.tick()
    await office.wait(6)
    assert await office.told() == []
