"""What people hear when the rules change, or what a rule is about."""

from tests.alerting.office import WARM, Office


async def test_alerts_end_when_their_rule_is_removed(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.use("")
    await office.tick()
    assert office.heard()[1:] == ["warm: resolved [freezer-1]"]
    assert office.notes() == ["rule removed"]
    assert await office.open_alerts() == []


async def test_alert_goes_on_when_its_rule_says_something_else(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.use(WARM.replace("above: 8", "above: 5"))
    await office.upload("freezer-1", (2, 7))
    await office.tick()
    await office.wait(10)
    assert len(office.heard()) == 1
    assert await office.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [2]
    await office.upload("freezer-1", (1, 4))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 1


async def test_changed_rule_counts_from_the_newest_evaluated_reading_when_it_was_not_written_down(
    office: Office,
) -> None:
    await office.use(WARM)
    for minutes_ago, value in ((5, 6), (3, 7)):
        await office.upload("freezer-1", (minutes_ago, value))
        await office.tick()
    await office.use(WARM.replace("above: 8", "above: 6.5, for: 2m"))
    await office.upload("freezer-1", (0.5, 7))
    await office.tick()
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 0


async def test_alert_stays_as_it_is_when_only_the_prose_of_its_rule_changes(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.use(WARM + '    message: "{sensor}: look"\n')
    await office.upload("freezer-1", (2, 10))
    await office.tick()
    assert await office.pool.fetchval("SELECT array_agg(era) FROM alert_episode") == [1]


async def test_alert_ends_when_its_tags_move_the_series_out_of_the_rule(office: Office) -> None:
    await office.use(WARM.replace("{metric: temperature}", "{metric: temperature, tags: {room: cold}}"))
    await office.upload("freezer-1", (3, 9), tags={"site": "quay", "room": "cold"})
    await office.tick()
    await office.wait(1)
    await office.upload("freezer-1", (2, 9), tags={"site": "quay", "room": "store"})
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes() == ["no longer selected"]
    assert await office.pool.fetchval("SELECT rule_hash FROM alert_state") == ""
    await office.upload("freezer-1", (1, 9), tags={"site": "quay", "room": "cold"})
    await office.tick()
    await office.wait(10)
    assert office.heard()[2:] == ["warm · quay: firing [freezer-1]"]
    eras = await office.pool.fetch(
        "SELECT era, fired_at - started_at = INTERVAL '0' AS fired_at_once FROM alert_episode ORDER BY id"
    )
    assert [tuple(row) for row in eras] == [(1, True), (2, True)]


async def test_alert_ends_when_its_rule_selects_the_series_no_more_though_no_reading_comes(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.use(WARM.replace("{metric: temperature}", '{metric: temperature, id: "cellar-*"}'))
    await office.tick()
    assert office.heard()[1:] == ["warm · quay: resolved [freezer-1]"]
    assert office.notes() == ["no longer selected"]


async def test_new_rule_announces_nothing_that_is_already_over(office: Office) -> None:
    await office.use("")
    await office.upload("freezer-1", (300, 9), (290, 6), (20, 9), (10, 6))
    await office.upload("freezer-2", (30, 9))
    await office.tick()
    await office.use(WARM)
    await office.upload("freezer-1", (1, 6))
    await office.upload("freezer-2", (1, 9))
    await office.tick()
    await office.wait(10)
    assert office.heard() == ["warm · quay: firing [freezer-2]"]
    assert await office.pool.fetchval("SELECT count(*) FROM alert_episode") == 3


async def test_end_is_told_to_those_who_were_told_when_the_rule_names_others_by_now(office: Office) -> None:
    await office.use(WARM)
    await office.tell_firing()
    await office.use(WARM.replace("[ops]", "[duty]"))
    await office.wait(1)
    assert office.heard("duty") == ["warm · quay: firing [freezer-1]"]
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert office.heard("ops")[1:] == office.heard("duty")[1:] == ["warm · quay: resolved [freezer-1]"]
