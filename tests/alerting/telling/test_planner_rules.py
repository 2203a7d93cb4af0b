"""Messages after a change of the rules or of a sensor's tags."""

from tests.alerting.harness import WARM, AlertingHarness


async def test_alerts_end_when_their_rule_is_removed(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules("")
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm [freezer-1]"]
    assert harness.notes() == ["rule removed"]
    assert await harness.open_alerts() == []


async def test_alert_stays_open_in_a_new_era_when_the_conditions_of_its_rule_change(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules(WARM.replace("above: 8", "above: 5"))
    await harness.upload("freezer-1", (2, 7))
    await harness.tick()
    await harness.advance(10)
    assert len(harness.messages()) == 1
    assert await harness.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [2]
    await harness.upload("freezer-1", (1, 4))
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 1


async def test_new_era_starts_at_the_newest_evaluated_reading_when_the_stored_state_is_older(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    for minutes_ago in (5, 3):
        await harness.upload("freezer-1", (minutes_ago, 7))
        await harness.tick()
    # The reading of 5 minutes ago is of the earlier era: a clock from there would fire.
    await harness.use_rules(WARM.replace("above: 8", "above: 6.5, for: 4m"))
    await harness.upload("freezer-1", (0.5, 7))
    await harness.tick()
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 0


async def test_new_era_judges_the_newest_evaluated_reading(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (5, 7))
    await harness.tick()
    await harness.use_rules(WARM.replace("above: 8", "above: 6.5, for: 4m"))
    await harness.upload("freezer-1", (0.5, 7))
    await harness.tick()
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 1


async def test_era_stays_when_only_the_message_of_the_rule_changes(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules(WARM + '    message: "{sensor}: look"\n')
    await harness.upload("freezer-1", (2, 10))
    await harness.tick()
    assert await harness.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [1]


async def test_alert_ends_when_its_tags_move_the_series_out_of_the_rule(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM.replace("{metric: temperature}", "{metric: temperature, tags: {room: cold}}"))
    await harness.upload("freezer-1", (3, 9), tags={"site": "quay", "room": "cold"})
    await harness.tick()
    await harness.advance(1)
    await harness.upload("freezer-1", (2, 9), tags={"site": "quay", "room": "store"})
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes() == ["no longer selected"]
    assert await harness.pool.fetchval("SELECT rule_hash FROM alert_state") == ""
    await harness.upload("freezer-1", (1, 9), tags={"site": "quay", "room": "cold"})
    await harness.tick()
    await harness.advance(10)
    assert harness.messages()[2:] == ["1 warning: warm · quay [freezer-1]"]
    eras = await harness.pool.fetch(
        "SELECT era, fired_at - started_at = INTERVAL '0' AS fired_at_once FROM alert_episode ORDER BY id"
    )
    assert [tuple(row) for row in eras] == [(1, True), (2, True)]


async def test_alert_ends_without_a_reading_when_its_rule_no_longer_selects_the_series(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules(WARM.replace("{metric: temperature}", '{metric: temperature, id: "cellar-*"}'))
    await harness.tick()
    assert harness.messages()[1:] == ["1 resolved: warm · quay [freezer-1]"]
    assert harness.notes() == ["no longer selected"]


async def test_new_rule_notifies_of_open_episodes_only(harness: AlertingHarness) -> None:
    await harness.use_rules("")
    await harness.upload("freezer-1", (300, 9), (290, 6), (20, 9), (10, 6))
    await harness.upload("freezer-2", (30, 9))
    await harness.tick()
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (1, 6))
    await harness.upload("freezer-2", (1, 9))
    await harness.tick()
    await harness.advance(10)
    assert harness.messages() == ["1 warning: warm · quay [freezer-2]"]
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 3


async def test_new_rule_looks_at_once_at_what_is_stored_when_no_reading_comes(harness: AlertingHarness) -> None:
    await harness.use_rules("")
    await harness.upload("freezer-1", (20, 9), (10, 6))
    await harness.upload("freezer-2", (30, 9))
    await harness.tick()
    await harness.use_rules(WARM)
    await harness.tick()
    await harness.advance(10)
    assert harness.messages() == ["1 warning: warm · quay [freezer-2]"]
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 2


async def test_rule_that_was_removed_looks_at_what_is_stored_when_it_is_restored(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules("")
    await harness.advance(1)
    await harness.use_rules(WARM)
    await harness.tick()
    await harness.advance(10)
    assert harness.messages() == [
        "1 warning: warm · quay [freezer-1]",
        "1 resolved: warm [freezer-1]",
        "1 warning: warm · quay [freezer-1]",
    ]


async def test_end_is_told_to_old_and_new_channels_when_the_rule_changes_its_channels(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.notify_firing()
    await harness.use_rules(WARM.replace("[ops]", "[duty]"))
    await harness.advance(1)
    assert harness.messages("duty") == ["1 warning: warm · quay [freezer-1]"]
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    assert harness.messages("ops")[1:] == harness.messages("duty")[1:] == ["1 resolved: warm · quay [freezer-1]"]
